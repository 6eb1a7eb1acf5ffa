"""Scores and Elo ratings agree with scipy and with numbers worked out by hand."""

from __future__ import annotations

import sys
from math import log10

import numpy as np
import pytest
import scipy.stats

from triathlon.training.board.ratings import Tally, elo_ratings, expected_score
from triathlon.training.errors import RunError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("wins", "losses"), [(0, 20), (20, 0), (7, 3), (120, 80)])
def test_intervals_are_scipys(wins: int, losses: int) -> None:
    expected = scipy.stats.binomtest(wins, wins + losses).proportion_ci(0.95, method="wilson")
    assert Tally(wins, 0, losses).interval() == pytest.approx((expected.low, expected.high))


def test_a_draw_is_half_a_win() -> None:
    tally = Tally(3, 4, 1)
    assert tally.num_games == 8 and tally.score == 0.625
    assert tally.interval() == Tally(5, 0, 3).interval()
    assert str(tally) == "+3 =4 -1, 62.5% (95 % interval 30.6% to 86.3%)"
    assert Tally(1, 2, 3) + Tally(10, 20, 30) == Tally(11, 22, 33)


def test_no_games_say_nothing() -> None:
    assert np.isnan(Tally(0, 0, 0).score) and Tally(0, 0, 0).interval() == (0.0, 1.0)


def test_two_players_by_hand() -> None:
    # 30 wins, 10 draws, 5 losses and half a win each: points 35.5 to 10.5.
    random, strong = elo_ratings(["random", "strong"], [[0, 5], [30, 0]], [[0, 10], [10, 0]], rng())
    assert random.elo == 0 and random.interval == (0, 0)
    assert strong.elo == pytest.approx(400 * log10(35.5 / 10.5))
    assert strong.interval[0] < strong.elo < strong.interval[1]
    assert expected_score(strong.elo) == pytest.approx(35.5 / 46)


def test_whoever_wins_every_game_stays_finite_and_unsure() -> None:
    _, strong = elo_ratings(["random", "strong"], [[0, 0], [40, 0]], np.zeros((2, 2)), rng())
    assert strong.elo == pytest.approx(400 * log10(40.5 / 0.5))  # 763
    assert 400 < strong.interval[0] < 700 and strong.interval[1] > 900


def test_more_games_make_it_surer() -> None:
    widths = []
    for games in (20, 200, 2_000):
        wins = [[0, games // 4], [games // 2, 0]]
        _, rated = elo_ratings(["random", "x"], wins, [[0, games // 4], [games // 4, 0]], rng())
        widths.append(rated.interval[1] - rated.interval[0])
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth, held, chance = 120.0, 0, expected_score(120.0)
    for seed in range(60):
        wins = int(rng(seed).binomial(100, chance))
        table = [[0, 100 - wins], [wins, 0]]
        _, rated = elo_ratings(["random", "x"], table, np.zeros((2, 2)), rng(seed + 1_000), num_resamples=100)
        held += rated.interval[0] <= truth <= rated.interval[1]
    assert held >= 52  # 57 expected; fewer than 52 comes about once in a hundred


def test_a_ladder_adds_up_over_players_who_never_met() -> None:
    # random - a: 30 to 10; a - b: 30 to 10; b never met random.
    wins = [[0, 10, 0], [30, 0, 10], [0, 30, 0]]
    _, a, b = elo_ratings(["random", "a", "b"], wins, np.zeros((3, 3)), rng())
    step = 400 * log10(30.5 / 10.5)
    assert a.elo == pytest.approx(step) and b.elo == pytest.approx(2 * step)
    assert b.interval[1] - b.interval[0] > a.interval[1] - a.interval[0]


def test_the_anchor_can_be_another() -> None:
    ratings = elo_ratings(["random", "a"], [[0, 10], [30, 0]], np.zeros((2, 2)), rng(), anchor="a")
    assert ratings[1].elo == 0 and ratings[0].elo == pytest.approx(-400 * log10(30.5 / 10.5))
    assert str(ratings[0]).startswith("random -185 (-")


@pytest.mark.parametrize(
    ("names", "wins", "draws", "sentence"),
    [
        (["a", "b"], [[0, 1], [1, 0]], [[0, 0], [0, 0]], "anchor must be one of the players a, b, found 'random'"),
        (["random", "b"], [[0, 1]], [[0, 0]], r"wins and draws must be \[2, 2\], found \[1, 2\] and \[1, 2\]"),
        (["random", "b"], [[0, -1], [1, 0]], [[0, 0], [0, 0]], "must be counts of at least 0"),
        (["random", "b"], [[0, 1], [1, 0]], [[0, 1], [0, 0]], "draws the same both ways"),
        (
            ["random", "b", "c"],
            [[0, 1, 0], [0, 0, 0], [0, 0, 0]],
            np.zeros((3, 3)),
            "no games lead from c to the anchor",
        ),
    ],
)
def test_tables_that_cannot_be_rated(names: list[str], wins: object, draws: object, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        elo_ratings(names, wins, draws, rng())


def test_without_choix_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "choix", None)
    with pytest.raises(RunError, match=r'need choix.*pip install "triathlon\[board\]"'):
        elo_ratings(["random", "a"], [[0, 1], [1, 0]], np.zeros((2, 2)), rng())
