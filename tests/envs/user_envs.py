"""Environments such as a user might bring: odd spaces, masks, and every way to go wrong."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv


class Walk(gym.Env):
    """Sees a Dict of a picture, a vector and nested parts; acts by MultiDiscrete; ends after 3 steps."""

    observation_space = spaces.Dict(
        {
            "picture": spaces.Box(0, 255, (8, 8, 3), np.uint8),
            "inner": spaces.Tuple((spaces.Discrete(5), spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3]))),
        }
    )
    action_space = spaces.MultiDiscrete([3, 2])

    def __init__(self, scale: int = 1):
        self.scale = scale

    def _obs(self):
        inner = (np.int64(self.t), np.array([1, 0], np.int8), np.array([1, 2]))
        return {"picture": np.full((8, 8, 3), self.t * self.scale, np.uint8), "inner": inner}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        return self._obs(), float(action[0]), self.t == 3, False, {}


class Faulty(gym.Env):
    """Goes wrong where it is told to."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "none"):
        self.fault = fault
        if fault == "init":
            raise RuntimeError("no licence")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fault == "reset":
            raise KeyError("level")
        return np.zeros(4 if self.fault == "shape at reset" else 3, np.float32), {}

    def step(self, action):
        if self.fault == "step":
            raise ZeroDivisionError("division by zero")
        obs = np.zeros(2 if self.fault == "shape at step" else 3, np.float32)
        return obs, 0.0, False, False, {}


class Writer(gym.Env):
    """Sees text, which no agent here can read."""

    observation_space = spaces.Dict({"page": spaces.Text(5), "mark": spaces.Discrete(2)})
    action_space = spaces.Discrete(2)


class Speaker(gym.Env):
    """Acts by a Dict, which no agent here can do."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Dict({"a": spaces.Discrete(2)})


class SameStepVectorEnv(VectorEnv):
    """Resets at the same step and cannot do otherwise."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    single_observation_space = spaces.Discrete(2)
    single_action_space = spaces.Discrete(2)

    def __init__(self, num_envs: int):
        self.num_envs = num_envs


class AddOne(gym.ObservationWrapper):
    """Adds one to what CartPole shows."""

    def observation(self, observation):
        return observation + np.float32(1)


def make_walk(scale: int = 1) -> Walk:
    """A function may stand where a class may."""
    return Walk(scale)


NOT_AN_ENV = 3
