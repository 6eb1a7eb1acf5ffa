"""Our vector environments as RLlib's, which takes Gymnasium's with `AutoresetMode.NEXT_STEP`. B environments."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from triathlon.training.engines.actions import EngineActions
from triathlon.training.env_group import Episode
from triathlon.training.errors import RunError


class RLlibEnvs(VectorWrapper):
    """B of our environments that count what is played in them; RLlib learns from what it is to learn from.

    Raises:
        RunError: (reset) they have masks of legal actions, which RLlib's agents cannot read.
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
        if "action_mask" in info:
            raise RunError("the environment has masks of legal actions, which engine: rllib cannot read; use native")
        self._done[:], self._returns[:], self._lengths[:] = False, 0.0, 0
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
        return obs, info.get("learning_reward", reward), terminated, truncated, {}

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, as the environment scored them."""
        episodes, self._episodes = self._episodes, []
        return episodes


__all__ = ["RLlibEnvs"]
