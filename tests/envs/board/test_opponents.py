"""Opponents that sit inside the environments: sides, changes, names and illegal moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from triathlon.envs import EnvConfig, EnvError, make_envs, state_of

pytest.importorskip("pyspiel")

from tests.envs.board.playing import play, play_randomly, random_actions, same
from triathlon.envs.board import BoardConfig, BoardEnvs


class Recorder:
    """Plays the first legal action and remembers which side it played."""

    name = "recorder"

    def __init__(self) -> None:
        self.sides: list[int] = []
        self.most = 0

    def choose(self, states: Sequence[Any]) -> list[int]:
        self.most = max(self.most, len(states))
        self.sides += [state.current_player() for state in states]
        return [state.legal_actions()[0] for state in states]

    def close(self) -> None:
        pass


def test_opponents_take_turns_in_sides() -> None:
    envs, recorder = BoardEnvs("connect_four", 3), Recorder()
    envs.set_opponents([recorder, recorder, None])
    obs, info = envs.reset(seed=0)
    assert envs.agent_sides.tolist() == [0, 1, -1]
    assert [match.num_plies for match in envs.matches] == [0, 1, 0]
    rng, sides = np.random.default_rng(0), []
    for _ in range(200):
        over = envs._over
        obs, reward, terminated, _, info = envs.step(random_actions(info, rng))
        stones = obs[:2, :2].sum((2, 3), dtype=int)
        assert (stones[:, 0] + envs.agent_sides[:2] == stones[:, 1])[~terminated[:2]].all()  # own, the opponent's
        assert (info["next_sign"][:2] == 1).all()
        assert (info["learning_reward"][:2] == reward[:2]).all()
        for i in np.flatnonzero(terminated[:2]):
            assert reward[i] == envs.matches[i].state.returns()[envs.agent_sides[i]]
        if over[0]:
            sides.append(int(envs.agent_sides[0]))
    assert len(sides) > 6
    assert sides == [(1 + k) % 2 for k in range(len(sides))]
    assert set(recorder.sides) == {0, 1}
    assert recorder.most == 2


def test_opponents_change_with_the_next_game() -> None:
    envs, one, other = BoardEnvs("tic_tac_toe", 1), Recorder(), Recorder()
    envs.set_opponents([one])
    envs.reset(seed=0)
    envs.set_opponents([other])
    play(envs, 4)
    assert envs.opponents == [one]
    play(envs, 5)
    assert play(envs, 3)[-1][1].all()
    play(envs, 0)
    assert envs.opponents == [other]
    assert len(one.sides) == 2
    assert len(other.sides) == 1  # it begins
    with pytest.raises(EnvError, match="1 games need as many opponents, found 2"):
        envs.set_opponents([one, other])


def test_an_opponent_by_name() -> None:
    config = EnvConfig("board/tic_tac_toe", 64, board=BoardConfig(opponent="greedy"))
    games = [play_randomly(make_envs(config), 40, seed) for seed in (0, 0, 1)]
    assert same(games[0], games[1])
    assert not same(games[0], games[2])
    rewards = np.stack([reward for _, reward, *_ in games[0][1:]])
    assert (rewards == -1).sum() > 5 * (rewards == 1).sum() > 0
    assert state_of(make_envs(config)) is None  # what an opponent remembers cannot be saved


def test_an_opponents_illegal_move_names_it() -> None:
    class Cheat(Recorder):
        def choose(self, states: Sequence[Any]) -> list[int]:
            return [4 for _ in states]

    envs = BoardEnvs("tic_tac_toe", 1)
    envs.set_opponents([Cheat()])
    envs.reset(seed=0)
    with pytest.raises(EnvError, match=r"board/tic_tac_toe: recorder chose action 4, which is not legal at ply 1"):
        play(envs, 4)
