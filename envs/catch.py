"""Catch: the smallest task that has to be seen. B environments (columns), H height, W width.

A ball falls down a picture, and a paddle in the lowest row has to be under it (Mnih, Heess, Graves & Kavukcuoglu 2014,
"Recurrent Models of Visual Attention", §4.2; Osband et al. 2020, "Behaviour Suite").
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError
from triathlon.envs.vector import Columns, NumpyVectorEnv

SMALLEST = 5  # rows and columns


class CatchVectorEnv(NumpyVectorEnv):
    """Observation uint8 `[rows, columns, 1]`: 255 where ball or paddle are, else 0.

    Actions are left, stay, right. An episode is `rows - 1` steps; its last pays 1 if the ball was caught, else -1, so
    the mean return is -1 to 1, and about -0.8 for whoever moves at random on 10 x 10.
    """

    state_names: ClassVar[tuple[str, ...]] = ("ball", "paddle")

    def __init__(
        self,
        num_envs: int = 1,
        rows: int = 10,
        columns: int = 10,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if min(rows, columns) < SMALLEST:
            raise EnvError(f"Catch: rows and columns must be at least {SMALLEST}, found {rows} and {columns}")
        self.rows, self.columns = rows, columns
        self.single_observation_space = spaces.Box(0, 255, (rows, columns, 1), np.uint8)
        self.single_action_space = spaces.Discrete(3)
        super().__init__(num_envs, max_episode_steps, render_mode)
        self.ball = np.zeros((num_envs, 2), np.int64)  # row and column
        self.paddle = np.zeros(num_envs, np.int64)

    def begin(self, columns: Columns) -> None:
        for i in columns:
            self.ball[i] = 0, self.generators[i].integers(self.columns)
        self.paddle[columns] = self.columns // 2

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self.paddle = np.clip(self.paddle + actions - 1, 0, self.columns - 1)
        self.ball[:, 0] = np.minimum(self.ball[:, 0] + 1, self.rows - 1)  # one that has landed waits to be thrown again
        landed = self.ball[:, 0] == self.rows - 1
        caught = self.ball[:, 1] == self.paddle
        return np.where(landed, np.where(caught, 1.0, -1.0), 0.0), landed

    def observe(self) -> NDArray[np.uint8]:
        picture = np.zeros((self.num_envs, self.rows, self.columns, 1), np.uint8)
        column = np.arange(self.num_envs)
        picture[column, self.ball[:, 0], self.ball[:, 1]] = 255
        picture[column, self.rows - 1, self.paddle] = 255
        return picture
