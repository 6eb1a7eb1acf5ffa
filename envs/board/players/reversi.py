"""Othello by PyPI `rust-reversi`: alpha-beta to a fixed depth over a count of discs, of moves or of squares' worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triathlon.envs.errors import EnvError
from triathlon.envs.lookup import needs_extra

if TYPE_CHECKING:
    import pyspiel

PASS = 64  # open_spiel's action; a square's action is its number from a1 along the rows, as in rust-reversi
WIN_SCORE = 1 << 14  # above anything that is counted

# What a position at the depth limit is worth: the difference in discs, in legal moves, or in the worth of the squares.
COUNTS = ("discs", "mobility", "squares")

# Norvig 1992, "Paradigms of Artificial Intelligence Programming", section 18.4: one quarter of the board.
SQUARES = ((120, -20, 20, 5), (-20, -40, -5, -5), (20, -5, 15, 3), (5, -5, 3, 3))


class ReversiPlayer:
    """rust-reversi's alpha-beta search to `depth` plies after its move. It draws nothing: give it random openings.

    Counting discs, as in the library's own example, is weak: at depth 3 it scores 87.5 % against random play (95 %
    interval 82 to 91) and 11.0 % (7 to 16) against the same depth counting squares. Each by
    `play_match(rust-reversi:3, the other, othello, 200, np.random.default_rng(0), "random", 4)`, players drawing by
    `default_rng(1)` and `default_rng(2)`.

    Raises:
        EnvError: the game is not othello, or rust-reversi is not installed.
    """

    def __init__(self, game: pyspiel.Game, depth: int, counts: str = "discs", name: str | None = None) -> None:
        self.name = name or f"rust-reversi:{depth}:{counts}"
        if game.get_type().short_name != "othello":
            raise EnvError(f"{self.name} plays othello, not {game}")
        try:
            import rust_reversi
        except ImportError as error:
            raise EnvError(needs_extra(self.name, "rust-reversi", "engines")) from error
        self._rust: Any = rust_reversi
        self._search = rust_reversi.AlphaBetaSearch(_evaluator(rust_reversi, counts), depth, WIN_SCORE)

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        return [self._choose(state) for state in states]

    def _choose(self, state: pyspiel.State) -> int:
        return PASS if state.legal_actions() == [PASS] else int(self._search.get_move(self._board(state)))

    def _board(self, state: pyspiel.State) -> Any:
        mover = state.current_player()
        discs = "".join("".join(line.split()[1:-1]) for line in str(state).splitlines()[2:10])
        own, other = (int("".join(str(int(disc == side)) for disc in discs), 2) for side in ("xo", "ox")[mover])
        board = self._rust.Board()
        board.set_board(own, other, (self._rust.Turn.BLACK, self._rust.Turn.WHITE)[mover])
        return board

    def close(self) -> None:
        pass


def _evaluator(rust: Any, counts: str) -> Any:
    if counts == "discs":
        return rust.PieceEvaluator()
    if counts == "mobility":
        return rust.LegalNumEvaluator()
    half = [[*row, *row[::-1]] for row in SQUARES]
    return rust.MatrixEvaluator(half + half[::-1])


__all__ = ["COUNTS", "ReversiPlayer"]
