"""A board game in a terminal: the board as text, moves by name, and a person as a player."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from triathlon.envs.board.games import is_perfect
from triathlon.envs.board.planes import Planes

if TYPE_CHECKING:
    import pyspiel

CELLS = ("tic_tac_toe", "mnk", "gomoku")  # an action is a cell, which open_spiel names by row and column
GRIDS = (*CELLS, "connect_four", "hex", "chess", "antichess")  # which open_spiel prints without names
HELP = "Type a move; moves: all legal moves; ?: what the agent thinks; undo: take back; quit: leave; help: this."


class TakeBack(Exception):
    """The person wants to have the last move back."""


class Leave(Exception):
    """The person has had enough, or there is nobody."""


class Console:
    """Prints and reads lines, and remembers both."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.lines += text.splitlines() or [""]

    def ask(self, prompt: str) -> str:
        """A line from the person.

        Raises:
            Leave: there is no more to read.
        """
        try:
            answer = input(prompt)
        except EOFError as error:
            print()
            raise Leave from error
        self.lines.append(prompt + answer)
        return answer.strip()


class HumanPlayer:
    """A person at the terminal. `thoughts(state)` is what is said on `?`."""

    def __init__(self, console: Console, thoughts: Callable[[pyspiel.State], str], name: str = "you") -> None:
        self.name = name
        self._console, self._thoughts = console, thoughts

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        """Asks until a legal move is typed.

        Raises:
            TakeBack, Leave: what the person typed instead.
        """
        return [self._choose(state) for state in states]

    def close(self) -> None:
        """A person goes by himself."""

    def _choose(self, state: pyspiel.State) -> int:
        while True:
            typed = self._console.ask("Your move: ")
            if typed in ("undo", "u"):
                raise TakeBack
            if typed in ("quit", "q"):
                raise Leave
            if typed in ("help", "h", ""):
                self._console.say(HELP)
            elif typed == "?":
                self._console.say(self._thoughts(state))
            elif typed == "moves":
                self._console.say(_listed(state))
            elif (action := find_move(state, typed)) is not None:
                return action
            else:
                self._console.say(f"There is no move {typed!r} here. {_listed(state)} (help: all that can be typed)")


def find_move(state: pyspiel.State, typed: str) -> int | None:
    """The legal action that a name means; capitals matter only where moves differ by nothing else, as in chess."""
    wanted = _squeezed(typed)
    exact, loose = set[int](), set[int]()
    for action in state.legal_actions():
        text = state.action_to_string(state.current_player(), action)
        names = {_squeezed(text), _squeezed(move_name(state, action))}
        if wanted in names:
            exact.add(action)
        if wanted.lower() in {name.lower() for name in names}:
            loose.add(action)
    found = exact or loose
    return found.pop() if len(found) == 1 else None


def move_name(state: pyspiel.State, action: int) -> str:
    """What the player to move calls an action: a cell such as b2, a column from 1, or open_spiel's own name."""
    kind = state.get_game().get_type().short_name
    text = str(state.action_to_string(state.current_player(), action)).strip()
    if kind in CELLS and len(cell := re.findall(r"\d+", text)) == 2:
        return f"{_letter(int(cell[1]))}{int(cell[0]) + 1}"
    if kind == "connect_four":
        return str(action + 1)
    return text.split()[-1] if kind == "go" else text  # "B c3": whose stone it is, is clear


def board_text(state: pyspiel.State, planes: Planes, seat: int) -> str:
    """The position with the names of rows and columns; the first player has X or small letters.

    Of a game that hides something it is what `seat` has seen and done, until the game is over.
    """
    if hides(state):
        return str(state.information_state_string(seat)).rstrip("\n")
    kind = state.get_game().get_type().short_name
    if kind not in GRIDS or not planes.layout.glyphs:
        return str(state).rstrip("\n")
    glyphs, shown = planes.layout.glyphs, 1 - planes.layout.turned  # whose view is not turned
    board = planes.see([state], np.array([shown]))[0][: 2 * len(glyphs)] > 0
    num_rows, num_columns = board.shape[1:]
    grid = [["."] * num_columns for _ in range(num_rows)]
    for plane, row, column in np.argwhere(board).tolist():
        player = shown if plane < len(glyphs) else 1 - shown
        letter = glyphs[plane % len(glyphs)]
        stone = letter if player == 1 else letter.lower()
        grid[row][column] = "XO"[player] if letter == "." else stone
    heads = [str(i + 1) if kind == "connect_four" else _letter(i) for i in range(num_columns)]
    width = max(map(len, heads))
    lines = [_row("", heads, width)]
    for row in reversed(range(num_rows)) if planes.layout.rows_up else range(num_rows):
        slant = " " * row if kind == "hex" else ""
        lines.append(slant + _row("" if kind == "connect_four" else str(row + 1), grid[row], width))
    return "\n".join(lines)


def hides(state: pyspiel.State) -> bool:
    """Whether something here is not for all eyes."""
    return not state.is_terminal() and not is_perfect(state.get_game().get_type())


def _row(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name:>3} " + " ".join(f"{cell:>{width}}" for cell in cells)


def _letter(column: int) -> str:
    return chr(ord("a") + column) if column < 26 else _letter(column // 26 - 1) + _letter(column % 26)


def _listed(state: pyspiel.State) -> str:
    return f"Legal: {', '.join(move_name(state, action) for action in state.legal_actions())}."


def _squeezed(text: str) -> str:
    return "".join(text.split())


__all__ = ["HELP", "Console", "HumanPlayer", "Leave", "TakeBack", "board_text", "find_move", "hides", "move_name"]
