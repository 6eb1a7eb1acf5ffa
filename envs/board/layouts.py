"""What the numbers of open_spiel's observations mean in each game, and how a board is turned for the side to move.

C planes, H rows, W columns, A actions; players are open_spiel's 0 and 1 (in chess player 1, White, moves first). The
meanings were found by comparing observations with the printed position; `tests/envs/board/test_planes.py` does so
again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.board.games import parameters_of
from triathlon.envs.errors import EnvError

Turn = Literal["none", "ranks", "half", "transpose"]
"""What is done to a board: nothing, ranks reversed, turned by half a turn, rows and columns exchanged."""

Order = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How open_spiel's observation becomes the view of the side to move: own pieces, the opponent's, the rest.

    Where a game's rules tell the players apart by direction, the board is turned for player `turned`, and so are the
    actions, so that whoever moves plays in the same direction.
    """

    raw: tuple[int, ...]  # open_spiel's numbers, of which the first axis is put into order
    orders: tuple[Order, Order]  # what players 0 and 1 see along the first axis
    turn: Turn = "none"
    turned: int = 1
    actions: NDArray[np.intp] | None = None  # [A]: what an action of player `turned` is called in the game
    binary: bool = True  # all numbers are 0 or 1
    flat: bool = False  # no picture of a board: seen as a vector
    tell_side: bool = False  # a plane (a number) with the player to move is added: the board is not turned
    glyphs: str = ""  # for drawing, a letter for each of the first planes and again for the opponent's; ".": a stone
    rows_up: bool = False  # row 0 is the lowest on paper
    worth: tuple[float, ...] = ()  # of the pieces on each of the first planes, and again of the opponent's

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is seen: `(C, H, W)`, or `(number of features,)`."""
        num_kept = len(self.orders[0])
        if self.flat:
            return (num_kept * int(np.prod(self.raw[1:], dtype=int)) + self.tell_side,)
        return (num_kept + self.tell_side, *self.raw[1:])

    def arrange(self, raw: NDArray[Any], player: int) -> NDArray[Any]:
        """`[N, *]` numbers as open_spiel gives them to `[N, *shape]` as `player` sees them."""
        seen = np.take(raw.reshape(-1, *self.raw), self.orders[player], axis=1)
        if player == self.turned:
            seen = TURNS[self.turn](seen)
        seen = seen.reshape(len(seen), -1) if self.flat else seen
        if self.tell_side:
            side = np.full((len(seen), 1, *seen.shape[2:]), player, seen.dtype)
            seen = np.concatenate([seen, side], axis=1)
        return seen


TURNS: dict[Turn, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "none": lambda board: board,
    "ranks": lambda board: board[..., ::-1, :],
    "half": lambda board: board[..., ::-1, ::-1],
    "transpose": lambda board: board.swapaxes(-1, -2),
}


def layout_of(game: Any) -> Layout:
    """The layout of a `pyspiel.Game`; one that names the side to move where nothing is known about the game."""
    name = game.get_type().short_name
    return (LAYOUTS[name](game) if name in LAYOUTS else None) or _unknown(game)


def _unknown(game: Any) -> Layout:
    """As open_spiel gives it to the side to move, and which player that is."""
    shape = _shape(game)
    order = tuple(range(shape[0]))
    return Layout(shape, (order, order), binary=False, flat=len(shape) != 3, tell_side=True)


def _shape(game: Any) -> tuple[int, ...]:
    return tuple(game.observation_tensor_shape())


def _stones(first: Order, second: Order, **settings: Any) -> Callable[[Any], Layout]:
    """A game on a board that looks alike for both players, seen in these orders by players 0 and 1."""
    return lambda game: Layout(_shape(game), (first, second), **({"glyphs": "."} | settings))


def _breakthrough(game: Any) -> Layout:
    """Player 0 (black) goes down the rows. Actions: row, column, direction (three down, three up), whether it takes."""
    shape = _shape(game)
    row, column, direction, takes = np.unravel_index(np.arange(shape[1] * shape[2] * 12), (*shape[1:], 6, 2))
    turned = (shape[1] - 1 - row, column, (direction + 3) % 6, takes)
    actions = np.ravel_multi_index(turned, (*shape[1:], 6, 2))
    return Layout(shape, ((0, 1, 2), (1, 0, 2)), "ranks", actions=actions, glyphs=".", worth=(1,))


def _checkers(game: Any) -> Layout | None:
    """Player 0 goes up. Actions: row, column, direction (clockwise), whether it takes. Half a turn keeps dark dark."""
    shape = _shape(game)
    if (shape[1] + shape[2]) % 2:
        return None
    row, column, direction, takes = np.unravel_index(np.arange(shape[1] * shape[2] * 8), (*shape[1:], 4, 2))
    turned = (shape[1] - 1 - row, shape[2] - 1 - column, (direction + 2) % 4, takes)
    actions = np.ravel_multi_index(turned, (*shape[1:], 4, 2))
    own: Order = (0, 1, 2, 3, 4)
    second: Order = own if parameters_of(game)["egocentric"] else (2, 3, 0, 1, 4)
    return Layout(shape, (own, second), "half", actions=actions, glyphs=".K", worth=(1, 2))


def _chess(game: Any) -> Layout:
    """White is player 1; planes alternate White, Black from king to pawn. The actions are already turned for Black.

    Kept: empty squares, repetitions, the count to fifty moves, castling rights (queen's side, king's side). Whose turn
    it is (plane 14) is not: the board is turned.
    """
    shape = _shape(game)
    castling = ((16, 17, 18, 19), (18, 19, 16, 17)) if shape[0] == 20 else ((), ())
    white, black = (0, 2, 4, 6, 8, 10), (1, 3, 5, 7, 9, 11)
    orders = (
        (*black, *white, 12, 13, 15, *castling[1]),
        (*white, *black, 12, 13, 15, *castling[0]),
    )
    return Layout(
        shape, orders, "ranks", turned=0, binary=False, glyphs="KQRBNP", rows_up=True, worth=(0, 9, 5, 3, 3, 1)
    )


def _connect_four(game: Any) -> Layout:
    """With `egocentric_obs_tensor` open_spiel puts the opponent first."""
    first = (1, 0, 2) if parameters_of(game)["egocentric_obs_tensor"] else (0, 1, 2)
    return Layout(_shape(game), (first, (1, 0, 2)), glyphs=".", rows_up=True)


def _hex(game: Any) -> Layout:
    """Player 0 joins the first row to the last, player 1 the first column to the last.

    Own stones by what they are joined to: nothing, the last row, the first, both (the stone that won). The pie rule
    (`swap`) gives the first stone, mirrored, to player 1: its action comes after those of the cells.
    """
    channels, height, width = _shape(game)
    if height != width:
        raise EnvError(
            f"board/hex: open_spiel's observation of a board that is not square confuses its cells; "
            f"set parameters.board_size, found {width} rows and {height} columns"
        )
    actions = np.arange(game.num_distinct_actions())
    actions[: height * width] = actions[: height * width].reshape(height, width).T.reshape(-1)
    if channels == 3:
        orders: tuple[Order, Order] = ((0, 1, 2), (1, 0, 2))
    else:
        orders = ((5, 6, 7, 8, 3, 2, 1, 0, 4), (3, 2, 1, 0, 5, 6, 7, 8, 4))
    glyphs = "." * (channels // 2)
    return Layout((channels, height, width), orders, "transpose", actions=actions, glyphs=glyphs)


def _gomoku(game: Any) -> Layout | None:
    """The third plane is whose turn it is, which own and other stones say already."""
    parameters = parameters_of(game)
    if parameters["dims"] != 2:
        return None
    return Layout((3, parameters["size"], parameters["size"]), ((0, 1), (1, 0)), glyphs=".")


def _backgammon(game: Any) -> Layout:
    """Four numbers a point, own points first; then bar, score, turn of both, and the dice.

    For both the first point is the one farthest from home, as in the names of the moves (24 to 1).
    """
    points = tuple(range(24))
    far_first = (points, points[::-1])
    first, second = ((*own, *(24 + point for point in own), 48, 49) for own in far_first)
    return Layout((50, 4), (first, second), binary=False, flat=True)


def _dots_and_boxes(game: Any) -> Layout:
    """What is owned by whom, of each corner's lines and box."""
    return Layout((3, int(np.prod(_shape(game)[1:]))), ((1, 2, 0), (2, 1, 0)), flat=True)


def _mancala(game: Any) -> Layout:
    """Own pits and store, then the opponent's. Player 1's pits are 7 further than player 0's."""
    first = (*range(1, 14), 0)
    second = tuple((pit + 7) % 14 for pit in first)
    return Layout((16, 1), (first, second), actions=(np.arange(14) + 7) % 14, binary=False, flat=True)


def _oware(game: Any) -> Layout:
    """Own houses, the opponent's, own score, the opponent's."""
    houses = parameters_of(game)["num_houses_per_player"]
    first = tuple(range(2 * houses + 2))
    second = (*range(houses, 2 * houses), *range(houses), 2 * houses + 1, 2 * houses)
    return Layout((2 * houses + 2, 1), (first, second), binary=False, flat=True)


SEEN_BY_MOVER = _stones((0, 1, 2), (0, 1, 2))  # open_spiel itself puts own stones first

LAYOUTS: dict[str, Callable[[Any], Layout | None]] = {
    "amazons": _stones((2, 1, 3, 0), (1, 2, 3, 0), glyphs=""),  # arrows would not be drawn
    "antichess": lambda game: replace(_chess(game), worth=()),  # whoever has nothing left wins
    "backgammon": _backgammon,
    "breakthrough": _breakthrough,
    "checkers": _checkers,
    "chess": _chess,
    "clobber": SEEN_BY_MOVER,
    "connect_four": _connect_four,
    "dots_and_boxes": _dots_and_boxes,
    "go": _stones((0, 1, 2, 3), (1, 0, 2, 3), rows_up=True),  # the last plane is 1 where White, who has komi, moves
    "gomoku": _gomoku,
    "havannah": SEEN_BY_MOVER,
    "hex": _hex,
    "lines_of_action": _stones((0, 1, 2), (1, 0, 2), rows_up=True),
    "mancala": _mancala,
    "mnk": _stones((2, 1, 0), (1, 2, 0)),
    "nine_mens_morris": _stones((0, 1, 2, 3, 4), (1, 0, 2, 3, 4)),
    "othello": _stones((1, 2, 0), (1, 2, 0)),
    "oware": _oware,
    "pentago": SEEN_BY_MOVER,
    "tic_tac_toe": _stones((2, 1, 0), (1, 2, 0)),
    "y": SEEN_BY_MOVER,
}

__all__ = ["LAYOUTS", "Layout", "layout_of"]
