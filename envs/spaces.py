"""Which spaces agents can handle, and where an observation departs from the space that declared it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from triathlon.envs.errors import EnvError

OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict, spaces.Tuple)
ACTIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_envs(envs: gym.Env[Any, Any] | VectorEnv[Any, Any, Any], name: str) -> None:
    """Refuse an environment that no agent here could play.

    Raises:
        EnvError: an observation or action space is of an unsupported kind, an action space is empty or unbounded in
            what must be finite, or a vector environment does not reset at the next step.
    """
    if isinstance(envs, VectorEnv):
        observation_space, action_space = envs.single_observation_space, envs.single_action_space
    else:
        observation_space, action_space = envs.observation_space, envs.action_space
    for path, space in _leaves(observation_space, "observation"):
        if not isinstance(space, OBSERVATIONS):
            raise EnvError(f"{name}: {path} is a {_kind(space)} space; supported are {_kinds(OBSERVATIONS)}")
        if isinstance(space, spaces.Box) and 0 in space.shape:
            raise EnvError(f"{name}: {path} is a Box of shape {space.shape}, which holds nothing to see")
    if not isinstance(action_space, ACTIONS):
        raise EnvError(f"{name}: the action space is a {_kind(action_space)} space; supported are {_kinds(ACTIONS)}")
    if isinstance(envs, VectorEnv) and envs.metadata.get("autoreset_mode") != AutoresetMode.NEXT_STEP:
        raise EnvError(
            f"{name}: the vector environment's metadata['autoreset_mode'] is {envs.metadata.get('autoreset_mode')}; "
            f"it must be AutoresetMode.NEXT_STEP (set vectorization to sync to step single environments instead)"
        )


def misfit(space: spaces.Space[Any], obs: Any, path: str = "observation") -> str | None:
    """Say how `obs` departs from `space` in structure, shape, kind of number or index range; None if it fits.

    The bounds of a `Box` are not looked at: many environments declare them loosely and nothing here relies on them.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, dict) or set(obs) != set(space.spaces):
            found = sorted(map(str, obs)) if isinstance(obs, dict) else type(obs).__name__
            return f"{path} should be a dict with keys {sorted(map(str, space.spaces))}, found {found}"
        return _first(misfit(part, obs[key], f"{path}[{key!r}]") for key, part in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        if not isinstance(obs, tuple) or len(obs) != len(space.spaces):
            return f"{path} should be a tuple of {len(space.spaces)}, found {type(obs).__name__}"
        return _first(misfit(part, obs[i], f"{path}[{i}]") for i, part in enumerate(space.spaces))
    if not isinstance(space, OBSERVATIONS):
        return None
    array = np.asarray(obs)
    if array.shape != space.shape:
        return f"{path} should have shape {space.shape}, found {array.shape}"
    if not np.can_cast(array.dtype, np.dtype(space.dtype), casting="same_kind"):
        return f"{path} should have dtype {np.dtype(space.dtype)}, found {array.dtype}"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        index: Any = array - space.start
        if np.any(index < 0) or np.any(index >= (space.n if isinstance(space, spaces.Discrete) else space.nvec)):
            return f"{path} should lie within {space}, found {obs}"
    return None


def mask_misfit(space: spaces.Space[Any], mask: Any, num_envs: int) -> str | None:
    """Say how `info["action_mask"]` of B environments departs from what `space` has to choose from; None if it fits.

    A mask has an entry for each choice: `[B, n]` for Discrete and MultiBinary, `[B, sum(nvec)]` for MultiDiscrete.
    """
    if mask is None or isinstance(space, spaces.Box):
        return None
    if isinstance(space, spaces.Discrete):
        size = int(space.n)
    else:
        size = int(space.nvec.sum()) if isinstance(space, spaces.MultiDiscrete) else math.prod(space.shape or ())
    found = np.shape(mask)
    if found != (num_envs, size) or np.asarray(mask).dtype.kind not in "biuf":
        one = np.asarray(mask[0])
        should = f"info['action_mask'] should be an array of {size} numbers or bools for {space}"
        return f"{should}, found {one.shape} of {one.dtype}"
    return None


def _leaves(space: spaces.Space[Any], path: str) -> Iterator[tuple[str, spaces.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, f"{path}[{key!r}]")
    elif isinstance(space, spaces.Tuple):
        for i, part in enumerate(space.spaces):
            yield from _leaves(part, f"{path}[{i}]")
    else:
        yield path, space


def _first(messages: Iterator[str | None]) -> str | None:
    return next((message for message in messages if message is not None), None)


def _kind(space: spaces.Space[Any]) -> str:
    return type(space).__name__


def _kinds(kinds: tuple[type, ...]) -> str:
    return ", ".join(kind.__name__ for kind in kinds)
