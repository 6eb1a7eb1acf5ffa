"""Games step by step: results, signs, passes, dice, openings, resumed games, exact resuming."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from triathlon.envs import EnvConfig, EnvError, make_envs, restore, state_of

pytest.importorskip("pyspiel")

from tests.envs.board.playing import play, play_randomly, random_actions, same
from triathlon.envs.board import BoardConfig, BoardEnvs, game_names


def test_connect_four_won_by_the_first_player() -> None:
    envs = make_envs(EnvConfig("board/connect_four", num_envs=2))
    obs, info = envs.reset(seed=0)
    assert obs.shape == (2, 3, 6, 7)
    assert obs.dtype == np.uint8
    assert info["action_mask"].tolist() == [[True] * 7] * 2
    steps = play(envs, 0, 1, 0, 1, 0, 1, [0, 2])
    for reward, terminated, learning, sign in steps[:-1]:
        assert not (reward.any() or terminated.any() or learning.any())
        assert sign.tolist() == [-1, -1] and sign.dtype == np.float32
    reward, terminated, learning, sign = steps[-1]
    assert reward.tolist() == learning.tolist() == [1, 0]
    assert terminated.tolist() == [True, False]
    obs, reward, terminated, _, info = envs.step(np.array([99, 1]))  # the action after the end is ignored
    assert terminated.tolist() == [False, True]  # the second player has four in column 1
    assert reward.tolist() == [0, -1]
    assert info["learning_reward"].tolist() == [0, 1]
    assert info["next_sign"].tolist() == [1, -1]
    assert obs[0, :2].sum() == 0


def test_drawn_tic_tac_toe() -> None:
    envs = BoardEnvs("tic_tac_toe", 1)
    envs.reset(seed=0)
    steps = play(envs, 4, 0, 2, 6, 3, 5, 1, 7, 8)
    assert [bool(terminated[0]) for _, terminated, _, _ in steps] == [False] * 8 + [True]
    assert not any(reward.any() or learning.any() for reward, _, learning, _ in steps)
    assert envs.text(0) == "oxx\nxxo\noox"


def test_fools_mate() -> None:
    """White moves first, who is open_spiel's player 1; the reward counts for the side that moves first."""
    envs = BoardEnvs("chess", 1)
    envs.reset(seed=0)
    for move, end in (("f3", False), ("e5", False), ("g4", False), ("Qh4#", True)):
        action = np.array([envs.matches[0].state.string_to_action(move)])
        own = envs.planes.from_game(action, envs.sides)
        reward, terminated, learning, _ = play(envs, own)[0]
        assert bool(terminated[0]) is end
    assert reward.tolist() == [-1]
    assert learning.tolist() == [1]


def test_othello_passes() -> None:
    """A pass is a move of its own, the only one: whoever passes sees the other side's board next."""
    envs = BoardEnvs("othello", 1)
    _, info = envs.reset(seed=0)
    rng, passes = np.random.default_rng(1), 0
    for _ in range(2000):
        before = envs.sides[0]
        must_pass = info["action_mask"][0].nonzero()[0].tolist() == [64]
        passes += must_pass
        over = envs._over[0]
        _, _, terminated, _, info = envs.step(random_actions(info, rng))
        if not over and not terminated[0]:
            assert info["next_sign"][0] == (1 if envs.sides[0] == before else -1)
    assert passes > 5


def test_some_movers_move_again() -> None:
    """A box closed in dots and boxes gives another move: the next value is the mover's own."""
    envs = BoardEnvs("dots_and_boxes", 1, BoardConfig(parameters={"num_rows": 1, "num_cols": 2}))
    envs.reset(seed=0)
    names = ["P1(h,0,0)", "P2(h,1,0)", "P1(v,0,0)", "P2(v,0,1)"]
    actions = [envs.game.new_initial_state().string_to_action(name.replace("P2", "P1")) for name in names]
    steps = play(envs, *actions)
    assert [sign[0] for *_, sign in steps] == [-1, -1, -1, 1]


def test_backgammon_dice_come_from_the_seed() -> None:
    def dice(seed: int) -> np.ndarray:
        obs, _ = BoardEnvs("backgammon", 200).reset(seed=seed)
        return obs[:, -2:]

    first = dice(0)
    assert (first == dice(0)).all()
    assert (first != dice(1)).any()
    assert set(np.unique(first)) == {1, 2, 3, 4, 5, 6}
    assert (first[:, 0] != first[:, 1]).all()  # who starts is decided by unequal dice
    envs = BoardEnvs("backgammon", 200)
    _, info = envs.reset(seed=0)
    counts = np.zeros(7)
    for _ in range(30):
        obs, *_, info = envs.step(random_actions(info, np.random.default_rng(0)))
        counts += np.bincount(obs[:, -2:].astype(int).ravel(), minlength=7)
    assert counts[0] == 0
    assert (np.abs(counts[1:] / counts.sum() - 1 / 6) < 0.02).all()


def test_poker_is_dealt_from_the_seed() -> None:
    envs = BoardEnvs("kuhn_poker", 600)
    obs, _ = envs.reset(seed=3)
    assert obs.shape == (600, 11)
    assert np.abs(obs[:, 2:5].sum(0) - 200).max() < 45  # three cards: king, queen, jack of 600 deals
    bet = play(envs, 1, 1)[-1]  # bet, call: two for the better card
    assert set(bet[0]) == {-2.0, 2.0}
    assert (bet[2] == -bet[0]).all()


def test_reset_begins_anew_in_the_middle() -> None:
    envs = BoardEnvs("connect_four", 3)
    first, _ = envs.reset(seed=0)
    play(envs, 3, 3)
    again, info = envs.reset()
    assert (again == first).all()
    assert info["action_mask"].all()


@pytest.mark.parametrize("name", ["tic_tac_toe", "breakthrough", "kuhn_poker"])
def test_random_openings(name: str) -> None:
    """The share of games that do not begin at the beginning; none begins at its end."""
    envs = BoardEnvs(name, 400, BoardConfig(random_openings=0.7, opening_plies=9))
    envs.reset(seed=0)
    plies = np.array([match.num_plies for match in envs.matches])
    assert 0.62 < (plies > 0).mean() < 0.78
    assert plies.max() == {"tic_tac_toe": 8, "breakthrough": 9, "kuhn_poker": 2}[name]
    assert not any(match.state.is_terminal() for match in envs.matches)
    assert len({str(match.state) for match in envs.matches}) > (100 if name == "breakthrough" else 10)
    assert {match.first for match in envs.matches} == {0}


def test_games_are_resumed_in_the_middle() -> None:
    envs = BoardEnvs("connect_four", 32, BoardConfig(resume_share=1.0))
    _, info = envs.reset(seed=0)
    assert all(match.num_plies == 0 for match in envs.matches)  # nothing to resume yet
    rng, begun = np.random.default_rng(0), []
    for _ in range(120):
        over = envs._over
        *_, info = envs.step(random_actions(info, rng))
        begun += [(envs.matches[i].num_plies, envs.matches[i].state.history()) for i in np.flatnonzero(over)]
    plies = np.array([num for num, _ in begun])
    assert len(plies) > 50
    assert (plies > 5).mean() > 0.4
    assert all(num == len(history) for num, history in begun)
    played = {tuple(game[:num].tolist()) for game in envs.starts.finished for num in range(42)}
    assert sum(tuple(history) in played for _, history in begun) == len(begun)


@pytest.mark.parametrize("action", [3, 7, -1])
def test_an_illegal_action_is_named(action: int) -> None:
    envs = BoardEnvs("connect_four", 2)
    envs.reset(seed=0)
    play(envs, [3, 0], [3, 0], [3, 0], [3, 0], [3, 1], [3, 1])
    with pytest.raises(
        EnvError, match=rf"board/connect_four: action {action} is not legal in game 0 at ply 6; .* \[0, 1"
    ):
        play(envs, [action, 0])


@pytest.mark.parametrize(
    ("name", "board"),
    [
        ("connect_four", {"random_openings": 0.3, "resume_share": 0.5}),
        ("backgammon", {"resume_share": 0.5, "max_plies": 30}),
        ("leduc_poker", {"random_openings": 0.5}),
        ("chess", {"resume_share": 1.0, "max_plies": 12}),
    ],
)
def test_saved_games_go_on_to_the_bit(name: str, board: dict[str, Any]) -> None:
    config = EnvConfig(f"board/{name}", 4, board=BoardConfig(**board))
    envs = make_envs(config)
    *_, mask, _, _ = play_randomly(envs, 60)[-1]
    state = state_of(envs)
    assert state is not None
    arrays = json.loads(json.dumps(state, default=lambda array: {"array": array.tolist(), "dtype": array.dtype.str}))
    state = from_json(arrays)
    expected = play_randomly(envs, 60, 1, mask)
    assert any(terminated.any() for _, _, terminated, *_ in expected)
    for again in (envs, make_envs(config)):
        restore(again, state)
        assert same(play_randomly(again, 60, 1, mask), expected)


def from_json(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"array", "dtype"}:
        return np.array(value["array"], value["dtype"])
    if isinstance(value, dict):
        return {key: from_json(v) for key, v in value.items()}
    return [from_json(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", game_names())
def test_random_play_is_legal_in_every_game(name: str) -> None:
    """A few hundred plies: every action that the mask offers is taken, every result is that of the game."""
    envs = make_envs(EnvConfig(f"board/{name}", 4, board=BoardConfig(random_openings=0.2)))
    games = play_randomly(envs, 100)
    for obs, reward, terminated, truncated, mask, learning, sign in games[1:]:
        assert np.isfinite(obs).all()
        assert obs.shape[1:] == envs.single_observation_space.shape
        assert obs.dtype == envs.single_observation_space.dtype
        assert mask.any(1).all()
        assert not truncated.any()
        assert (np.abs(learning) == np.abs(reward)).all()
        assert not reward[~terminated].any()
        assert set(np.abs(sign)) == {1}
    again = make_envs(EnvConfig(f"board/{name}", 4, board=BoardConfig(random_openings=0.2)))
    assert same(games[:40], play_randomly(again, 39))


def test_pictures_are_of_one_size_and_change() -> None:
    for name in ("connect_four", "chess", "backgammon", "dots_and_boxes"):
        envs = make_envs(EnvConfig(f"board/{name}", 2), render=True)
        envs.reset(seed=0)
        before: Any = envs.render()
        play_randomly(envs, 4)
        after: Any = envs.render()
        assert before[0].shape == after[1].shape == (384, 384, 3)
        assert before[0].dtype == np.uint8
        assert (before[0] != after[0]).any()
