"""Environments that step together, the episodes under way in them, and the policy's memory of them.

B environments.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from triathlon.agents.agent import Policy
from triathlon.envs.errors import EnvError
from triathlon.envs.state import restore, state_of
from triathlon.networks.backbone import State

Step: TypeAlias = "tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]"


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished episode as the environment scored it: undiscounted return and length in agent steps."""

    episode_return: float
    length: int


class EnvGroup:
    """Owns B environments, and what was seen in them last.

    Environments follow `AutoresetMode.NEXT_STEP`: after an episode has ended, the next call to `step` ignores the
    action and gives the first observation of a new episode.
    """

    def __init__(
        self, envs: VectorEnv[Any, Any, Any], policy: Policy, first_column: int, thread: Executor | None
    ) -> None:
        self.envs, self._policy, self._thread = envs, policy, thread
        self.num_envs = envs.num_envs
        self.columns = slice(first_column, first_column + self.num_envs)  # of the segments that they write
        self.obs: Any = None
        self.legal: NDArray[np.bool_] | None = None
        self.is_first: NDArray[np.bool_] = np.ones(self.num_envs, bool)
        self.memory: State = ()
        self._done = np.zeros(self.num_envs, bool)  # the environments whose next step resets them
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._pending: NDArray[Any] | Future[Step] | None = None

    def restart(self, seed: int) -> None:
        """Begin new episodes everywhere; those under way are dropped."""
        self.obs, info = self.envs.reset(seed=seed)
        self.legal = info.get("action_mask")
        self.is_first = np.ones(self.num_envs, bool)
        self._done = np.zeros(self.num_envs, bool)
        self.memory = self._policy.initial_state(self.num_envs)
        self._begin(self.is_first)

    def begin_step(self, action: NDArray[Any]) -> None:
        """Step with `action [B, ...]`: in the group's thread, if it has one, else when the step is finished."""
        self._pending = action if self._thread is None else self._thread.submit(self.envs.step, action)

    def finish_step(self) -> tuple[Step, list[Episode]]:
        """What the step gave, and the episodes that ended with it; `obs`, `legal` and `is_first` are those after it.

        Raises:
            EnvError: an environment failed.
        """
        try:
            step = self._pending.result() if isinstance(self._pending, Future) else self.envs.step(self._pending)
        except EnvError:
            raise
        except Exception as error:
            raise EnvError(f"{self.name} cannot step: it raised {type(error).__name__}: {error}") from error
        self.obs, reward, terminated, truncated, info = step
        self.legal = info.get("action_mask")
        self._returns += reward
        self._lengths += ~self._done
        self.is_first = self._done
        self._done = np.logical_or(terminated, truncated)
        episodes = [Episode(float(self._returns[i]), int(self._lengths[i])) for i in np.flatnonzero(self._done)]
        if episodes:
            self._begin(self._done)
        return step, episodes

    def _begin(self, where: NDArray[np.bool_]) -> None:
        self._returns[where] = 0.0
        self._lengths[where] = 0

    @property
    def name(self) -> str:
        """What the environments are called in a configuration."""
        return str(getattr(self.envs, "name", type(self.envs).__name__))

    def state_dict(self) -> dict[str, Any] | None:
        """All that is needed to go on to the bit, or None if the environments cannot tell their state."""
        envs = state_of(self.envs)
        if envs is None:
            return None
        return {
            "envs": envs,
            "obs": self.obs,
            "legal": self.legal,
            "is_first": self.is_first,
            "done": self._done,
            "returns": self._returns.copy(),  # these two are added to in place
            "lengths": self._lengths.copy(),
            "state": list(self.memory),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        restore(self.envs, state["envs"])
        self.obs, self.legal = state["obs"], state["legal"]
        self.is_first, self._done = state["is_first"], state["done"]
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
        begun = self._policy.initial_state(self.num_envs)  # where the policy has its memory: a file is read to the CPU
        self.memory = tuple(x.to(like.device) for x, like in zip(state["state"], begun, strict=True))


__all__ = ["EnvGroup", "Episode"]
