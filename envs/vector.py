"""Environments written once for B columns in numpy, stepped together or alone.

B environments (columns), A actions. A task defines how an episode begins, how a step changes it and what is seen; the
end of episodes, the streams of random numbers and exact resuming are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError
from triathlon.envs.guard import column_seeds
from triathlon.envs.state import decode, encode

Columns = NDArray[np.intp]


RENDERED = {"render_modes": ["rgb_array"], "render_fps": 10}


class NumpyVectorEnv(VectorEnv[Any, Any, Any]):
    """B copies of a task under `AutoresetMode.NEXT_STEP`, each with its own stream of random numbers.

    A subclass sets `single_observation_space` and `single_action_space` before it calls `super().__init__`, names in
    `state_names` the arrays that hold its state, and defines `begin`, `advance` and `observe`. Column i seeded s plays
    the very episodes that the single environment seeded s plays.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP, **RENDERED}  # noqa: RUF012
    state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, num_envs: int, max_episode_steps: int | None, render_mode: str | None) -> None:
        if num_envs < 1:
            raise EnvError(f"num_envs must be at least 1, found {num_envs}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise EnvError(f"max_episode_steps must be at least 1, found {max_episode_steps}")
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self.render_mode = render_mode
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.num_steps = np.zeros(num_envs, np.int64)  # in this episode
        self.ended = np.zeros(num_envs, np.bool_)  # the next step begins a new episode

    def begin(self, columns: Columns) -> None:
        """Start a new episode in these columns, drawing from `self.generators[column]` only."""
        raise NotImplementedError(f"{type(self).__name__} must define begin(columns)")

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Play `actions [B]`; give `reward [B]` and `terminated [B]`. What ended columns give is thrown away."""
        raise NotImplementedError(f"{type(self).__name__} must define advance(actions)")

    def observe(self) -> NDArray[Any]:
        """What is seen now, `[B, *obs]`, in memory of its own."""
        raise NotImplementedError(f"{type(self).__name__} must define observe()")

    def legal(self) -> NDArray[np.int8] | None:
        """Which actions are allowed now, `[B, A]`; None where all always are."""
        return None

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            seeds = column_seeds(int(seed), self.num_envs) if isinstance(seed, int | np.integer) else seed
            self.generators = [seeding.np_random(s)[0] for s in seeds]
        # Gymnasium's option for a caller that begins new episodes itself, in the columns that it names.
        begun = np.ones(self.num_envs, np.bool_) if options is None else options.get("reset_mask", True)
        columns = np.flatnonzero(np.broadcast_to(begun, self.num_envs))
        self.num_steps[columns] = 0
        self.ended[columns] = False
        self.begin(columns)
        return self.observe(), self._info()

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        reward, terminated = self.advance(np.asarray(actions))
        self.num_steps += 1
        if self.ended.any():
            self.begin(np.flatnonzero(self.ended))
            reward[self.ended] = 0.0
            terminated[self.ended] = False
            self.num_steps[self.ended] = 0
        if self.max_episode_steps is None:
            truncated = np.zeros(self.num_envs, np.bool_)
        else:
            truncated = self.num_steps >= self.max_episode_steps
        self.ended = terminated | truncated
        return self.observe(), reward, terminated, truncated, self._info()

    def render(self) -> tuple[NDArray[np.uint8], ...]:  # type: ignore[override]
        """What each column sees now, as a picture `[H, W, 3]`."""
        return tuple(draw(self.single_observation_space, obs) for obs in self.observe())

    def _info(self) -> dict[str, Any]:
        legal = self.legal()
        return {} if legal is None else {"action_mask": legal, "_action_mask": np.ones(self.num_envs, np.bool_)}

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on, as arrays and JSON values."""
        names = (*self.state_names, "num_steps", "ended", "generators")
        return {name: encode(getattr(self, name)) for name in names}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to what `get_state` saved; the next step gives what it then gave."""
        for name, value in state.items():
            setattr(self, name, decode(value))


class SingleEnv(gym.Env[Any, Any]):
    """One column of a `NumpyVectorEnv` as an ordinary environment, which the caller resets."""

    metadata: dict[str, Any] = dict(RENDERED)  # noqa: RUF012

    def __init__(
        self, vector_class: Callable[..., NumpyVectorEnv], render_mode: str | None = None, **kwargs: Any
    ) -> None:
        self.column = vector_class(num_envs=1, render_mode=render_mode, **kwargs)
        self.render_mode = render_mode
        self.observation_space: spaces.Space[Any] = self.column.single_observation_space
        self.action_space: spaces.Space[Any] = self.column.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.column.generators = [self.np_random]
        obs, info = self.column.reset()
        return obs[0], _only(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.column.step(np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), _only(info)

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The observation as a picture `[H, W, 3]`; None if no render mode was asked for."""
        return None if self.render_mode is None else self.column.render()[0]

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on, as arrays and JSON values."""
        return self.column.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to what `get_state` saved."""
        self.column.set_state(state)
        self.np_random = self.column.generators[0]


def _only(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value[0] for key, value in info.items() if not key.startswith("_")}


def draw(space: spaces.Space[Any], obs: Any, side: int = 160) -> NDArray[np.uint8]:
    """One observation as a grey picture `[H, W, 3]` of about `side` pixels: a frame, or a row of cells for numbers."""
    if isinstance(space, spaces.Discrete):
        cells = (np.arange(int(space.n)) == obs).astype(np.float32)[None]
    else:
        assert isinstance(space, spaces.Box)
        grey = (obs - space.low.astype(np.float32)) / (space.high.astype(np.float32) - space.low)
        cells = grey[None] if grey.ndim == 1 else grey[..., -1]
    cell = max(1, side // max(cells.shape))
    picture = np.kron((255 * cells).astype(np.uint8), np.ones((cell, cell), np.uint8))
    return np.repeat(picture[..., None], 3, axis=2)
