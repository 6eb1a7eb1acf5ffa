"""Both sides of a board game as the runner sees them: opponents before a rollout, measures at an evaluation.

B environments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from gymnasium.vector import VectorEnv
from torch import Tensor

from triathlon.agents.agent import Policy
from triathlon.training.config import Experiment

# What else a row of environments carries for the learner, each [B, ...]: it is asked before the row is played.
Advise: TypeAlias = Callable[[VectorEnv[Any, Any, Any]], dict[str, Tensor]]


class Sides(Protocol):
    """What a run asks of them."""

    @property
    def advise(self) -> Advise | None:
        """What a search has to say of a row; None if nobody looks ahead."""
        ...

    def before_rollout(self, num_steps: int) -> None:
        """Deal out opponents for the games that begin from now on."""
        ...

    def metrics(self) -> dict[str, float]:
        """Scalars to log with the others."""
        ...

    def measure(self, policy: Policy) -> dict[str, float]:
        """Scalars of an evaluation."""
        ...

    def close(self) -> None:
        """End the players."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        ...

    def load_state_dict(self, state: dict[str, Any], draws: bool = True) -> None:
        """Inverse of `state_dict`; without `draws` it keeps its own random numbers, as one of several processes."""
        ...


class NoSides:
    """Everything that is no board game."""

    advise = None

    def before_rollout(self, num_steps: int) -> None: ...

    def metrics(self) -> dict[str, float]:
        return {}

    def measure(self, policy: Policy) -> dict[str, float]:
        return {}

    def close(self) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any], draws: bool = True) -> None: ...


def make_sides(
    experiment: Experiment,
    envs: Sequence[VectorEnv[Any, Any, Any]],
    policy: Policy,
    seed: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Sides:
    """The opponents and measures of an experiment; open_spiel is imported for board games only.

    `seed` is what they draw by; None: that of the experiment. `say` is told what goes wrong in games that measure
    strength; None: stderr.
    """
    if experiment.self_play is None:
        return NoSides()
    from triathlon.training.board.self_play import BoardSides

    return BoardSides(experiment.self_play, envs, policy, experiment.seed if seed is None else seed, say)


__all__ = ["Sides", "make_sides"]
