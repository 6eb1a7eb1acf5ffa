"""Observations and legal actions of N games from the side to move, in arrays.

N games, A actions, C planes, H rows, W columns. What the planes of a game are stands in `layouts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.envs.board.games import is_perfect, spiel
from triathlon.envs.board.layouts import Layout, layout_of


class Planes:
    """What the side to move sees and may do: own pieces first, then the opponent's, then the rest.

    Where the players play in different directions, board and actions are turned so that the side to move always plays
    in the same one. `space` is a Box `(C, H, W)` where the game has a board, else `(D,)`; bytes of 0 and 1 where
    nothing else occurs, else float32.
    """

    def __init__(self, game: Any) -> None:
        from open_spiel.python.observation import make_observation

        if is_perfect(game.get_type()):
            self._observation = make_observation(game)
            self.layout = layout_of(game)
        else:
            perfect_recall = spiel().IIGObservationType(perfect_recall=True)
            self._observation = make_observation(game, perfect_recall)
            self.layout = _information_state(self._observation)
        self.num_actions: int = game.num_distinct_actions()
        self.space = _box(self.layout)
        own, actions = np.arange(self.num_actions), self.layout.actions
        names = [own if actions is None or player != self.layout.turned else actions for player in (0, 1)]
        self._game_action = np.stack(names)  # [2, A]: what the action of a player is called in the game
        self._own_action = np.argsort(self._game_action, axis=1)  # [2, A]: the inverse

    def see(self, states: Sequence[Any], players: NDArray[np.intp]) -> NDArray[Any]:
        """What `players [N]` see of N states: `[N, *space.shape]`."""
        raw = np.empty((len(states), len(self._observation.tensor)), self.space.dtype)
        set_from, tensor = self._observation.set_from, self._observation.tensor
        for row, state, player in zip(raw, states, players.tolist(), strict=True):
            set_from(state, player)
            row[:] = tensor
        seen = np.empty((len(states), *self.layout.shape), raw.dtype)
        for player in (0, 1):
            rows = np.flatnonzero(players == player)
            if len(rows):
                seen[rows] = self.layout.arrange(raw[rows], player)
        return seen

    def legal(self, states: Sequence[Any], players: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which actions `players [N]` may choose, `[N, A]` by their own names; all where a game is over."""
        actions = [state.legal_actions() for state in states]
        counts = np.array([len(each) for each in actions])
        mask = np.zeros((len(states), self.num_actions), np.bool_)
        columns = np.fromiter(chain.from_iterable(actions), np.intp, counts.sum())
        if self.layout.actions is not None:
            columns = self._own_action[np.repeat(players, counts), columns]
        mask[np.repeat(np.arange(len(states)), counts), columns] = True
        mask[counts == 0] = True
        return mask

    def to_game(self, actions: NDArray[np.intp], players: NDArray[np.intp]) -> NDArray[np.intp]:
        """What the `actions [N]` of `players [N]` are called in the game."""
        return actions if self.layout.actions is None else self._game_action[players, actions]

    def from_game(self, actions: NDArray[np.intp], players: NDArray[np.intp]) -> NDArray[np.intp]:
        """What the game's `actions [N]` are called by `players [N]`."""
        return actions if self.layout.actions is None else self._own_action[players, actions]


def _information_state(observation: Any) -> Layout:
    """All that a player has seen and done, as a vector; who the player is is added where it does not say so."""
    size = len(observation.tensor)
    order = tuple(range(size))
    tells = "player" in observation.dict
    return Layout((size, 1), (order, order), binary=False, flat=True, tell_side=not tells)


def _box(layout: Layout) -> spaces.Box:
    if layout.binary:
        return spaces.Box(0, 1, layout.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, layout.shape, np.float32)


__all__ = ["Planes"]
