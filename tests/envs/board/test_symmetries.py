"""A game seen mirrored or turned is the same game: against the printed board, and played move by move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.envs import EnvConfig, EnvError, make_envs, restore, state_of

pytest.importorskip("pyspiel")

from triathlon.envs.board import BoardConfig, BoardEnvs, Planes, load_game
from triathlon.envs.board.symmetries import SYMMETRIES, symmetries_of
from triathlon.training.board.self_play_config import SelfPlayConfig, judged

GAMES: list[tuple[str, dict[str, Any], int]] = [
    ("breakthrough", {"rows": 5, "columns": 4}, 2),
    ("connect_four", {}, 2),
    ("connect_four", {"rows": 5, "columns": 5, "x_in_row": 3, "egocentric_obs_tensor": True}, 2),
    ("go", {"board_size": 5, "komi": 5.5, "max_game_length": 50}, 8),
    ("gomoku", {"size": 5, "connect": 4}, 8),
    ("hex", {"board_size": 4}, 2),
    ("hex", {"board_size": 4, "plain_obs_tensor": True}, 2),
    ("mnk", {"m": 4, "n": 3, "k": 3}, 4),
    ("mnk", {"m": 4, "n": 4, "k": 3}, 8),
    ("othello", {}, 4),
    ("tic_tac_toe", {}, 8),
]


def test_all_games_are_tried() -> None:
    assert {name for name, _, _ in GAMES} == set(SYMMETRIES)


@pytest.mark.parametrize(("name", "parameters", "number"), GAMES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_same_game_is_played_on_the_board_that_is_seen(
    name: str, parameters: dict[str, Any], number: int, seed: int
) -> None:
    """The same moves by their other names, from the start to the result."""
    game = load_game(name, parameters)
    planes = Planes(game)
    symmetries = symmetries_of(game, planes.layout.shape)
    assert len(symmetries) == number
    rng = np.random.default_rng(seed)
    view = np.array([int(rng.integers(number))])
    state, other = game.new_initial_state(), game.new_initial_state()
    while not state.is_terminal():
        side = np.array([state.current_player()])
        assert other.current_player() == side[0]
        mask = planes.legal([state], side)
        seen = symmetries.legal(mask, view)
        assert (symmetries.see(planes.see([state], side), view) == planes.see([other], side)).all()
        assert (seen == planes.legal([other], side)).all()
        chosen = rng.choice(np.flatnonzero(seen[0]), 1)
        own = symmetries.actions[view, chosen]
        assert mask[0, own[0]]
        state.apply_action(int(planes.to_game(own, side)[0]))
        other.apply_action(int(planes.to_game(chosen, side)[0]))
    assert other.is_terminal() and other.returns() == state.returns()


@pytest.mark.parametrize(("name", "parameters", "number"), GAMES)
def test_symmetries_differ_and_the_first_is_none(name: str, parameters: dict[str, Any], number: int) -> None:
    game = load_game(name, parameters)
    symmetries = symmetries_of(game, Planes(game).layout.shape)
    assert (symmetries.numbers[0] == np.arange(symmetries.numbers.shape[1])).all()
    assert (symmetries.actions[0] == np.arange(game.num_distinct_actions())).all()
    assert len({tuple(row) for row in symmetries.actions.tolist()}) == number


def test_a_mirrored_stone_falls_into_the_printed_column() -> None:
    envs = BoardEnvs("connect_four", 40, BoardConfig(symmetries=True))
    envs.reset(seed=0)
    obs, *_ = envs.step(np.zeros(40, int))
    bottom = [envs.text(i).splitlines()[5] for i in range(40)]
    assert set(bottom) == {"x......", "......x"}
    assert 10 <= bottom.count("x......") <= 30
    assert (obs[:, 1, 0, 0] == 1).all()  # seen in the column it was put in, by the other side
    assert envs.action_names()[:, 0].tolist() == [0 if line == "x......" else 6 for line in bottom]


def test_tic_tac_toe_is_seen_in_eight_ways() -> None:
    """o in the corner and x beside it: each of the eight ways to print it is met, and what is seen is one of them."""
    envs = BoardEnvs("tic_tac_toe", 100, BoardConfig(symmetries=True))
    envs.reset(seed=1)
    envs.step(np.zeros(100, int))
    obs, *_ = envs.step(np.ones(100, int))
    printed = {envs.text(i) for i in range(100)}
    assert printed == {
        *("xo.\n...\n...", ".ox\n...\n...", "...\n...\nxo.", "...\n...\n.ox"),
        *("x..\no..\n...", "..x\n..o\n...", "...\no..\nx..", "...\n..o\n..x"),
    }
    assert (obs[:, 0].reshape(100, 9).argmax(1) == 0).all() and (obs[:, 1].reshape(100, 9).argmax(1) == 1).all()


@pytest.mark.parametrize("name", ["breakthrough", "go", "hex", "othello", "connect_four"])
def test_games_are_played_to_their_results_and_go_on_to_the_bit(name: str) -> None:
    board = BoardConfig(symmetries=True, random_openings=0.3, resume_share=0.3, max_plies=70)
    config = EnvConfig(f"board/{name}", 6, board=board)
    envs = make_envs(config)

    def play(envs: Any, mask: Any, num_steps: int, seed: int) -> list[tuple[Any, ...]]:
        draw, seen = np.random.default_rng(seed), []
        for _ in range(num_steps):
            actions = np.argmax(draw.random(mask.shape) * mask, axis=1)
            obs, reward, terminated, _, info = envs.step(actions)
            mask = info["action_mask"].copy()
            seen.append((obs, reward, terminated, mask, info["next_sign"]))
        return seen

    _, info = envs.reset(seed=3)
    mask = play(envs, info["action_mask"], 80, 1)[-1][3]
    saved = state_of(envs)
    assert saved is not None
    assert isinstance(envs.unwrapped, BoardEnvs) and len(set(envs.unwrapped.get_state()["views"].tolist())) > 1
    expected = play(envs, mask, 80, 2)
    assert any(terminated.any() for _, _, terminated, _, _ in expected)
    again = make_envs(config)
    restore(again, saved)
    for one, other in zip(expected, play(again, mask, 80, 2), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_without_symmetries_nothing_is_drawn_for_them() -> None:
    plain, seen = BoardEnvs("othello", 3), BoardEnvs("othello", 3, BoardConfig(symmetries=True))
    for envs in (plain, seen):
        envs.reset(seed=4)
    assert "views" not in plain.get_state() and "views" in seen.get_state()
    fresh = [np.random.default_rng(generator.bit_generator.seed_seq) for generator in plain.generators]
    for generator, other in zip(plain.generators, fresh, strict=True):
        other.random()  # where the game begins
        assert generator.random() == other.random()


@pytest.mark.parametrize(("saved", "now"), [("true", "false"), ("false", "true")])
def test_saved_games_go_on_with_the_symmetries_that_they_had(saved: str, now: str) -> None:
    made = {str(on).lower(): BoardEnvs("tic_tac_toe", 2, BoardConfig(symmetries=on)) for on in (True, False)}
    made[saved].reset(seed=0)
    sentence = f"env.board.symmetries is {now}, but the games under way were saved with it {saved}; set it to {saved}"
    with pytest.raises(EnvError, match=sentence):
        made[now].set_state(made[saved].get_state())


def test_agents_are_judged_on_the_board_as_it_is() -> None:
    env = EnvConfig("board/go", board=BoardConfig(symmetries=True))
    judging = judged(env, SelfPlayConfig())
    assert judging.board is not None and not judging.board.symmetries


def test_a_game_without_known_symmetries_says_so() -> None:
    with pytest.raises(EnvError, match=r"env\.board\.symmetries: board/chess has no symmetry .* set it to false"):
        BoardEnvs("chess", 1, BoardConfig(symmetries=True))


def test_a_board_in_space_says_so() -> None:
    with pytest.raises(EnvError, match=r"env\.board\.symmetries: .*boards in a plane, and gomoku.* set it to false"):
        BoardEnvs("gomoku", 1, BoardConfig({"dims": 3, "size": 4}, symmetries=True))
