"""Our vector environments as Stable-Baselines3's.

SB3 begins a new episode in the step that ended one: the last observation travels in `infos[i]`. It sees observations as
flat vectors, so that it neither turns pictures around nor scales them; the network gives them their shape back.
B environments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.refusals import refuse_masks
from triathlon.training.env_group import Episode
from triathlon.training.finite import refuse_not_finite

# What SB3 keeps numbers of other kinds as: it learns from float32, and its spaces know no bools.
STORED: dict[Any, Any] = {np.dtype(np.float64): np.dtype(np.float32), np.dtype(np.bool_): np.dtype(np.uint8)}


class SB3Envs(VecEnv):
    """B of our environments behind SB3's interface.

    Raises:
        RunError: they have masks of legal actions, which SB3 cannot read.
        EnvError: (reset, step) a reward or an observation is not finite.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], actions: EngineActions, seed: int) -> None:
        super().__init__(envs.num_envs, flat_space(envs.single_observation_space), actions.space)
        self._envs, self._to_env, self._seed = envs, actions.to_env, seed
        self._actions: NDArray[Any] | None = None
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self._episodes: list[Episode] = []

    def reset(self) -> Any:
        obs, info = self._envs.reset(seed=self._seed)
        refuse_masks(info, "sb3")
        self._returns[:], self._lengths[:] = 0.0, 0
        seen = flat(obs)
        refuse_not_finite(self._envs, self._returns, seen)
        return seen

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        assert self._actions is not None
        obs, reward, terminated, truncated, info = self._envs.step(self._to_env(self._actions))
        self._returns += reward
        self._lengths += 1
        ended = np.logical_or(terminated, truncated)
        # Where a lost life ends the episode for learning, the game goes on: what is seen next is what was seen last.
        terminated = info.get("learning_terminated", terminated)
        done, seen = np.logical_or(terminated, truncated), flat(obs)
        reward = np.asarray(info.get("learning_reward", reward), np.float32)
        refuse_not_finite(self._envs, reward, seen)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i] = {
                "terminal_observation": _column(seen, int(i)),
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
            }
        if ended.any():
            self._take_episodes(ended)
            first, _ = self._envs.reset(options={"reset_mask": ended})
            seen = _where(ended, flat(first), seen)
            refuse_not_finite(self._envs, reward, seen)
        return seen, reward, done, infos

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, as the environment scored them."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def _take_episodes(self, ended: NDArray[np.bool_]) -> None:
        self._episodes += [Episode(float(self._returns[i]), int(self._lengths[i])) for i in np.flatnonzero(ended)]
        self._returns[ended], self._lengths[ended] = 0.0, 0

    def close(self) -> None:
        self._envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name == "render_mode":  # SB3 asks when it is made; nothing is drawn here
            return [None] * self.num_envs
        raise AttributeError(f"these environments show no attribute '{attr_name}' to Stable-Baselines3")

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"these environments let Stable-Baselines3 set no attribute '{attr_name}'")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise AttributeError(f"these environments show no method '{method_name}' to Stable-Baselines3")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def leaves(space: spaces.Space[Any], path: Sequence[str] = ()) -> Iterator[tuple[tuple[str, ...], spaces.Space[Any]]]:
    """The spaces inside of a Dict, however deep, with the keys that lead there; any other space is its own leaf."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from leaves(part, (*path, key))
    else:
        yield tuple(path), space


def flat_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A vector of the same numbers, or a Dict of such vectors by path."""
    flattened: dict[str, spaces.Space[Any]] = {"/".join(path): _vector(leaf) for path, leaf in leaves(space)}
    return flattened[""] if "" in flattened else spaces.Dict(flattened)


def _vector(leaf: spaces.Space[Any]) -> spaces.Box:
    dtype: Any = STORED.get(np.dtype(leaf.dtype), np.dtype(leaf.dtype))
    limits = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else None
    low, high = (limits.min, limits.max) if limits else (-np.inf, np.inf)
    return spaces.Box(low, high, (int(np.prod(leaf.shape or (), dtype=int)),), dtype.type)


def flat(obs: Any, path: str = "") -> Any:
    """Observations `[B, *obs]` as `flat_space` has them, `[B, n]` or a dict of these."""
    if isinstance(obs, dict):
        found: dict[str, NDArray[Any]] = {}
        for key, part in obs.items():
            below = flat(part, f"{path}{key}/")
            found |= below if isinstance(below, dict) else {f"{path}{key}": below}
        return found
    vector = np.asarray(obs).reshape(len(obs), -1)
    return vector.astype(STORED.get(vector.dtype, vector.dtype), copy=False)


def _column(obs: Any, i: int) -> Any:
    return {key: part[i].copy() for key, part in obs.items()} if isinstance(obs, dict) else obs[i].copy()


def _where(columns: NDArray[np.bool_], there: Any, elsewhere: Any) -> Any:
    if isinstance(there, dict):
        return {key: _where(columns, part, elsewhere[key]) for key, part in there.items()}
    return np.where(columns[:, None], there, elsewhere)


__all__ = ["SB3Envs", "flat", "flat_space", "leaves"]
