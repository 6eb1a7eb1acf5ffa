"""Engines that speak UCI: chess, and breakthrough in the dialect of fairy-stockfish.

The protocol: https://www.shredderchess.com/download/div/uci.zip; `UCI_Variant` is an extension of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from triathlon.envs.board.games import parameters_of, spiel
from triathlon.envs.board.players.engine import EngineFailure, EnginePlayer, EngineProcess
from triathlon.envs.errors import EnvError

if TYPE_CHECKING:
    import pyspiel

NUM_REMEMBERED = 1_024  # more than the games that are played side by side


class UciPlayer(EnginePlayer):
    """A UCI engine that thinks `move_time` seconds a move.

    It is told when a game begins, and forgets then what it found in others: games that are played one after the other
    do not hang on each other. Those that it plays side by side share its memory.

    It has failed when it takes `timeout` seconds longer than that, or `start_timeout` to start.

    Raises:
        EnvError: the game is neither chess nor breakthrough on 8×8, or the engine is missing, does not start or does
            not offer one of the `options`.
    """

    def __init__(
        self,
        game: pyspiel.Game,
        command: Sequence[str],
        name: str,
        move_time: float = 0.05,
        options: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        start_timeout: float = 10.0,
    ) -> None:
        self._game = game.get_type().short_name
        self._move_time = move_time
        self._timeout = timeout
        self._start_timeout = start_timeout
        self._options = dict(options or {})
        self._under_way: dict[tuple[str, ...], None] = {}  # the last positions that it left to the other side
        parameters = parameters_of(game)
        if self._game == "breakthrough":
            self._options["UCI_Variant"] = "breakthrough"
        standard = {"chess": parameters.get("chess960") is False, "breakthrough": _is_8x8(parameters)}
        if not standard.get(self._game, False):
            raise EnvError(f"{name} plays chess and breakthrough on 8×8, not {game}")
        super().__init__(name, command)

    def _greet(self, engine: EngineProcess) -> None:
        deadline = time.monotonic() + self._start_timeout
        engine.send("uci")
        offered: dict[str, str] = {}
        while (line := engine.read(deadline, "uci").strip()) != "uciok":
            words = line.removeprefix("option name ")
            if words != line:
                option, _, description = words.partition(" type ")
                offered[option] = description
        for option, value in self._options.items():
            if option not in offered:
                raise EnvError(f"{self.name} cannot play {self._game} so: the engine has no option {option!r}")
            if offered[option].startswith("combo") and value not in offered[option].split():
                raise EnvError(f"{self.name} cannot play {self._game}: its {option} does not offer {value!r}")
            engine.send(f"setoption name {option} value {value}")
        self._begin_game(engine, deadline)

    def _begin_game(self, engine: EngineProcess, deadline: float) -> None:
        engine.send("ucinewgame")
        engine.send("isready")
        while engine.read(deadline, "isready").strip() != "readyok":
            pass

    def _ask(self, engine: EngineProcess, state: pyspiel.State) -> int:
        start, moves, actions = (chess_moves if self._game == "chess" else breakthrough_moves)(state)
        if (start, *moves[:-1]) not in self._under_way:
            # Once a game, not at each change between games that are played side by side: the engine would start from
            # nothing at every move.
            self._begin_game(engine, time.monotonic() + self._timeout)
        engine.send(f"position {start}" + (f" moves {' '.join(moves)}" if moves else ""))
        question = f"go movetime {round(1_000 * self._move_time)}"
        engine.send(question)
        deadline = time.monotonic() + self._move_time + self._timeout
        while not (words := engine.read(deadline, question).split()) or words[0] != "bestmove":
            pass
        answer = words[1] if len(words) > 1 else ""
        if answer not in actions:
            raise EngineFailure(f"answered {answer!r}, which is no legal move")
        self._under_way[start, *moves, answer] = None
        if len(self._under_way) > NUM_REMEMBERED:
            del self._under_way[next(iter(self._under_way))]
        return actions[answer]


def chess_moves(state: pyspiel.State) -> tuple[str, list[str], dict[str, int]]:
    """The start, the moves since then, and the actions by their move, in UCI's long algebraic notation."""
    action_to_move, board = spiel().chess.action_to_move, state.board()
    actions = {action_to_move(action, board).to_lan(): action for action in state.legal_actions()}
    return f"fen {state.start_fen()}", [move.to_lan() for move in state.moves_history()], actions


def breakthrough_moves(state: pyspiel.State) -> tuple[str, list[str], dict[str, int]]:
    """As `chess_moves`. open_spiel's first player moves down from ranks 7 and 8, fairy-stockfish's moves up."""

    def flipped(player: int, action: int) -> str:
        file, rank, to_file, to_rank = state.action_to_string(player, action)[:4]
        return f"{file}{9 - int(rank)}{to_file}{9 - int(to_rank)}"

    mover = state.current_player()
    actions = {flipped(mover, action): action for action in state.legal_actions()}
    return "startpos", [flipped(move.player, move.action) for move in state.full_history()], actions


def _is_8x8(parameters: Mapping[str, object]) -> bool:
    return parameters.get("rows") == 8 and parameters.get("columns") == 8


__all__ = ["UciPlayer", "breakthrough_moves", "chess_moves"]
