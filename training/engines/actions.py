"""What an engine chooses from, and what the environments make of it. B environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from triathlon.agents.agent import Policy
from triathlon.agents.q_network import EpsilonGreedyPolicy


class EngineActions:
    """The actions of an agent of ours, as other libraries take them: in one row, and counted from 0."""

    def __init__(self, policy: Policy, space: gym.Space[Any]) -> None:
        self._env_action = policy.env_action
        if isinstance(policy, EpsilonGreedyPolicy):  # it values every combination of parts by its number
            self.space: gym.Space[Any] = gym.spaces.Discrete(policy.actions.num_actions)
            self._shape: tuple[int, ...] = ()
        else:
            self.space, self._shape = _flat(space), tuple(space.shape or ())

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """What an engine chose in `space`, `[B, …]`, as the environments want it."""
        return self._env_action(np.asarray(actions).reshape(len(actions), *self._shape))


def _flat(space: gym.Space[Any]) -> gym.Space[Any]:
    if isinstance(space, gym.spaces.Discrete):
        return gym.spaces.Discrete(int(space.n))
    if isinstance(space, gym.spaces.MultiDiscrete):
        return gym.spaces.MultiDiscrete(space.nvec.reshape(-1))
    if isinstance(space, gym.spaces.MultiBinary):
        return gym.spaces.MultiBinary(int(np.prod(space.shape)))
    assert isinstance(space, gym.spaces.Box)
    dtype: Any = space.dtype
    return gym.spaces.Box(space.low.reshape(-1), space.high.reshape(-1), dtype=dtype)


__all__ = ["EngineActions"]
