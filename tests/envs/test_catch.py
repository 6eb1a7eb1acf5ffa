"""Catch: what is seen, what it pays, and resets of chosen columns."""

from __future__ import annotations

import numpy as np
import pytest

from triathlon.envs.catch import CatchVectorEnv
from triathlon.envs.errors import EnvError
from triathlon.envs.make import EnvConfig, make_env, make_envs


def test_a_paddle_that_follows_the_ball_always_catches_it() -> None:
    envs = CatchVectorEnv(16)
    obs, _ = envs.reset(seed=0)
    total = np.zeros(16)
    for _ in range(9):
        ball, paddle = obs[..., :9, :, 0].sum(1).argmax(-1), obs[..., 9, :, 0].argmax(-1)
        obs, reward, terminated, truncated, _ = envs.step(np.sign(ball - paddle) + 1)
        total += reward
    assert terminated.all() and not truncated.any() and (total == 1.0).all()


def test_a_paddle_that_stays_catches_what_falls_on_it() -> None:
    envs = CatchVectorEnv(64, rows=6, columns=7)
    envs.reset(seed=1)
    column = envs.ball[:, 1].copy()
    for t in range(5):
        obs, reward, terminated, _, _ = envs.step(np.ones(64, int))
        assert terminated.all() == (t == 4) and obs.shape == (64, 6, 7, 1)
    assert (reward == np.where(column == 3, 1.0, -1.0)).all() and 1 < (reward == 1.0).sum() < 30
    assert (obs == 255).sum() == 64 * 2 - (reward == 1.0).sum()  # a caught ball and the paddle are one


def test_single_and_vector_play_the_same() -> None:
    config = EnvConfig("triathlon/Catch-v0", num_envs=1)
    single, envs = make_env(config), make_envs(config)
    obs, _ = single.reset(seed=5)
    assert obs.shape == (10, 10, 1) and single.observation_space.contains(obs)
    assert envs.single_observation_space == single.observation_space
    envs.close()


def test_chosen_columns_begin_anew() -> None:
    envs = CatchVectorEnv(4)
    envs.reset(seed=2)
    for _ in range(3):
        envs.step(np.zeros(4, int))
    before = envs.ball.copy()
    obs, _ = envs.reset(options={"reset_mask": np.array([False, True, False, True])})
    assert envs.ball[:, 0].tolist() == [3, 0, 3, 0] and envs.num_steps.tolist() == [3, 0, 3, 0]
    assert (envs.ball[[0, 2]] == before[[0, 2]]).all() and envs.paddle.tolist() == [2, 5, 2, 5]
    assert (obs[1, 0] == 255).sum() == 1


def test_a_picture_has_to_have_room() -> None:
    with pytest.raises(EnvError, match="rows and columns must be at least 5, found 4 and 10"):
        CatchVectorEnv(2, rows=4)
