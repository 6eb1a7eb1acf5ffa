"""Games that are cut: when, and what they then count."""

from __future__ import annotations

import numpy as np
import pytest

from triathlon.envs import EnvError

pytest.importorskip("pyspiel")

import pyspiel

from tests.envs.board.playing import random_actions
from triathlon.envs.board import BoardConfig, BoardEnvs
from triathlon.envs.board.planes import Planes
from triathlon.envs.board.ply_limit import make_limit


def test_long_games_are_drawn() -> None:
    envs = BoardEnvs("chess", 2, BoardConfig(max_plies=6))
    _, info = envs.reset(seed=0)
    rng, ends = np.random.default_rng(0), []
    for _ in range(14):
        _, reward, terminated, _, info = envs.step(random_actions(info, rng))
        ends.append(terminated.tolist())
        assert not reward.any()
    assert ends == [[t in (5, 12)] * 2 for t in range(14)]


QUEEN_UP = "rnb1kbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1"


@pytest.mark.parametrize(
    ("game", "position", "worth"),
    [
        ("chess", QUEEN_UP, (30 - 39) / 69 / 2),  # White is player 1
        ("chess", "8/8/8/4k3/8/8/8/4K2R b K - 0 1", -0.5),
        ("chess", "8/8/8/4k3/8/8/8/4K3 b - - 0 1", 0.0),
        ("breakthrough", None, 0.0),
    ],
)
def test_a_cut_game_counts_by_what_is_left(game: str, position: str | None, worth: float) -> None:
    loaded = pyspiel.load_game(game)
    state = loaded.new_initial_state(position) if position else loaded.new_initial_state()
    limit = make_limit(Planes(loaded), game, 10, "material")
    assert limit.result(state) == pytest.approx(worth)
    assert [limit.is_reached(num) for num in (9, 10, 11)] == [False, True, True]


def test_both_sides_are_paid_by_what_is_left() -> None:
    envs = BoardEnvs("breakthrough", 8, BoardConfig(max_plies=31, at_limit="material"))
    _, info = envs.reset(seed=0)
    rng, seen = np.random.default_rng(0), []
    for _ in range(200):
        movers = envs.sides.copy()
        _, reward, over, _, info = envs.step(random_actions(info, rng))
        for i in np.flatnonzero(over):
            if not envs.matches[i].state.is_terminal():
                left = [envs.text(i).rpartition("abcdefgh")[0].count(letter) for letter in "bw"]  # of players 0 and 1
                worth = (left[0] - left[1]) / sum(left) / 2
                assert reward[i] == pytest.approx(worth)  # player 0 moves first
                assert info["learning_reward"][i] == pytest.approx(worth if movers[i] == 0 else -worth)
                seen.append(worth)
    assert len(seen) > 10 and min(seen) < 0 < max(seen)


@pytest.mark.parametrize(
    ("game", "settings", "sentence"),
    [
        ("chess", {}, r"games are never cut; set max_plies"),
        ("go", {"max_plies": 40}, "not known in board/go, only in breakthrough, checkers and chess; set it to draw"),
        ("antichess", {"max_plies": 40}, "not known in board/antichess"),
    ],
)
def test_pieces_that_cannot_be_counted_are_refused(game: str, settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        BoardEnvs(game, 2, BoardConfig(at_limit="material", **settings))
