"""Matches swap sides, replay, forfeit, and add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyspiel
import pytest

from triathlon.envs.board.player import Player, PlayerError
from triathlon.envs.board.players import make_player
from triathlon.training.board.arena import GameRecord, MatchResult, play_match, play_round_robin
from triathlon.training.board.ratings import Tally
from triathlon.training.errors import RunError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def load(game: str) -> pyspiel.Game:
    return pyspiel.load_game(game)


class Lowest:
    """Always the lowest legal action; remembers how many games it was asked for at once."""

    def __init__(self, name: str = "lowest") -> None:
        self.name = name
        self.asked: list[int] = []

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        self.asked.append(len(states))
        return [state.legal_actions()[0] for state in states]

    def close(self) -> None:
        pass


class GivesUp(Lowest):
    """Cannot go on at its first move after the third ply."""

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        chosen: list[int] = []
        for index, state in enumerate(states):
            if state.move_number() >= 3:
                raise PlayerError(f"{self.name} gave up at ply {state.move_number()}", index, chosen)
            chosen.append(state.legal_actions()[0])
        return chosen


def replayed(game: pyspiel.Game, record: GameRecord) -> pyspiel.State:
    state = game.new_initial_state()
    for action in record.history:
        assert action in state.legal_actions()
        state.apply_action(action)
    return state


@pytest.mark.parametrize(
    "name",
    [
        "tic_tac_toe",
        "connect_four",
        "othello",
        "breakthrough",
        "hex(board_size=4)",
        "chess",
        "backgammon",
        "go(board_size=5)",
    ],
)
def test_every_record_replays_to_its_score(name: str) -> None:
    game = load(name)
    a, b = (make_player("random", game, rng(seed)) for seed in (1, 2))
    result = play_match(a, b, game, 10, rng(), openings="random", opening_plies=3)
    assert len(result.games) == 10 and result.errors == []
    for record in result.games:
        state = replayed(game, record)
        assert state.is_terminal() and record.num_plies == state.move_number()
        assert record.score == (np.sign(state.returns()[record.a_seat]) + 1) / 2
        first = next(move.player for move in state.full_history() if move.player >= 0)
        assert record.a_moved_first == (record.a_seat == first)
    assert result.tally(True).num_games == result.tally(False).num_games == 5
    assert result.tally(True) + result.tally(False) == result.tally()


def test_each_opening_is_played_from_both_sides() -> None:
    game = load("connect_four")
    result = play_match(Lowest("a"), Lowest("b"), game, 20, rng(), openings="random", opening_plies=5)
    pairs = list(zip(result.games[::2], result.games[1::2], strict=True))
    for one, other in pairs:
        assert one.history == other.history and {one.a_seat, other.a_seat} == {0, 1}
        assert one.score + other.score == 1 and one.opening_plies == 5
    assert len({one.history[:5] for one, _ in pairs}) > 5
    assert result.tally().score == 0.5


def test_without_openings_a_game_starts_at_the_beginning() -> None:
    game = load("tic_tac_toe")
    result = play_match(Lowest("a"), Lowest("b"), game, 2, rng())
    # x takes 0, 2, 4, 6 and wins the diagonal against 1, 3, 5.
    assert [record.history for record in result.games] == [(0, 1, 2, 3, 4, 5, 6)] * 2
    assert [(record.a_moved_first, record.score) for record in result.games] == [(True, 1.0), (False, 0.0)]
    assert result.mean_plies == 7 and result.games[0].opening_plies == 0


def test_the_first_to_move_in_chess_is_whites_side() -> None:
    result = play_match(Lowest("a"), Lowest("b"), load("chess"), 2, rng())
    assert [(record.a_seat, record.a_moved_first) for record in result.games] == [(0, False), (1, True)]


def test_an_opening_never_ends_the_game() -> None:
    game = load("tic_tac_toe")
    result = play_match(Lowest("a"), Lowest("b"), game, 40, rng(), openings="random", opening_plies=8)
    assert all(record.opening_plies == 8 and record.num_plies == 9 for record in result.games)
    with pytest.raises(RunError, match=r"opening_plies must leave something to play in tic_tac_toe.*, found 9"):
        play_match(Lowest("a"), Lowest("b"), game, 2, rng(), openings="random", opening_plies=9)


def test_a_player_is_asked_once_a_round_for_all_its_games() -> None:
    game, a = load("connect_four"), Lowest("a")
    many = play_match(a, Lowest("b"), game, 30, rng(3), openings="random", num_tables=30)
    assert a.asked[0] + a.asked[1] == 30 and max(a.asked) == 15
    one_by_one = play_match(Lowest("a"), Lowest("b"), game, 30, rng(3), openings="random", num_tables=1)
    assert many.games == one_by_one.games


def test_a_stronger_player_wins_more() -> None:
    game = load("tic_tac_toe")
    perfect, random = make_player("perfect", game, rng(1)), make_player("random", game, rng(2))
    result = play_match(perfect, random, game, 100, rng())
    assert result.tally().losses == 0 and result.tally().score > 0.75


def test_a_forfeit_is_a_loss_that_is_told() -> None:
    game, heard = load("tic_tac_toe"), list[GameRecord]()
    result = play_match(GivesUp("a"), Lowest("b"), game, 6, rng(), on_game=heard.append)
    assert result.tally() == Tally(0, 0, 6)
    assert set(result.errors) == {"a gave up at ply 3", "a gave up at ply 4"}
    assert all(not replayed(game, record).is_terminal() for record in result.games)
    assert sorted(heard, key=str) == sorted(result.games, key=str)
    assert "6 of 6 games were forfeited; the first: a gave up at ply" in str(result)
    assert play_match(Lowest("b"), GivesUp("a"), game, 6, rng()).tally() == Tally(6, 0, 0)


def test_a_player_can_play_itself() -> None:
    game, alone = load("connect_four"), Lowest()
    result = play_match(alone, alone, game, 4, rng(), openings="random")
    assert result.tally().score == 0.5 and alone.asked[0] == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_games": 3}, "num_games must be even and at least 2, so that sides are swapped, found 3"),
        ({"num_games": 0}, "num_games must be even and at least 2"),
        ({"openings": "book"}, "openings must be one of none, random, found 'book'"),
        ({"opening_plies": -1}, "opening_plies must be at least 0, found -1"),
        ({"num_tables": 0}, "num_tables must be at least 1, found 0"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        play_match(Lowest(), Lowest(), load("tic_tac_toe"), **{"num_games": 2, "rng": rng()} | arguments)


@pytest.mark.parametrize("name", ["matrix_rps", "kuhn_poker(players=3)"])
def test_other_games_are_refused(name: str) -> None:
    with pytest.raises(RunError, match="a match needs a game of two players who move in turn"):
        play_match(Lowest(), Lowest(), load(name), 2, rng())


def test_a_round_robin_adds_up() -> None:
    game = load("tic_tac_toe")
    players: list[Player] = [make_player(name, game, rng()) for name in ("random", "greedy", "perfect")]
    matches: list[MatchResult] = []
    table = play_round_robin(players, game, 60, rng(), on_match=matches.append)
    tallies = table.tallies()
    assert [(match.a, match.b) for match in matches] == [
        ("random", "greedy"),
        ("random", "perfect"),
        ("greedy", "perfect"),
    ]
    assert tallies[0][1] == matches[0].tally() and tallies[1][0].wins == matches[0].tally().losses
    scores = table.scores()
    assert np.isnan(np.diag(scores)).all() and np.nansum(scores) == pytest.approx(3)
    ratings = {rating.name: rating for rating in table.ratings(rng())}
    assert ratings["random"].elo == 0 < ratings["greedy"].elo and ratings["perfect"].interval[0] > 0
    rows = str(table).splitlines()
    assert rows[1].startswith("  1 random ") and rows[1].split()[2] == "·" and rows[1].split()[3].endswith("%")


def test_players_of_one_name_are_refused() -> None:
    with pytest.raises(RunError, match="players need different names, found a more than once"):
        play_round_robin([Lowest("a"), Lowest("b"), Lowest("a")], load("tic_tac_toe"), 2, rng())
