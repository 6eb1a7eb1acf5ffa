"""Matches between players of a board game: many games side by side, sides swapped, forfeits told apart. P players."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.board.player import Player, PlayerError, Resigned, choose_all
from triathlon.training.board.ratings import Rating, Tally, elo_ratings
from triathlon.training.errors import RunError

if TYPE_CHECKING:
    import pyspiel

Openings: TypeAlias = Literal["none", "random"]

OPENING_ATTEMPTS = 1_000  # random openings tried until one does not end the game


@dataclass(frozen=True, slots=True)
class GameRecord:
    """One game between a and b."""

    a_seat: int  # a's player number in open_spiel
    a_moved_first: bool  # of the two, counted from the initial position; in chess that is open_spiel's player 1
    score: float  # of a: 1 won, ½ drawn, 0 lost
    history: tuple[int, ...]  # every action from the initial state, the opening's and chance's too
    opening_plies: int  # how many of them nobody chose
    error: str | None = None  # why the side that could not go on lost it by forfeit

    @property
    def num_plies(self) -> int:
        return len(self.history)


@dataclass(frozen=True, slots=True)
class MatchResult:
    """Games between a and b, counted for a."""

    a: str
    b: str
    games: list[GameRecord]

    def tally(self, moved_first: bool | None = None) -> Tally:
        """Games a won, drew and lost; with `moved_first` only those in which a moved first, or second."""
        scores = [game.score for game in self.games if moved_first in (None, game.a_moved_first)]
        return Tally(scores.count(1.0), scores.count(0.5), scores.count(0.0))

    @property
    def errors(self) -> list[str]:
        """Why games ended by forfeit."""
        return [game.error for game in self.games if game.error is not None]

    @property
    def mean_plies(self) -> float:
        return float(np.mean([game.num_plies for game in self.games]))

    def __str__(self) -> str:
        lines = [f"{self.a} against {self.b}: {self.tally()}"]
        lines += [f"  first  {self.tally(True)}", f"  second {self.tally(False)}"]
        if self.errors:
            lines.append(f"  {len(self.errors)} of {len(self.games)} games were forfeited; the first: {self.errors[0]}")
        return "\n".join(lines)


@dataclass
class _Table:
    """A game being played."""

    state: pyspiel.State
    players: tuple[Player, Player]  # by their numbers in open_spiel
    a_seat: int
    first_seat: int  # who moved first
    opening_plies: int
    error: str | None = None
    loser: int | None = None  # the side that forfeited or resigned

    @property
    def is_over(self) -> bool:
        return self.loser is not None or self.state.is_terminal()

    def result(self) -> GameRecord:
        given_up = -1.0 if self.loser == self.a_seat else 1.0
        points = given_up if self.loser is not None else np.sign(self.state.player_return(self.a_seat))
        return GameRecord(
            a_seat=self.a_seat,
            a_moved_first=self.a_seat == self.first_seat,
            score=float((points + 1) / 2),
            history=tuple(self.state.history()),
            opening_plies=self.opening_plies,
            error=self.error,
        )


def play_match(
    a: Player,
    b: Player,
    game: pyspiel.Game,
    num_games: int,
    rng: np.random.Generator,
    openings: Openings = "none",
    opening_plies: int = 4,
    on_game: Callable[[GameRecord], None] | None = None,
    num_tables: int = 64,
) -> MatchResult:
    """Play `num_games` between a and b, `num_tables` side by side; each opening twice, with sides swapped.

    A player is asked once a round for all the games in which it is to move. `openings="random"`: the first
    `opening_plies` are drawn uniformly from what is legal, so that players who draw nothing do not repeat one game.
    Dice and openings draw from `rng`. A player that fails in a game forfeits that game, one that resigns loses it;
    `on_game` hears of each game when it ends.

    Raises:
        RunError: a setting is out of range, or every opening of that many plies ends the game.
    """
    _check(game, num_games, openings, opening_plies, num_tables)
    starts = _starts(a, b, game, num_games, rng, opening_plies if openings == "random" else 0)
    numbered = enumerate(starts)
    records: list[GameRecord | None] = [None] * num_games
    tables = dict(islice(numbered, num_tables))
    while tables:
        _play_round(list(tables.values()), rng)
        for number in [number for number, table in tables.items() if table.is_over]:
            records[number] = record = tables.pop(number).result()
            if on_game is not None:
                on_game(record)
            tables.update(islice(numbered, 1))
    return MatchResult(a.name, b.name, [record for record in records if record is not None])


def _starts(
    a: Player, b: Player, game: pyspiel.Game, num_games: int, rng: np.random.Generator, num_plies: int
) -> Iterator[_Table]:
    for _ in range(num_games // 2):
        state = _opening(game, num_plies, rng)
        moved = [move.player for move in state.full_history() if move.player >= 0]  # chance is below 0
        first, plies = (moved or [state.current_player()])[0], state.move_number()
        yield _Table(state.clone(), (a, b), 0, first, plies)
        yield _Table(state, (b, a), 1, first, plies)


def _opening(game: pyspiel.Game, num_plies: int, rng: np.random.Generator) -> pyspiel.State:
    """A position after `num_plies` random moves, with somebody to move."""
    for _ in range(OPENING_ATTEMPTS):
        state = game.new_initial_state()
        _roll(state, rng)
        for _ in range(num_plies):
            if not state.is_terminal():
                state.apply_action(int(rng.choice(state.legal_actions())))
                _roll(state, rng)
        if not state.is_terminal():
            return state
    raise RunError(f"opening_plies must leave something to play in {game}, found {num_plies}")


def _roll(state: pyspiel.State, rng: np.random.Generator) -> None:
    """Dice and cards, until a player is to move."""
    while state.is_chance_node():
        outcomes, probs = zip(*state.chance_outcomes(), strict=True)
        state.apply_action(int(rng.choice(outcomes, p=np.array(probs) / sum(probs))))


def _play_round(tables: Sequence[_Table], rng: np.random.Generator) -> None:
    """One move in each game; each player is asked once for all of its games."""
    waiting: dict[int, tuple[Player, list[_Table]]] = {}
    for table in tables:
        player = table.players[table.state.current_player()]
        waiting.setdefault(id(player), (player, []))[1].append(table)
    for player, asked in waiting.values():
        for table, answer in zip(asked, choose_all(player, [table.state for table in asked]), strict=True):
            if isinstance(answer, PlayerError):
                table.error = None if isinstance(answer, Resigned) else str(answer)
                table.loser = table.state.current_player()
            else:
                table.state.apply_action(answer)
                _roll(table.state, rng)


@dataclass(frozen=True, slots=True)
class Crosstable:
    """What P players scored against each other."""

    names: list[str]
    matches: dict[tuple[int, int], MatchResult]  # for i < j: i's match against j

    def tallies(self) -> list[list[Tally]]:
        """`[P][P]`: the row's games against the column; no games where they did not meet."""
        table = [[Tally(0, 0, 0) for _ in self.names] for _ in self.names]
        for (i, j), match in self.matches.items():
            tally = match.tally()
            table[i][j] = tally
            table[j][i] = Tally(tally.losses, tally.draws, tally.wins)
        return table

    def ratings(self, rng: np.random.Generator, anchor: str = "random") -> list[Rating]:
        """Elo ratings of all, the anchor at 0 (`triathlon.training.board.ratings`)."""
        table = self.tallies()
        wins = [[tally.wins for tally in row] for row in table]
        draws = [[tally.draws for tally in row] for row in table]
        return elo_ratings(self.names, wins, draws, rng, anchor)

    def scores(self) -> NDArray[np.float64]:
        """`[P, P]`: the row's score against the column, NaN where they did not meet."""
        return np.array([[tally.score for tally in row] for row in self.tallies()])

    def __str__(self) -> str:
        width = max(map(len, self.names), default=0)
        heads = [f"{number:>6}" for number in range(1, len(self.names) + 1)]
        lines = [" " * (width + 4) + "".join(heads)]
        for number, (name, row) in enumerate(zip(self.names, self.tallies(), strict=True), start=1):
            cells = [f"{tally.score:>6.1%}" if tally.num_games else "     ·" for tally in row]
            lines.append(f"{number:>3} {name:<{width}}" + "".join(cells))
        return "\n".join(lines)


def play_round_robin(
    players: Sequence[Player],
    game: pyspiel.Game,
    num_games: int,
    rng: np.random.Generator,
    openings: Openings = "none",
    opening_plies: int = 4,
    on_match: Callable[[MatchResult], None] | None = None,
) -> Crosstable:
    """Every pair of P players meets in `num_games`.

    Raises:
        RunError: as `play_match`, or two players share a name.
    """
    names = [player.name for player in players]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RunError(f"players need different names, found {', '.join(twice)} more than once")
    matches = {}
    for i, j in combinations(range(len(players)), 2):
        matches[i, j] = play_match(players[i], players[j], game, num_games, rng, openings, opening_plies)
        if on_match is not None:
            on_match(matches[i, j])
    return Crosstable(names, matches)


def _check(game: pyspiel.Game, num_games: int, openings: str, opening_plies: int, num_tables: int) -> None:
    kind = game.get_type()
    if game.num_players() != 2 or kind.dynamics != kind.Dynamics.SEQUENTIAL:
        raise RunError(f"a match needs a game of two players who move in turn, found {game}")
    if num_games < 2 or num_games % 2:
        raise RunError(f"num_games must be even and at least 2, so that sides are swapped, found {num_games}")
    if openings not in get_args(Openings):
        raise RunError(f"openings must be one of {', '.join(get_args(Openings))}, found {openings!r}")
    if opening_plies < 0 or num_tables < 1:
        name, found, least = ("opening_plies", opening_plies, 0) if opening_plies < 0 else ("num_tables", num_tables, 1)
        raise RunError(f"{name} must be at least {least}, found {found}")


__all__ = ["Crosstable", "GameRecord", "MatchResult", "Openings", "play_match", "play_round_robin"]
