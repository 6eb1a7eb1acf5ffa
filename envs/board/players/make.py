"""From a name to a player: `random`, `mcts:1000`, `stockfish:0`, `gtp:katago gtp`, …"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from triathlon.envs.board.games import is_perfect
from triathlon.envs.board.player import Player
from triathlon.envs.board.players.gtp import GtpPlayer, gnugo_command
from triathlon.envs.board.players.reversi import COUNTS, ReversiPlayer
from triathlon.envs.board.players.rules import GreedyPlayer, RandomPlayer
from triathlon.envs.board.players.search import MctsPlayer, MinimaxPlayer, PerfectPlayer
from triathlon.envs.board.players.uci import UciPlayer
from triathlon.envs.errors import EnvError
from triathlon.envs.lookup import nearest

if TYPE_CHECKING:
    import pyspiel

Maker: TypeAlias = "Callable[[str, str, pyspiel.Game, np.random.Generator], Player]"

# An example of each kind, for messages and help.
PLAYERS = {
    "random": "random",
    "greedy": "greedy",
    "mcts": "mcts:1000",
    "minimax": "minimax:6",
    "perfect": "perfect",
    "rust-reversi": "rust-reversi:3",
    "stockfish": "stockfish:0",
    "fairy-stockfish": "fairy-stockfish:0",
    "gnugo": "gnugo:1",
    "uci": "uci:/path/to/engine",
    "gtp": "gtp:command --with options",
}


def make_player(name: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    """The player that `name` means, for games of `game`; it draws from `rng` alone (engines have their own chance).

    `random`; `greedy`; `mcts:S` open_spiel's search with S simulations a move; `minimax:D` alpha-beta to D plies;
    `perfect` for small games; `rust-reversi:D` for othello; at skill level L `stockfish:L` (0–20) for chess,
    `fairy-stockfish:L` (-20–20) for chess and breakthrough, `gnugo:L` (1–10) for go; any other engine by
    `uci:COMMAND` or `gtp:COMMAND`. A third part says how many milliseconds a UCI engine thinks a move instead of 50
    (`stockfish:0:200`), and what rust-reversi counts instead of discs (`rust-reversi:3:squares` or `:mobility`).

    Raises:
        EnvError: nothing has that name, the player cannot play this game, or what it needs is not installed.
    """
    kind, _, argument = name.partition(":")
    makers: dict[str, Maker] = {
        "random": _random,
        "greedy": _greedy,
        "mcts": _mcts,
        "minimax": _minimax,
        "perfect": _perfect,
        "rust-reversi": _reversi,
        "stockfish": _stockfish,
        "fairy-stockfish": _stockfish,
        "gnugo": _gnugo,
        "uci": _uci,
        "gtp": _gtp,
    }
    if kind not in makers:
        raise EnvError(
            f"unknown player {name!r}{nearest(kind, list(makers))}; players are {', '.join(PLAYERS.values())}"
        )
    if argument and kind in ("random", "greedy", "perfect"):
        raise EnvError(f"player {kind} takes no {argument!r}: its name is just {kind}")
    return makers[kind](name, argument, game, rng)


def _random(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    return RandomPlayer(rng, name)


def _greedy(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    _refuse_hidden(name, game)
    return GreedyPlayer(rng, name)


def _mcts(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    _refuse_hidden(name, game)
    return MctsPlayer(game, _whole(name, argument, "simulations", 1, 10_000_000), rng, name)


def _minimax(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    _refuse_hidden(name, game)
    kind = game.get_type()
    if kind.chance_mode != kind.ChanceMode.DETERMINISTIC:
        raise EnvError(f"{name} cannot play {game}: it searches games without chance; mcts:1000 can")
    return MinimaxPlayer(_whole(name, argument, "depth in plies", 1, 1_000), rng, name)


def _perfect(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    return PerfectPlayer(game, rng, name)


def _reversi(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    depth, _, counts = argument.partition(":")
    if (counts or "discs") not in COUNTS:
        raise EnvError(
            f"player {name!r}: it counts {', '.join(COUNTS)}, as in rust-reversi:3:squares; found {counts!r}"
        )
    return ReversiPlayer(game, _whole(name, depth, "depth in plies", 1, 60), counts or "discs", name)


def _stockfish(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    command = name.partition(":")[0]
    level, _, milliseconds = argument.partition(":")
    lowest = -20 if command == "fairy-stockfish" else 0
    skill = _whole(name, level, "skill level", lowest, 20)
    move_time = _whole(name, milliseconds or "50", "milliseconds a move", 1, 3_600_000) / 1_000
    return UciPlayer(game, [command], name, move_time, {"Skill Level": str(skill)})


def _gnugo(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    level = _whole(name, argument, "level", 1, 10)
    return GtpPlayer(game, gnugo_command(level, seed=int(rng.integers(1, 2**31))), name)


def _uci(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    return UciPlayer(game, _command(name, argument), name)


def _gtp(name: str, argument: str, game: pyspiel.Game, rng: np.random.Generator) -> Player:
    return GtpPlayer(game, _command(name, argument), name)


def _command(name: str, argument: str) -> list[str]:
    try:
        command = shlex.split(argument)
    except ValueError as error:
        raise EnvError(f"player {name!r}: the command cannot be read: {error}") from error
    if not command:
        raise EnvError(f"player {name!r}: a command must follow, as in {PLAYERS[name.partition(':')[0]]}")
    return command


def _refuse_hidden(name: str, game: pyspiel.Game) -> None:
    if not is_perfect(game.get_type()):
        raise EnvError(f"{name} cannot play {game}: it would see the other side's cards; random can")


def _whole(name: str, text: str, what: str, low: int, high: int) -> int:
    kind = name.partition(":")[0]
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise EnvError(
            f"player {name!r}: its {what} must be a whole number from {low} to {high}, as in {PLAYERS[kind]}"
        )
    return number


__all__ = ["PLAYERS", "make_player"]
