"""MinAtar's five small Atari-like games as `MinAtar/<Game>-v1` (the actions a game uses) and `-v0` (all six).

Young and Tian, "MinAtar" (2019), arXiv:1903.03176: pictures of 10 × 10 cells with one channel for each kind of object,
sticky actions with probability 0.1, difficulty that grows. Needs the extra `minatar`. H height, W width, C kinds.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError
from triathlon.envs.lookup import needs_extra
from triathlon.envs.state import decode, encode

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}
# A dark ground, then a colour for each kind of object.
PALETTE = np.array(
    [
        *([20, 20, 30], [240, 240, 240], [230, 90, 70], [250, 200, 80], [90, 180, 110], [80, 140, 230]),
        *([190, 110, 220], [90, 210, 210], [240, 150, 190], [150, 150, 90], [130, 90, 60]),
    ],
    np.uint8,
)
CELL = 16  # pixels of a drawn cell


class MinAtarEnv(gym.Env[NDArray[np.uint8], int]):
    """One MinAtar game; observation uint8 `[10, 10, C]` of 0 and 1.

    MinAtar's own Gymnasium class needs matplotlib and seaborn to be seen and gives bool pictures; this one plays the
    same game objects with Gymnasium's generator, sees them as uint8 and can be saved exactly.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def __init__(
        self,
        game: str,
        minimal_actions: bool = True,
        sticky_action_prob: float = 0.1,
        difficulty_ramping: bool = True,
        render_mode: str | None = None,
    ) -> None:
        try:
            module = import_module(f"minatar.environments.{game}")
        except ModuleNotFoundError as error:
            raise EnvError(needs_extra(f"MinAtar {game}", "minatar", "minatar")) from error
        if not 0.0 <= sticky_action_prob <= 1.0:
            raise EnvError(f"MinAtar: sticky_action_prob must be from 0 to 1, found {sticky_action_prob}")
        self.game = module.Env(ramping=difficulty_ramping)
        self.actions = list(self.game.minimal_action_set()) if minimal_actions else list(range(6))
        self.sticky_action_prob = sticky_action_prob
        self.last_action = 0
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(len(self.actions))
        self.observation_space = spaces.Box(0, 1, tuple(self.game.state_shape()), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self._share_generator()
        self.last_action = 0
        self.game.reset()
        return self._see(), {}

    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        if self.np_random.random() >= self.sticky_action_prob:
            self.last_action = self.actions[action]
        reward, terminated = self.game.act(self.last_action)
        return self._see(), float(reward), bool(terminated), False, {}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The board `[160, 160, 3]`: where kinds overlap, the last channel is on top."""
        if self.render_mode is None:
            return None
        top = np.max(self._see() * np.arange(1, self.observation_space.shape[2] + 1), axis=2)  # type: ignore[index]
        picture: NDArray[np.uint8] = PALETTE[top].repeat(CELL, axis=0).repeat(CELL, axis=1)
        return picture

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on, as arrays and JSON values."""
        game = {name: encode(value) for name, value in vars(self.game).items() if name != "random"}
        return {"game": game, "last_action": self.last_action, "generator": encode(self.np_random)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to what `get_state` saved."""
        for name, value in state["game"].items():
            setattr(self.game, name, decode(value))
        self.last_action = state["last_action"]
        self.np_random = decode(state["generator"])
        self._share_generator()

    def _share_generator(self) -> None:
        # The games were written for RandomState; over the same bit generator there is one stream to seed and to save.
        self.game.random = np.random.RandomState(self.np_random.bit_generator)

    def _see(self) -> NDArray[np.uint8]:
        state: NDArray[np.uint8] = self.game.state().astype(np.uint8)
        return state


def register() -> None:
    """Make the ten ids known to Gymnasium, in place of those that MinAtar's own package may have registered."""
    for name, game in GAMES.items():
        for version, minimal in ((0, False), (1, True)):
            id = f"MinAtar/{name}-v{version}"
            gym.registry.pop(id, None)
            gym.register(
                id, entry_point="triathlon.envs.minatar:MinAtarEnv", kwargs={"game": game, "minimal_actions": minimal}
            )
