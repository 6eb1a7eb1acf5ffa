"""Tasks that only an agent with a memory can solve, in numpy for B environments at a time.

B environments (columns), D features of an observation.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError
from triathlon.envs.vector import Columns, NumpyVectorEnv


class CueRecallVectorEnv(NumpyVectorEnv):
    """A cue is shown once; `delay` blank steps later the agent is asked which it was.

    Observation `[num_cues + 1]`: the cue as one-hot at the first step, nothing while it waits, and a last feature that
    is 1 at the question. The answer (action == cue) earns 1, any other 0, and ends the episode after `delay + 2` steps;
    what was done before does not matter. Return 1 with memory, 1 / num_cues on average without.
    The shape of task is that of Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), section 5.2.
    """

    state_names: ClassVar[tuple[str, ...]] = ("cue",)

    def __init__(
        self,
        num_envs: int = 1,
        delay: int = 20,
        num_cues: int = 2,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        _at_least("CueRecall", "delay", delay, 0)
        _at_least("CueRecall", "num_cues", num_cues, 2)
        self.delay = delay
        self.num_cues = num_cues
        self.single_observation_space = spaces.Box(0.0, 1.0, (num_cues + 1,), np.float32)
        self.single_action_space = spaces.Discrete(num_cues)
        super().__init__(num_envs, max_episode_steps, render_mode)
        self.cue = np.zeros(num_envs, np.int64)

    def begin(self, columns: Columns) -> None:
        for i in columns:
            self.cue[i] = self.generators[i].integers(self.num_cues)

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        asked = self.num_steps == self.delay + 1
        return (asked & (actions == self.cue)).astype(np.float64), asked

    def observe(self) -> NDArray[np.float32]:
        obs = np.zeros((self.num_envs, self.num_cues + 1), np.float32)
        first = np.flatnonzero(self.num_steps == 0)
        obs[first, self.cue[first]] = 1.0
        obs[self.num_steps == self.delay + 1, -1] = 1.0
        return obs


class TMazeVectorEnv(NumpyVectorEnv):
    """A sign at the start of a corridor says whether to turn north or south at its far end.

    Bakker, "Reinforcement Learning with Long Short-Term Memory" (NeurIPS 2001), section 4: the agent sees 011 (turn
    north) or 110 (turn south) at the start only, 101 in the corridor and 010 at the junction. Actions: 0 north, 1 east,
    2 south, 3 west. At the junction the right turn earns 4, the wrong one -0.1, and either ends the episode; standing
    still (walking into a wall) costs 0.1, walking is free. Best return 4. The time limit is `4 (length + 1)` steps by
    default.
    """

    state_names: ClassVar[tuple[str, ...]] = ("position", "north")
    signs: ClassVar[NDArray[np.float32]] = np.array([[1, 1, 0], [0, 1, 1]], np.float32)  # south, north

    def __init__(
        self,
        num_envs: int = 1,
        length: int = 10,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        _at_least("TMaze", "length", length, 1)
        limit = 4 * (length + 1) if max_episode_steps is None else max_episode_steps
        if limit <= length:
            raise EnvError(f"TMaze: max_episode_steps must exceed length {length} to reach the junction, found {limit}")
        self.length = length
        self.single_observation_space = spaces.Box(0.0, 1.0, (3,), np.float32)
        self.single_action_space = spaces.Discrete(4)
        super().__init__(num_envs, limit, render_mode)
        self.position = np.zeros(num_envs, np.int64)  # 0 start, `length` junction
        self.north = np.zeros(num_envs, np.bool_)

    def begin(self, columns: Columns) -> None:
        self.position[columns] = 0
        for i in columns:
            self.north[i] = self.generators[i].integers(2) == 1

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        turns = (actions == 0) | (actions == 2)
        terminated = turns & (self.position == self.length)
        right = terminated & ((actions == 0) == self.north)
        moved = np.clip(self.position + (actions == 1) - (actions == 3), 0, self.length)
        stood_still = moved == self.position
        self.position = moved
        return np.where(right, 4.0, np.where(stood_still, -0.1, 0.0)), terminated

    def observe(self) -> NDArray[np.float32]:
        obs = np.tile(np.array([1, 0, 1], np.float32), (self.num_envs, 1))
        obs[self.position == self.length] = (0.0, 1.0, 0.0)
        # Only the first step shows the sign: going back to look again would make the maze a task without memory.
        first = self.num_steps == 0
        obs[first] = self.signs[self.north[first].astype(np.intp)]
        return obs


class RepeatPreviousVectorEnv(NumpyVectorEnv):
    """Each step shows a value; the action must be the value shown `k` steps ago.

    As in POPGym (Morad et al., ICLR 2023, appendix A): the first `k` steps earn nothing, each later one
    ±1 / (num_steps - k), so the return lies in [-1, 1]: 1 with memory, 2 / num_values - 1 on average without. Values
    are independent draws rather than a shuffled deck, so that counting cards does not help. Observation and action
    are `Discrete(num_values)`.
    """

    state_names: ClassVar[tuple[str, ...]] = ("values",)

    def __init__(
        self,
        num_envs: int = 1,
        k: int = 4,
        num_values: int = 4,
        episode_length: int = 52,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        _at_least("RepeatPrevious", "k", k, 1)
        _at_least("RepeatPrevious", "num_values", num_values, 2)
        _at_least("RepeatPrevious", "episode_length", episode_length, k + 1)
        self.k = k
        self.num_values = num_values
        self.episode_length = episode_length
        self.single_observation_space = spaces.Discrete(num_values)
        self.single_action_space = spaces.Discrete(num_values)
        super().__init__(num_envs, max_episode_steps, render_mode)
        self.columns = np.arange(num_envs)
        self.values = np.zeros((num_envs, episode_length + 1), np.int64)

    def begin(self, columns: Columns) -> None:
        for i in columns:
            self.values[i] = self.generators[i].integers(self.num_values, size=self.episode_length + 1)

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        right = actions == self.values[self.columns, self.num_steps - self.k]
        counts = self.num_steps >= self.k
        reward = counts * np.where(right, 1.0, -1.0) / (self.episode_length - self.k)
        return reward, self.num_steps == self.episode_length - 1

    def observe(self) -> NDArray[np.int64]:
        return self.values[self.columns, self.num_steps]


def _at_least(task: str, name: str, value: int, least: int) -> None:
    if value < least:
        raise EnvError(f"{task}: {name} must be at least {least}, found {value}")
