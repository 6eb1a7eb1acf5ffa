"""Our own environments: every number of the memory tasks and probes, and vector equals single."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.envs import EnvConfig, make_env, make_envs
from triathlon.envs.pixels import draw_cart_pole
from triathlon.envs.probes import PROBES

OURS = sorted(name for name in gym.registry if name.startswith("triathlon/"))


def test_all_are_registered():
    assert {f"triathlon/{name}-v0" for name in PROBES} < set(OURS)
    assert len(OURS) == 5 + 9


@pytest.mark.parametrize("name", OURS)
def test_gymnasium_checker_accepts(name):
    env = make_env(EnvConfig(name), render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    assert env.render().dtype == np.uint8
    assert env.render().shape[2] == 3


@pytest.mark.parametrize("name", OURS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_a_column_equals_the_single_environment(name, seed):
    seeds = [seed, seed + 1, seed + 2]
    envs = make_envs(EnvConfig(name, num_envs=3))
    singles = [make_env(EnvConfig(name)) for _ in seeds]
    obs, info = envs.reset(seed=seeds)
    alone: list[tuple[Any, ...]] = [single.reset(seed=s) for single, s in zip(singles, seeds, strict=True)]
    ended = [False] * 3
    envs.action_space.seed(seed)
    for _ in range(60):
        for i in range(3):
            assert np.array_equal(obs[i], alone[i][0])
            assert ("action_mask" in info) == ("action_mask" in alone[i][-1])
            assert np.array_equal(info.get("action_mask", [0] * 3)[i], alone[i][-1].get("action_mask", 0))
        actions = envs.action_space.sample()
        obs, reward, terminated, truncated, info = envs.step(actions)
        for i, single in enumerate(singles):
            if ended[i]:
                alone[i] = single.reset()
                assert (reward[i], terminated[i], truncated[i]) == (0.0, False, False)
            else:
                alone[i] = single.step(actions[i])
                assert (reward[i], terminated[i], truncated[i]) == alone[i][1:4]
            ended[i] = bool(terminated[i] or truncated[i])


def play(envs, choose):
    """Step until every column has ended its first episode; return the return of each and the rows seen."""
    obs, info = envs.reset(seed=7)
    total, alive, rows = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool), [obs]
    while alive.any():
        obs, reward, terminated, truncated, info = envs.step(choose(rows, info))
        total += reward * alive
        alive &= ~(terminated | truncated)
        rows.append(obs)
    return total, rows


def test_cue_recall_shows_the_cue_once_and_pays_for_recalling_it():
    envs = make_envs(EnvConfig("triathlon/CueRecall-v0", num_envs=64, kwargs={"delay": 3, "num_cues": 3}))
    total, rows = play(envs, lambda rows, info: rows[0][:, :3].argmax(1))
    assert total.tolist() == [1.0] * 64
    assert len(rows) == 6  # the cue, three blanks, the question, the last observation
    assert (rows[0][:, :3].sum(1) == 1).all()
    assert set(rows[0][:, :3].argmax(1)) == {0, 1, 2}
    assert all((row == 0).all() for row in rows[1:4])
    assert (rows[4] == [0, 0, 0, 1]).all()
    assert (rows[5] == 0).all()
    wrong, _ = play(envs, lambda rows, info: (rows[0][:, :3].argmax(1) + 1) % 3)
    assert wrong.tolist() == [0.0] * 64


def test_cue_recall_follows_next_step_reset_literally():
    envs = make_envs(EnvConfig("triathlon/CueRecall-v0", num_envs=1, kwargs={"delay": 0}))
    obs, _ = envs.reset(seed=0)
    assert obs[0, 2] == 0
    obs, reward, terminated, _, _ = envs.step(np.array([0]))
    assert obs.tolist() == [[0, 0, 1]]
    assert (reward[0], terminated[0]) == (0, False)
    obs, reward, terminated, _, _ = envs.step(envs.unwrapped.cue.copy())
    assert obs.tolist() == [[0, 0, 0]]
    assert (reward[0], terminated[0]) == (1, True)
    obs, reward, terminated, _, _ = envs.step(np.array([1]))  # ignored
    assert obs[0, :2].sum() == 1
    assert (reward[0], terminated[0]) == (0, False)


def test_t_maze_literally():
    def go(last):
        def choose(rows, info):
            north = rows[0][:, 0] == 0  # 011 says north
            at_junction = rows[-1][:, 1] == 1
            at_junction &= rows[-1][:, 0] == 0
            at_junction &= rows[-1][:, 2] == 0
            return np.where(at_junction, np.where(north == last, 0, 2), 1)

        return choose

    envs = make_envs(EnvConfig("triathlon/TMaze-v0", num_envs=16, kwargs={"length": 4}))
    total, rows = play(envs, go(True))
    assert total.tolist() == [4.0] * 16
    assert {tuple(row) for row in rows[0]} == {(0, 1, 1), (1, 1, 0)}
    assert all((row == [1, 0, 1]).all() for row in rows[1:4])
    assert (rows[4] == [0, 1, 0]).all()
    total, _ = play(envs, go(False))
    assert np.allclose(total, -0.1)
    total, rows = play(envs, lambda rows, info: np.zeros(16, int))
    assert len(rows) == 21  # cut off after 4 (length + 1) steps
    assert np.allclose(total, -2.0)  # 20 times against the wall
    back = np.array([1, 3] + [1] * 4 + [0] * 15)
    _, rows = play(envs, lambda rows, info: np.full(16, back[len(rows) - 1]))
    assert (rows[2] == [1, 0, 1]).all()  # back at the start the sign is gone


def test_repeat_previous_pays_for_the_value_k_steps_ago():
    config = EnvConfig("triathlon/RepeatPrevious-v0", num_envs=8, kwargs={"k": 2, "episode_length": 12})
    total, rows = play(make_envs(config), lambda rows, info: rows[max(len(rows) - 3, 0)])
    assert np.allclose(total, 1.0)
    assert len(rows) == 13
    total, _ = play(make_envs(config), lambda rows, info: (rows[max(len(rows) - 3, 0)] + 1) % 4)
    assert np.allclose(total, -1.0)


@pytest.mark.parametrize("name", [name for name in PROBES if name not in ("ProbeContinuous", "ProbeTimeLimit")])
def test_stated_action_values_are_what_optimal_play_returns(name):
    gamma = 0.9
    values = PROBES[name].action_values(gamma)
    envs = make_envs(EnvConfig(f"triathlon/{name}-v0", num_envs=32))
    num_actions = envs.single_action_space.n
    seen = set()
    for first_action in range(num_actions):
        obs, info = envs.reset(seed=first_action)
        first, start = [tuple(map(float, o)) for o in obs], obs
        total, discount, alive = np.zeros(32), 1.0, np.ones(32, bool)
        actions = np.full(32, first_action)
        while alive.any():
            obs, reward, terminated, truncated, info = envs.step(actions)
            total += discount * reward * alive
            discount *= gamma
            alive &= ~(terminated | truncated)
            if name == "ProbeMemory":
                actions = (start[:, 0] > 0).astype(int)
            else:
                q = np.array([values.get(tuple(map(float, o)), (0.0,) * num_actions) for o in obs])
                actions = np.where(info.get("action_mask", np.ones_like(q)) == 1, q, -np.inf).argmax(1)
        assert np.allclose(total, [values[o][first_action] for o in first])
        seen |= set(first)
    assert seen <= set(values)
    assert max(abs(v) for q in values.values() for v in q) <= 11


def test_mask_probe_forbids_what_would_pay_most():
    envs = make_envs(EnvConfig("triathlon/ProbeMask-v0", num_envs=16))
    values = PROBES["ProbeMask"].action_values(0.5)
    obs, info = envs.reset(seed=0)
    for _ in range(4):
        best = np.array([np.argmax(values.get(tuple(map(float, o)), (0, 0, 0))) for o in obs])
        assert (info["action_mask"].sum(1) == 2).all()
        if not envs.unwrapped.ended.any():
            assert (info["action_mask"][np.arange(16), best] == 0).all()
        obs, *_, info = envs.step(np.ones(16, int))


def test_time_limit_probe_truncates_after_five_steps_and_never_terminates():
    envs = make_envs(EnvConfig("triathlon/ProbeTimeLimit-v0", num_envs=1))
    envs.reset(seed=0)
    steps = [envs.step(np.zeros(1, int)) for _ in range(7)]
    assert [s[1][0] for s in steps] == [1, 1, 1, 1, 1, 0, 1]
    assert [bool(s[3][0]) for s in steps] == [False] * 4 + [True] + [False] * 2
    assert not any(s[2][0] for s in steps)
    assert PROBES["ProbeTimeLimit"].action_values(0.75) == {(0.0,): (4.0,)}


def test_continuous_probe_is_best_at_half_the_observation():
    envs = make_envs(EnvConfig("triathlon/ProbeContinuous-v0", num_envs=8))
    obs, _ = envs.reset(seed=0)
    best = PROBES["ProbeContinuous"].best_actions
    _, reward, terminated, *_ = envs.step(np.array([[best[float(o[0]),]] for o in obs], np.float32))
    assert np.allclose(reward, 1.0)
    assert terminated.all()
    obs, *_ = envs.step(np.zeros((8, 1), np.float32))
    assert np.allclose(envs.step(np.zeros((8, 1), np.float32))[1], 0.75)


def test_pixels_follow_gymnasiums_cart_pole():
    envs = make_envs(EnvConfig("triathlon/CartPolePixels-v0", num_envs=1))
    obs, _ = envs.reset(seed=[0])
    assert (obs[..., 0] == obs[..., 1]).all()
    twin = CartPoleEnv()
    twin.reset()
    twin.state = envs.unwrapped.cart_state[:, 0].copy()
    for t in range(8):
        before = obs
        obs, reward, terminated, *_ = envs.step(np.array([t % 2]))
        _, _, twin_terminated, *_ = twin.step(t % 2)
        assert np.allclose(envs.unwrapped.cart_state[:, 0], twin.state, atol=1e-12)
        assert (reward[0], terminated[0]) == (1.0, twin_terminated)
        assert (obs[..., 0] == before[..., 1]).all()
    assert (obs[..., 0] != obs[..., 1]).any()


def test_the_picture_literally():
    upright, left, leaning = draw_cart_pole(np.array([0.0, -1.2, 0.0]), np.array([0.0, 0.0, 0.2]))
    assert upright.shape == (24, 32)
    assert np.array_equal(upright, upright[:, ::-1])
    # The cart reaches from 13.5 to 18.5, half of pixels 13 and 18; the pole covers 0.8 to either side of 16.
    assert upright[23, 12:20].tolist() == [0, 127, 255, 255, 255, 255, 127, 0]
    assert upright[10, 13:19].tolist() == [0, 0, 204, 204, 0, 0]
    assert np.array_equal(left[:, :24], upright[:, 8:])
    assert upright[:2].sum() == 0  # above the pole
    tips = (np.arange(32) + 0.5) @ leaning[3] / leaning[3].sum()
    assert abs(tips - (16 + 16.5 * np.tan(0.2))) < 0.05


def test_the_time_limit_of_pixels_is_that_of_cart_pole_and_can_be_set():
    assert make_envs(EnvConfig("triathlon/CartPolePixels-v0")).unwrapped.max_episode_steps == 500
    envs = make_envs(EnvConfig("triathlon/CartPolePixels-v0", num_envs=2, max_episode_steps=4))
    envs.reset(seed=0)
    assert [envs.step(np.array([t % 2] * 2))[3].all() for t in range(5)] == [False, False, False, True, False]
    single = make_env(EnvConfig("triathlon/CartPolePixels-v0", max_episode_steps=4))
    single.reset(seed=0)
    assert [single.step(t % 2)[3] for t in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("game", ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"])
def test_minatar_games(game):
    pytest.importorskip("minatar")
    for version, actions in ((0, {6}), (1, {3, 4, 5, 6})):
        env = make_env(EnvConfig(f"MinAtar/{game}-v{version}"), render_mode="rgb_array")
        check_env(env.unwrapped, skip_render_check=True)
        assert env.action_space.n in actions
        assert env.observation_space.shape[:2] == (10, 10)
        env.reset(seed=0)
        assert env.render().shape == (160, 160, 3)
    envs = make_envs(EnvConfig(f"MinAtar/{game}-v1", num_envs=2))
    obs, _ = envs.reset(seed=0)
    assert obs.dtype == np.uint8
    assert obs.max() == 1
