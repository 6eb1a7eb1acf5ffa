"""Boards that may as well be seen mirrored or turned: the same game by other names of its cells.

N games, G symmetries, A actions, C planes, H rows, W columns. A symmetry here maps the initial position to itself, so
that a game seen through one is a game that could be played from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.board.games import NAMESPACE
from triathlon.envs.errors import EnvError

Index = NDArray[np.intp]
Turn = Callable[[Index], Index]


@dataclass(frozen=True)
class Symmetries:
    """G ways of seeing a board from the side to move; number 0 is the board as it is.

    What is seen are the planes of `Planes.see`, and actions are those of the side to move.
    """

    numbers: Index  # [G, C * H * W]: which of the numbers is seen at each place
    actions: Index  # [G, A]: what an action on the board that is seen is called on the board as it is

    def __len__(self) -> int:
        return len(self.numbers)

    def see(self, obs: NDArray[Any], views: Index) -> NDArray[Any]:
        """The planes `[N, C, H, W]` through the symmetries `views [N]`."""
        seen = np.take_along_axis(obs.reshape(len(obs), -1), self.numbers[views], 1)
        return seen.reshape(obs.shape)

    def legal(self, mask: NDArray[np.bool_], views: Index) -> NDArray[np.bool_]:
        """The legal actions `[N, A]` by their names on the boards that are seen."""
        return np.take_along_axis(mask, self.actions[views], 1)


class Views:
    """How each of N games is seen: through a symmetry drawn when it begins, or as it is where there are none."""

    def __init__(self, symmetries: Symmetries | None, num_games: int) -> None:
        self._symmetries = symmetries
        self._drawn = np.zeros(num_games, np.intp)

    def begin(self, game: int, rng: np.random.Generator) -> None:
        """Draw how a new game is seen."""
        if self._symmetries is not None:
            self._drawn[game] = rng.integers(len(self._symmetries))

    def see(self, obs: NDArray[Any]) -> NDArray[Any]:
        """The planes of all N games as they are seen."""
        return obs if self._symmetries is None else self._symmetries.see(obs, self._drawn)

    def legal(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The legal actions `[N, A]` by their names on the boards that are seen."""
        return mask if self._symmetries is None else self._symmetries.legal(mask, self._drawn)

    def own(self, actions: Index) -> Index:
        """What actions `[N]` or `[N, A]` on the boards that are seen are called on the boards as they are."""
        if self._symmetries is None:
            return actions
        return self._symmetries.actions[self._drawn.reshape(-1, *[1] * (actions.ndim - 1)), actions]

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on."""
        return {} if self._symmetries is None else {"views": self._drawn.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to what `get_state` gave.

        Raises:
            EnvError: games that were seen through symmetries are to go on without, or the other way round.
        """
        if (was := "views" in state) != (now := self._symmetries is not None):
            raise EnvError(
                f"env.board.symmetries is {str(now).lower()}, but the games under way were saved with it "
                f"{str(was).lower()}; set it to {str(was).lower()}"
            )
        if self._symmetries is not None:
            self._drawn = state["views"].copy()


def symmetries_of(
    game: Any, shape: tuple[int, ...], setting: str = "env.board.symmetries", remedy: str = "set it to false"
) -> Symmetries:
    """The symmetries of a `pyspiel.Game` whose planes have this `shape (C, H, W)`.

    `setting` is what asks for them, and `remedy` what to do with it where there are none.

    Raises:
        EnvError: none is known.
    """
    name = game.get_type().short_name
    if name not in SYMMETRIES:
        raise EnvError(
            f"{setting}: {NAMESPACE}/{name} has no symmetry that is known here; {remedy} "
            f"(games with some: {', '.join(SYMMETRIES)})"
        )
    if len(shape) != 3:
        raise EnvError(f"{setting}: symmetries are known of boards in a plane, and {game} is none; {remedy}")
    return SYMMETRIES[name](game, shape)


# Boards of H x W to boards of the same size.
MIRRORED: tuple[Turn, ...] = (lambda board: board, lambda board: board[:, ::-1])
RECTANGLE: tuple[Turn, ...] = (*MIRRORED, lambda board: board[::-1], lambda board: board[::-1, ::-1])
HALF_TURN: tuple[Turn, ...] = (lambda board: board, lambda board: board[::-1, ::-1])
DIAGONALS: tuple[Turn, ...] = (*HALF_TURN, lambda board: board.T, lambda board: board[::-1, ::-1].T)
SQUARE: tuple[Turn, ...] = (
    *RECTANGLE,
    *(lambda board: board.T, lambda board: board[:, ::-1].T, lambda board: board[::-1].T),
    lambda board: board[::-1, ::-1].T,
)


def _all(game: Any, shape: tuple[int, ...]) -> Symmetries:
    """A stone on any cell; a board without a front or sides."""
    return _stones(SQUARE if shape[1] == shape[2] else RECTANGLE)(game, shape)


def _stones(turns: Sequence[Turn]) -> Callable[[Any, tuple[int, ...]], Symmetries]:
    """Action i puts a stone on cell i, rows one after the other; actions after those of the cells (a pass) remain."""

    def make(game: Any, shape: tuple[int, ...]) -> Symmetries:
        cells = _cells(turns, shape)
        others = np.arange(cells.shape[1], game.num_distinct_actions())
        actions = np.hstack([cells, np.tile(others, (len(cells), 1))])
        return Symmetries(_numbers(cells, shape), actions)

    return make


def _connect_four(game: Any, shape: tuple[int, ...]) -> Symmetries:
    """Action i is column i."""
    columns = np.arange(shape[2])
    return Symmetries(_numbers(_cells(MIRRORED, shape), shape), np.stack([columns, columns[::-1]]))


def _breakthrough(game: Any, shape: tuple[int, ...]) -> Symmetries:
    """Actions: row, column, direction (to the left, straight on, to the right; down, then up), whether it takes."""
    sizes = (*shape[1:], 6, 2)
    own = np.arange(np.prod(sizes))
    row, column, direction, takes = np.unravel_index(own, sizes)
    other_way = np.array([2, 1, 0, 5, 4, 3])[direction]
    mirrored = np.ravel_multi_index((row, shape[2] - 1 - column, other_way, takes), sizes)
    return Symmetries(_numbers(_cells(MIRRORED, shape), shape), np.stack([own, mirrored]))


def _hex(game: Any, shape: tuple[int, ...]) -> Symmetries:
    """After half a turn stones that were joined to the first row are joined to the last: these planes are exchanged."""
    symmetries = _stones(HALF_TURN)(game, shape)
    if shape[0] == 9:
        numbers = symmetries.numbers.reshape(2, *shape)
        numbers[1] = numbers[1, [0, 2, 1, 3, 4, 6, 5, 7, 8]]
    return symmetries


def _cells(turns: Sequence[Turn], shape: tuple[int, ...]) -> Index:
    """`[G, H * W]`: which cell is seen at each."""
    board = np.arange(shape[1] * shape[2]).reshape(shape[1:])
    return np.stack([turn(board).reshape(-1) for turn in turns])


def _numbers(cells: Index, shape: tuple[int, ...]) -> Index:
    """`[G, C * H * W]` from `[G, H * W]`: all planes alike."""
    planes = np.arange(shape[0])[:, None] * cells.shape[1]
    numbers: Index = (planes + cells[:, None]).reshape(len(cells), -1)
    return numbers


SYMMETRIES: dict[str, Callable[[Any, tuple[int, ...]], Symmetries]] = {
    "breakthrough": _breakthrough,
    "connect_four": _connect_four,
    "go": _all,
    "gomoku": _all,
    "hex": _hex,
    "mnk": _all,
    "othello": _stones(DIAGONALS),  # the four discs that the game begins with have only these
    "tic_tac_toe": _all,
}

__all__ = ["SYMMETRIES", "Symmetries", "Views", "symmetries_of"]
