"""Othello by PyPI `rust-reversi`: alpha-beta to a fixed depth over the difference in discs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triathlon.envs.errors import EnvError
from triathlon.envs.lookup import needs_extra

if TYPE_CHECKING:
    import pyspiel

PASS = 64  # open_spiel's action; a square's action is its number from a1 along the rows, as in rust-reversi
WIN_SCORE = 1 << 10  # above any difference in discs


class ReversiPlayer:
    """rust-reversi's alpha-beta with its `PieceEvaluator`. It draws nothing at random: give it random openings.

    Raises:
        EnvError: the game is not othello, or rust-reversi is not installed.
    """

    def __init__(self, game: pyspiel.Game, depth: int, name: str | None = None) -> None:
        self.name = name or f"rust-reversi:{depth}"
        if game.get_type().short_name != "othello":
            raise EnvError(f"{self.name} plays othello, not {game}")
        try:
            import rust_reversi
        except ImportError as error:
            raise EnvError(needs_extra(self.name, "rust-reversi", "engines")) from error
        self._rust = rust_reversi
        self._search = rust_reversi.AlphaBetaSearch(rust_reversi.PieceEvaluator(), depth, WIN_SCORE)

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        return [
            PASS if state.legal_actions() == [PASS] else self._search.get_move(self._board(state)) for state in states
        ]

    def _board(self, state: pyspiel.State) -> object:
        mover = state.current_player()
        discs = "".join("".join(line.split()[1:-1]) for line in str(state).splitlines()[2:10])
        board = self._rust.Board()
        own, other = (int(discs.translate(str.maketrans(to)), 2) for to in _BITS[mover])
        board.set_board(own, other, (self._rust.Turn.BLACK, self._rust.Turn.WHITE)[mover])
        return board

    def close(self) -> None:
        pass


# For each mover: what turns open_spiel's x (black) and o (white) into the bits of its own discs and the other side's.
_BLACK, _WHITE = {"x": "1", "o": "0", "-": "0"}, {"x": "0", "o": "1", "-": "0"}
_BITS = ((_BLACK, _WHITE), (_WHITE, _BLACK))

__all__ = ["ReversiPlayer"]
