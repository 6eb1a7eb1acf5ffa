"""Turns what goes wrong inside an environment into one sentence that names it; the traceback stays the cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper

from triathlon.envs.errors import EnvError
from triathlon.envs.spaces import mask_misfit, misfit


def broken_space(name: str, departure: str) -> str:
    """The sentence for an observation that is not of the space that declares it."""
    return f"{name} broke its observation space: {departure}"


@contextmanager
def explain(name: str, doing: str) -> Iterator[None]:
    """Re-raise any exception as an EnvError that says which environment failed at what."""
    try:
        yield
    except EnvError:
        raise
    except Exception as error:
        raise EnvError(failure(name, doing, error)) from error


def failure(name: str, doing: str, error: Exception) -> str:
    """The sentence for an exception raised inside an environment."""
    while len(error.args) == 1 and isinstance(error.args[0], Exception):
        error = error.args[0]  # an AsyncVectorEnv wraps what its process raised
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{name} cannot {doing}: it raised {type(error).__name__}: {first_line}"


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """A single environment whose failures name it."""

    def __init__(self, env: gym.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self.name = name

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with explain(self.name, "reset"):
            obs, info = self.env.reset(seed=seed, options=options)
        return self._fitting(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with explain(self.name, "step"):
            obs, reward, terminated, truncated, info = self.env.step(action)
        return self._fitting(obs), reward, terminated, truncated, info

    def render(self) -> Any:
        with explain(self.name, "be drawn"):
            return self.env.render()

    def _fitting(self, obs: Any) -> Any:
        if (departure := misfit(self.observation_space, obs)) is not None:
            raise EnvError(broken_space(self.name, departure))
        return obs


class GuardedVectorEnv(VectorWrapper):
    """A vector environment whose failures name it, and whose columns draw from independent streams.

    `reset(seed=s)` seeds the columns of a sync or process vectorisation from `SeedSequence(s)`. Gymnasium's own rule,
    s + i, would let neighbouring runs play the same episodes: seed 0's column 1 would be seed 1's column 0.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], name: str) -> None:
        super().__init__(env)
        self.name = name
        self.frame_stack: int = getattr(env, "frame_stack", 1)  # pictures on the first axis of an observation
        self._seed_each = isinstance(env.unwrapped, SyncVectorEnv | AsyncVectorEnv)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if self._seed_each and isinstance(seed, int | np.integer):
            seed = column_seeds(int(seed), self.num_envs)
        try:
            obs, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]  # B seeds are allowed
        except Exception as error:
            raise self._explained("reset", error) from error
        if (departure := self._misfit()) is not None:
            raise EnvError(departure)
        if (departure := mask_misfit(self.env.single_action_space, info.get("action_mask"), self.num_envs)) is not None:
            raise EnvError(f"{self.name} broke its action space: {departure}")
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        try:
            return self.env.step(actions)
        except Exception as error:
            raise self._explained("step", error) from error

    def render(self) -> tuple[Any, ...] | None:
        with explain(self.name, "be drawn"):
            return self.env.render()

    def _explained(self, doing: str, error: Exception) -> EnvError:
        if isinstance(error, EnvError):
            return error
        # A departing observation shows itself as numpy failing to stack it; the sentence should name the observation.
        return EnvError(self._misfit() or failure(self.name, doing, error))

    def _misfit(self) -> str | None:
        """How the last observation of some single environment departs from its space (known for sync only)."""
        space = self.env.unwrapped.single_observation_space
        for obs in getattr(self.env.unwrapped, "_env_obs", ()):
            if obs is not None and (departure := misfit(space, obs)) is not None:
                return broken_space(self.name, departure)
        return None


def column_seeds(seed: int, num_envs: int) -> list[int]:
    """B seeds of 31 bits for the columns of one vector environment, independent across `seed` and column."""
    return [int(s) >> 1 for s in np.random.SeedSequence(seed).generate_state(num_envs, np.uint32)]
