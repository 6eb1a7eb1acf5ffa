"""Environments of odd spaces, for engines that know fewer of them, and of faults. Not environments to learn in."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

EYE = spaces.Box(0, 255, (12, 10, 3), np.uint8)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "float64": spaces.Box(-1, 1, (2, 2), np.float64),
    "picture": EYE,
    "token": spaces.Discrete(5, start=-2),
    "tokens": spaces.MultiDiscrete([3, 5]),
    "bits": spaces.MultiBinary(4),
    "bools": spaces.Box(0, 1, (6,), bool),
    "nested": spaces.Dict(inner=spaces.Dict(eye=EYE, word=spaces.Discrete(4)), body=spaces.Box(-1, 1, (2,))),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3, start=5),
    "multi-discrete": spaces.MultiDiscrete(np.array([[2, 3], [4, 2]])),
    "multi-binary": spaces.MultiBinary([2, 2]),
    "box": spaces.Box(-2, 2, (2, 1), np.float32),
}


class OddEnv(gym.Env[Any, Any]):
    """Episodes of 3 to 7 steps; the reward is the number of the step, and every action has to be of its space."""

    def __init__(self, observation: str = "vector", action: str = "discrete") -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.num_steps, self.length = 0, int(self.np_random.integers(3, 8))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is no action of {self.action_space}")
        self.num_steps += 1
        ended = self.num_steps == self.length
        # Even lengths end in a terminal state, odd ones are cut off.
        is_terminal = self.length % 2 == 0
        return (
            self.observation_space.sample(),
            float(self.num_steps),
            ended and is_terminal,
            ended and not is_terminal,
            {},
        )


class FaultyEnv(gym.Env[Any, Any]):
    """Episodes of 10 steps; in step `after` of the whole life the reward or an observation is not finite, or huge."""

    observation_space, action_space = spaces.Dict(a=spaces.Box(-1, 1, (2,), np.float32)), spaces.Discrete(3)

    def __init__(self, fault: str, after: int = 50) -> None:
        self.fault, self.after, self.num_steps = fault, after, 0

    def _obs(self) -> dict[str, Any]:
        is_wrong = self.fault == "observation" and self.num_steps == self.after
        return {"a": np.array([0.5, np.inf if is_wrong else 0.25], np.float32)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.num_steps += 1
        wrong = {"reward": float("nan"), "huge": 3e38}.get(self.fault, 1.0)
        reward = wrong if self.num_steps >= self.after else 1.0
        return self._obs(), reward, False, self.num_steps % 10 == 0, {}
