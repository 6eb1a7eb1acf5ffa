"""What has to be finite: the weights of a checkpoint, and what an engine learns from. B environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.agents.agent import Policy
from triathlon.envs.errors import EnvError
from triathlon.training.errors import RunError


def refuse_weights_not_finite(policy: Policy, num_steps: int) -> None:
    """Raises RunError if a weight is no finite number after `num_steps`: such weights replace no checkpoint."""
    if not policy.weights().isfinite().all():
        raise RunError(
            f"the weights are no finite numbers any more after {num_steps:,} steps: a reward or an "
            "observation is huge, or a step was too large; try a smaller agent.learning_rate, "
            "agent.normalize_reward or agent.normalize_obs. Checkpoints are from before"
        )


def refuse_not_finite(envs: Any, reward: NDArray[Any], obs: Any) -> None:
    """Raises EnvError if of a step of `envs` a reward `[B]` or an observation `[B, *obs]` is not a finite number."""
    for name, array in [("reward", reward), *_leaves(obs, "observation")]:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            column = int(np.nonzero(~np.isfinite(array))[0][0])
            raise EnvError(
                f"{getattr(envs, 'name', type(envs).__name__)} gave what is not finite: the {name} of environment "
                f"{column} is {array[column]}; nothing was learned from it"
            )


def _leaves(obs: Any, name: str) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(obs, dict):
        return [leaf for key, part in obs.items() for leaf in _leaves(part, f"{name}['{key}']")]
    return [(name, np.asarray(obs))]


__all__ = ["refuse_not_finite", "refuse_weights_not_finite"]
