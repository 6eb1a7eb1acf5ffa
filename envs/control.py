"""Control tasks in which part of the state is hidden, so that an agent has to remember.

Hiding the velocities is the oldest test of memory in control: Wierstra et al., "Solving Deep Memory POMDPs with
Recurrent Policy Gradients" (2007), section 4.1; Hausknecht and Stone (2015), section 5, for flickering screens.
B environments, D parts of a vector observation.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import parse_env_id
from gymnasium.vector import VectorEnv, VectorObservationWrapper
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError

# Indices of the velocities in the observation of each environment; the number is the size of its observation.
VELOCITIES: dict[str, tuple[int, tuple[int, ...]]] = {
    "CartPole": (4, (1, 3)),
    "Acrobot": (6, (4, 5)),
    "Pendulum": (3, (2,)),
    "MountainCar": (2, (1,)),
    "MountainCarContinuous": (2, (1,)),
    "LunarLander": (8, (2, 3, 5)),
    "LunarLanderContinuous": (8, (2, 3, 5)),
    "BipedalWalker": (24, (1, 2, 3, 5, 7, 10, 12)),
    "BipedalWalkerHardcore": (24, (1, 2, 3, 5, 7, 10, 12)),
    "InvertedPendulum": (4, (2, 3)),
    "InvertedDoublePendulum": (9, (5, 6, 7)),
    "Reacher": (10, (6, 7)),
    "Swimmer": (8, tuple(range(3, 8))),
    "Hopper": (11, tuple(range(5, 11))),
    "HalfCheetah": (17, tuple(range(8, 17))),
    "Walker2d": (17, tuple(range(8, 17))),
    "Ant": (105, tuple(range(13, 27))),
    "Pusher": (23, tuple(range(7, 14))),
}


def hidden_parts(hide: tuple[int, ...] | str, name: str, space: spaces.Space[Any]) -> tuple[int, ...]:
    """The indices that `hide` means for the environment `name` with single observation space `space [D]`.

    Raises:
        EnvError: the observation is no vector, an index is out of range, nothing would be left, or "velocities" is
            asked for an environment whose velocities are not known.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise EnvError(f"{name}: hide needs a vector observation (a Box with one axis), found {space}")
    (num_parts,) = space.shape
    if hide == "velocities":
        size, parts = VELOCITIES.get(_base_name(name), (0, ()))
        if size != num_parts:
            raise EnvError(
                f"{name}: hide: velocities is known for {', '.join(VELOCITIES)}; give the indices to hide instead, "
                f"each from 0 to {num_parts - 1}"
            )
        return parts
    if isinstance(hide, str):
        raise EnvError(f'{name}: hide must be indices or "velocities", found {hide!r}')
    for part in hide:
        if not 0 <= part < num_parts:
            raise EnvError(f"{name}: hide has index {part}; its observation has parts 0 to {num_parts - 1}")
    if len(set(hide)) >= num_parts:
        raise EnvError(f"{name}: hide leaves nothing of the {num_parts} parts of the observation")
    return tuple(sorted(set(hide)))


class HideParts(gym.ObservationWrapper[Any, Any, Any]):
    """Drops the parts of a vector observation whose indices are in `hidden`: `[D]` becomes `[D - len(hidden)]`."""

    def __init__(self, env: gym.Env[Any, Any], hidden: tuple[int, ...]) -> None:
        super().__init__(env)
        self.shown = _shown(env.observation_space, hidden)
        self.observation_space = _part_of(env.observation_space, self.shown)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        return observation[self.shown]


class HideVectorParts(VectorObservationWrapper):
    """The same for a vector environment: `[B, D]` becomes `[B, D - len(hidden)]`."""

    def __init__(self, env: VectorEnv[Any, Any, Any], hidden: tuple[int, ...]) -> None:
        super().__init__(env)
        self.shown = _shown(env.single_observation_space, hidden)
        self.single_observation_space = _part_of(env.single_observation_space, self.shown)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, env.num_envs)

    def observations(self, observations: Any) -> Any:
        return observations[:, self.shown]


def _shown(space: spaces.Space[Any], hidden: tuple[int, ...]) -> NDArray[np.intp]:
    assert space.shape is not None
    return np.setdiff1d(np.arange(space.shape[0]), hidden)


def _part_of(space: spaces.Space[Any], shown: NDArray[np.intp]) -> spaces.Box:
    assert isinstance(space, spaces.Box)
    dtype: Any = space.dtype
    return spaces.Box(space.low[shown], space.high[shown], dtype=dtype)


def _base_name(name: str) -> str:
    try:
        return parse_env_id(name.rpartition(":")[2])[1]
    except gym.error.Error:
        return name
