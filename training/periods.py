"""What a run does every so many environment steps, and whether it is time for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triathlon.training.config import Experiment


class Due:
    """Says when a period of environment steps has passed; `None` never does."""

    def __init__(self, period: int | None, num_steps: int) -> None:
        self.period = period
        # Aligned to multiples, so that a resumed run does what it would have done at the same steps.
        self._next = (num_steps // period + 1) * period if period else 0

    def now(self, num_steps: int) -> bool:
        """True once for each period that `num_steps` has passed."""
        if self.period is None or num_steps < self._next:
            return False
        self._next += self.period * ((num_steps - self._next) // self.period + 1)
        return True


class Periods:
    """When a run at `num_steps` next logs, evaluates and saves."""

    def __init__(self, experiment: Experiment, num_steps: int) -> None:
        self.log = Due(experiment.logging.period, num_steps)
        self.evaluate = Due(experiment.evaluation.period, num_steps)
        self.save = Due(experiment.checkpoint.period or max(1, experiment.total_steps // 10), num_steps)


__all__ = ["Due", "Periods"]
