"""Engines that speak GTP, the Go Text Protocol, version 2: https://www.lysator.liu.se/~gunnar/gtp/."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triathlon.envs.board.games import parameters_of
from triathlon.envs.board.players.engine import EngineFailure, EnginePlayer, EngineProcess, EngineResigned
from triathlon.envs.errors import EnvError

if TYPE_CHECKING:
    import pyspiel

COLORS = {"B": "black", "W": "white"}


def gnugo_command(level: int, seed: int) -> list[str]:
    """GNU Go as it must be called here: open_spiel counts every stone left on the board as alive, so it plays on until
    the dead ones are captured, and does not resign."""
    options = "--mode gtp --chinese-rules --capture-all-dead --play-out-aftermath --never-resign"
    return ["gnugo", *options.split(), "--level", str(level), "--seed", str(seed)]


class GtpPlayer(EnginePlayer):
    """A GTP engine for go. It is told only the moves that it does not know yet.

    It has failed when a command takes `timeout` seconds, or one of the first commands `start_timeout`.

    Raises:
        EnvError: the game is not go without handicap, or the engine is missing, does not start or refuses the board.
    """

    def __init__(
        self, game: pyspiel.Game, command: Sequence[str], name: str, timeout: float = 60.0, start_timeout: float = 10.0
    ) -> None:
        parameters = parameters_of(game)
        if game.get_type().short_name != "go" or parameters["handicap"]:
            raise EnvError(f"{name} plays go without handicap, not {game}")
        self._setup = [f"boardsize {parameters['board_size']}", "clear_board", f"komi {parameters['komi']}"]
        self._timeout = timeout
        self._start_timeout = start_timeout
        self._known: list[str] = []  # the moves on the engine's board
        super().__init__(name, command)

    def _greet(self, engine: EngineProcess) -> None:
        self._known = []
        for command in self._setup:
            self.ask(engine, command, self._start_timeout)

    def _ask(self, engine: EngineProcess, state: pyspiel.State) -> int:
        moves = [move_text(state, made.player, made.action) for made in state.full_history()]
        if moves[: len(self._known)] != self._known:
            self._greet(engine)
        for move in moves[len(self._known) :]:
            self.ask(engine, f"play {move}", self._timeout)
        self._known = moves
        mover = state.current_player()
        actions: dict[str, int] = {move_text(state, mover, action): action for action in state.legal_actions()}
        color = next(iter(actions)).split()[0]
        answer = self.ask(engine, f"genmove {color}", self._timeout)
        move = f"{color} {answer.lower()}"
        if answer.lower() == "resign":
            raise EngineResigned("resigned")
        if move not in actions:
            raise EngineFailure(f"answered {answer!r}, which is no legal move")
        self._known = [*moves, move]
        return actions[move]

    @staticmethod
    def ask(engine: EngineProcess, command: str, timeout: float) -> str:
        """The answer to one command: `= text` and an empty line.

        Raises:
            EngineFailure: the engine refuses, ends, answers something else or takes too long.
        """
        engine.send(command)
        deadline = time.monotonic() + timeout
        while not (line := engine.read(deadline, command).strip()):
            pass
        answer = line
        while line:
            line = engine.read(deadline, command).strip()
        if answer.startswith("?"):
            raise EngineFailure(f"refused {command!r}: {answer.lstrip('?').strip()}")
        if not answer.startswith("="):
            raise EngineFailure(f"answered {answer!r} to {command!r}")
        return answer.lstrip("=").strip()


def move_text(state: pyspiel.State, player: int, action: int) -> str:
    """`black d4` or `white pass`: both name columns by letters without i and rows from the bottom."""
    color, vertex = state.action_to_string(player, action).split()
    return f"{COLORS[color]} {vertex.lower()}"


__all__ = ["GtpPlayer", "gnugo_command", "move_text"]
