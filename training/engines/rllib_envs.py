"""Our vector environments as RLlib's, which takes Gymnasium's with `AutoresetMode.NEXT_STEP`. B environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.refusals import refuse_masks
from triathlon.training.env_group import Episode
from triathlon.training.finite import refuse_not_finite


class RLlibEnvs(VectorWrapper):
    """B of our environments that count what is played in them; RLlib learns from what it is to learn from.

    Raises:
        RunError: (reset) they have masks of legal actions, which RLlib's agents cannot read.
        EnvError: (reset, step) a reward or an observation is not finite.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], actions: EngineActions, seed: int) -> None:
        super().__init__(envs)
        self.single_action_space = actions.space
        self.action_space = batch_space(actions.space, envs.num_envs)
        self._to_env, self._seed = actions.to_env, seed
        self.num_steps = 0  # played since the start: what a reset gives is no step
        self._done = np.zeros(self.num_envs, bool)
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self._episodes: list[Episode] = []

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=self._seed, options=options)
        refuse_masks(info, "rllib")
        self._done[:], self._returns[:], self._lengths[:] = False, 0.0, 0
        refuse_not_finite(self.env, self._returns, obs)
        return obs, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(self._to_env(actions))
        self.num_steps += int((~self._done).sum())
        self._returns += reward
        self._lengths += ~self._done
        self._done = np.logical_or(terminated, truncated)
        for i in np.flatnonzero(self._done):
            self._episodes.append(Episode(float(self._returns[i]), int(self._lengths[i])))
            self._returns[i], self._lengths[i] = 0.0, 0
        reward = info.get("learning_reward", reward)
        refuse_not_finite(self.env, reward, obs)
        return obs, reward, terminated, truncated, {}

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, as the environment scored them."""
        episodes, self._episodes = self._episodes, []
        return episodes


class Hand:
    """Hands the environments of this process to RLlib's registry and to our modules, of which RLlib keeps copies."""

    _there: RLlibEnvs | None = None

    def __init__(self, envs: RLlibEnvs) -> None:
        type(self)._there = envs

    def __call__(self, context: Mapping[str, Any]) -> RLlibEnvs:
        assert self._there is not None
        return self._there

    @classmethod
    def num_steps(cls) -> int:
        """What was played in them, to the step: what RLlib tells of this is as old as its last summary."""
        assert cls._there is not None
        return cls._there.num_steps


__all__ = ["Hand", "RLlibEnvs"]
