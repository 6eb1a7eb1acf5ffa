"""CartPole seen as a small grey film: an image task that a CPU learns in minutes.

B environments (columns), H height, W width, C frames (oldest first).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError
from triathlon.envs.vector import Columns, NumpyVectorEnv

START = 0.05  # bound of each number of the first state, as in Gymnasium's CartPole
CART_ROWS = 4
POLE_ROWS = 18  # three times the pole's true length: one degree moves its tip by a third of a pixel
CART_HALF_WIDTH = 2.5  # pixels
POLE_HALF_WIDTH = 0.8


class CartPolePixelsVectorEnv(NumpyVectorEnv):
    """CartPole-v1 whose observation is the last `num_frames` pictures, uint8 `[24, 32, num_frames]`.

    The physics are those of Gymnasium's `CartPoleVectorEnv`. Edges are drawn soft, so that a movement of a tenth of a
    pixel is visible as a change of grey: two frames show the velocities as they were before the last action, which is
    enough for a linear controller to reach 500. An episode's first picture stands in for those before it.
    """

    height: ClassVar[int] = 24
    width: ClassVar[int] = 32
    state_names: ClassVar[tuple[str, ...]] = ("cart_state", "frames")

    def __init__(
        self,
        num_envs: int = 1,
        num_frames: int = 2,
        max_episode_steps: int | None = 500,
        render_mode: str | None = None,
    ) -> None:
        if num_frames < 1:
            raise EnvError(f"CartPolePixels: num_frames must be at least 1, found {num_frames}")
        self.single_observation_space = spaces.Box(0, 255, (self.height, self.width, num_frames), np.uint8)
        self.single_action_space = spaces.Discrete(2)
        super().__init__(num_envs, max_episode_steps, render_mode)
        self.physics = CartPoleVectorEnv(num_envs)
        self.cart_state = np.zeros((4, num_envs))
        self.frames = np.zeros((num_envs, self.height, self.width, num_frames), np.uint8)

    @property
    def cart_state(self) -> NDArray[np.float64]:
        """Position, velocity, angle and angular velocity, `[4, B]`."""
        return np.asarray(self.physics.state)

    @cart_state.setter
    def cart_state(self, state: NDArray[np.float64]) -> None:
        self.physics.state = state  # type: ignore[assignment]  # Gymnasium declares only the None it starts as

    def begin(self, columns: Columns) -> None:
        for i in columns:
            self.cart_state[:, i] = self.generators[i].uniform(-START, START, 4)
        pictures = draw_cart_pole(self.cart_state[0, columns], self.cart_state[2, columns])
        self.frames[columns] = pictures[..., None]

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        # Episodes are counted and begun here, so the physics must do neither.
        self.physics.prev_done[:] = False
        self.physics.steps[:] = 0
        _, _, terminated, _, _ = self.physics.step(actions)
        self.frames[..., :-1] = self.frames[..., 1:]
        self.frames[..., -1] = draw_cart_pole(self.cart_state[0], self.cart_state[2])
        return np.ones(self.num_envs), terminated

    def observe(self) -> NDArray[np.uint8]:
        return self.frames.copy()


def draw_cart_pole(x: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Carts at `x [B]` (metres, -2.4 to 2.4 in view) with poles at `theta [B]` (radians), as pictures `[B, H, W]`.

    Every row shows one bar: `half` wide to either side of `middle`, its edges one pixel soft.
    """
    height, width = CartPolePixelsVectorEnv.height, CartPolePixelsVectorEnv.width
    above_cart = np.arange(height - CART_ROWS - 0.5, -CART_ROWS, -1.0)  # of each row's centre, top row first
    is_cart, is_pole = above_cart < 0, (above_cart >= 0) & (above_cart < POLE_ROWS)
    half = np.select([is_cart, is_pole], [CART_HALF_WIDTH, POLE_HALF_WIDTH], -1.0)
    middle = (x[:, None] + 2.4) * (width / 4.8) + np.maximum(above_cart, 0.0) * np.tan(np.clip(theta, -1, 1))[:, None]
    distance = np.abs(np.arange(width) + 0.5 - middle[..., None])
    return np.asarray(255.0 * np.clip(half[:, None] + 0.5 - distance, 0.0, 1.0)).astype(np.uint8)
