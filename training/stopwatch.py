"""Where the time of a run goes: every moment belongs to one phase."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

Phase: TypeAlias = Literal[
    "stepping", "acting", "transfer", "learning", "logging", "evaluation", "checkpoints", "the rest"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
REST: Phase = "the rest"  # writing rows down, episodes, the progress line


class Stopwatch:
    """Adds up seconds by phase.

    A lap gives all the time since the last one to a phase, so nothing is lost between two phases and the shares of a
    run add up to 1. One look at the clock a lap: a few hundred nanoseconds beside rows that take 200 µs and more.

    On a GPU the work is only queued when it is asked for, and whoever waits for a result waits for all before it:
    acting, which fetches its actions, pays for what is left of the update, and copies count where they are waited for.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all laps; time counts from now."""
        self.seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    def lap(self, phase: Phase) -> None:
        """What happened since the last lap was this."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now


def shares(seconds: Mapping[Phase, float], before: Mapping[Phase, float] | None = None) -> dict[Phase, float]:
    """The share of each phase, 0 to 1, in the time counted by a stopwatch since its seconds were `before`."""
    spent = {phase: value - (before[phase] if before else 0.0) for phase, value in seconds.items()}
    total = sum(spent.values())
    return {phase: value / total if total > 0.0 else 0.0 for phase, value in spent.items()}
