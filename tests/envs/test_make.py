"""From a name to vector environments that keep the contract, whatever the spaces."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from triathlon.envs import EnvConfig, EnvError, make_env, make_envs

USER = "tests.envs.user_envs"
IDS = [
    "CartPole-v1",
    "Acrobot-v1",
    "Pendulum-v1",
    "Taxi-v3",
    "Blackjack-v1",
    "triathlon/CueRecall-v0",
    "triathlon/TMaze-v0",
    "triathlon/RepeatPrevious-v0",
    "triathlon/CartPolePixels-v0",
    "triathlon/ProbeMask-v0",
    "triathlon/ProbeContinuous-v0",
    f"{USER}:Walk",
]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def equal(a, b) -> bool:
    """Equality of observations of any structure."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(a, b))


def rollout(envs, num_steps: int, seed: int = 0) -> list:
    envs.action_space.seed(seed)
    return [envs.step(envs.action_space.sample())[:4] for _ in range(num_steps)]


@pytest.mark.parametrize("name", IDS)
def test_shapes_dtypes_and_next_step_reset(name):
    envs = make_envs(EnvConfig(name, num_envs=3))
    assert envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.action_space.seed(1)
    obs, _ = envs.reset(seed=1)
    assert envs.observation_space.contains(obs)
    ended = np.zeros(3, bool)
    for _ in range(230):
        obs, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert envs.observation_space.contains(obs)
        assert reward.shape == terminated.shape == truncated.shape == (3,)
        assert terminated.dtype == truncated.dtype == bool
        assert not (ended & ((reward != 0) | terminated | truncated)).any()
        ended = terminated | truncated
    envs.close()


@pytest.mark.parametrize("name", IDS)
def test_a_seed_repeats_and_columns_differ(name):
    first, second = (make_envs(EnvConfig(name, num_envs=4)) for _ in range(2))
    assert equal(first.reset(seed=5)[0], second.reset(seed=5)[0])
    assert all(equal(x, y) for x, y in zip(rollout(first, 60), rollout(second, 60), strict=True))


def test_columns_and_neighbouring_seeds_play_different_episodes():
    starts = [make_envs(EnvConfig("Acrobot-v1", num_envs=4)).reset(seed=seed)[0] for seed in (0, 1, 2)]
    assert len(np.unique(np.concatenate(starts), axis=0)) == 12


def test_the_single_environment_equals_a_column_of_sync():
    seeds = [11, 12]
    envs = make_envs(EnvConfig("Acrobot-v1", num_envs=2, max_episode_steps=30))
    obs, _ = envs.reset(seed=seeds)
    singles = [make_env(EnvConfig("Acrobot-v1", max_episode_steps=30)) for _ in seeds]
    ended = [False, False]
    assert np.array_equal(obs, np.stack([e.reset(seed=s)[0] for e, s in zip(singles, seeds, strict=True)]))
    for t in range(70):
        actions = np.array([t % 3, (t // 5) % 3])
        obs, reward, terminated, truncated, _ = envs.step(actions)
        for i, single in enumerate(singles):
            expected = (single.reset()[0], 0.0, False, False) if ended[i] else single.step(int(actions[i]))[:4]
            ended[i] = expected[2] or expected[3]
            assert np.array_equal(obs[i], expected[0])
            assert (reward[i], terminated[i], truncated[i]) == expected[1:]
        assert truncated.any() == (t % 31 == 29)


def test_auto_takes_the_vector_entry_point_and_honours_limit_and_kwargs():
    config = EnvConfig("CartPole-v1", num_envs=2, max_episode_steps=7, kwargs={"sutton_barto_reward": True})
    envs = make_envs(config)
    assert type(envs.unwrapped).__name__ == "CartPoleVectorEnv"
    envs.reset(seed=0)
    steps = [envs.step(np.array([t % 2, t % 2])) for t in range(9)]
    assert [s[3].tolist() for s in steps] == [[False] * 2] * 6 + [[True] * 2] + [[False] * 2] * 2
    assert all((s[1] == 0).all() for s in steps)


@pytest.mark.parametrize("how", ["auto", "sync", "process"])
@pytest.mark.parametrize("limit", [30, 100])
def test_a_limit_above_or_below_the_environments_own_holds(how, limit):
    """T-maze's own is 44; a step north at the start walks into the wall."""
    envs = make_envs(EnvConfig("triathlon/TMaze-v0", num_envs=1, vectorization=how, max_episode_steps=limit))
    envs.reset(seed=0)
    assert [envs.step(np.zeros(1, int))[3][0] for _ in range(limit)] == [False] * (limit - 1) + [True]
    envs.close()


def test_a_single_environments_limit_is_that_of_the_configuration():
    """CartPole from pixels ends after 500 steps by itself; this keeps the pole up for ever."""
    env = make_env(EnvConfig("triathlon/CartPolePixels-v0", max_episode_steps=1000))
    env.reset(seed=0)
    for t in range(1000):
        x, theta, x_dot, theta_dot = env.unwrapped.column.cart_state[[0, 2, 1, 3], 0]
        *_, terminated, truncated, _ = env.step(int(x + 2 * x_dot + 20 * theta + 5 * theta_dot > 0))
        assert (terminated, truncated) == (False, t == 999)
    with pytest.raises(EnvError, match="TMaze: max_episode_steps must exceed length 10 to reach the junction, found 5"):
        make_env(EnvConfig("triathlon/TMaze-v0", max_episode_steps=5))


def test_auto_steps_single_environments_where_wrappers_are_asked_for():
    envs = make_envs(EnvConfig("CartPole-v1", num_envs=2, wrappers=(f"{USER}:AddOne",)))
    assert isinstance(envs.unwrapped, SyncVectorEnv)
    obs, _ = envs.reset(seed=0)
    assert (np.abs(obs - 1) <= 0.05).all()


def test_num_envs_can_be_overridden_for_evaluation():
    assert make_envs(EnvConfig("CartPole-v1", num_envs=8), num_envs=3).num_envs == 3


def test_processes_give_what_sync_gives():
    sync, process = (
        make_envs(EnvConfig("Acrobot-v1", num_envs=2, vectorization=how, max_episode_steps=8))
        for how in ("sync", "process")
    )
    assert equal(sync.reset(seed=3)[0], process.reset(seed=3)[0])
    assert all(equal(x, y) for x, y in zip(rollout(sync, 20), rollout(process, 20), strict=True))
    process.close()


def test_a_users_class_and_function_are_made_with_kwargs():
    for name in ("Walk", "make_walk"):
        envs = make_envs(EnvConfig(f"{USER}:{name}", num_envs=2, kwargs={"scale": 7}))
        obs, _ = envs.reset(seed=0)
        obs, *_ = envs.step(np.array([[1, 0], [2, 1]]))
        assert obs["picture"].shape == (2, 8, 8, 3)
        assert (obs["picture"] == 7).all()
        assert obs["inner"]["0"].tolist() == [1, 1]
        assert obs["inner"]["2"].tolist() == [[1, 2], [1, 2]]


def test_a_class_in_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_own_env.py").write_text("from gymnasium.envs.classic_control import PendulumEnv as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    env = make_env(EnvConfig("my_own_env:Mine", max_episode_steps=2))
    env.reset(seed=0)
    assert [env.step(np.zeros(1, np.float32))[3] for _ in range(2)] == [False, True]


def test_action_masks_come_out_batched():
    envs = make_envs(EnvConfig("Taxi-v3", num_envs=3))
    _, info = envs.reset(seed=0)
    assert info["action_mask"].shape == (3, 6)
    *_, info = envs.step(np.zeros(3, int))
    assert info["action_mask"].shape == (3, 6)
    assert set(np.unique(info["action_mask"])) == {0, 1}


def test_rendering_gives_a_picture_for_each_column():
    envs = make_envs(EnvConfig("triathlon/CueRecall-v0", num_envs=2), render=True)
    envs.reset(seed=0)
    pictures: Any = envs.render()
    assert len(pictures) == 2
    assert pictures[0].shape == (53, 159, 3)
    cue = int(envs.unwrapped.cue[0])
    assert pictures[0][0, cue * 53 + 20].tolist() == [255, 255, 255]
    assert pictures[0][0, (1 - cue) * 53 + 20].tolist() == [0, 0, 0]
    frame = make_env(EnvConfig("CartPole-v1"), render_mode="rgb_array")
    frame.reset(seed=0)
    assert frame.render().shape == (400, 600, 3)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("CartPole-v1", [0, 2]), ("Acrobot-v1", [0, 1, 2, 3]), ("Pendulum-v1", [0, 1]), ("MountainCar-v0", [0])],
)
def test_velocities_are_hidden_for_vector_and_single(name, shown):
    whole = make_envs(EnvConfig(name, num_envs=2))
    part = make_envs(EnvConfig(name, num_envs=2, hide="velocities"))
    assert part.single_observation_space.shape == (len(shown),)
    assert np.array_equal(part.reset(seed=4)[0], whole.reset(seed=4)[0][:, shown])
    for a, b in zip(rollout(part, 20), rollout(whole, 20), strict=True):
        assert np.array_equal(a[0], b[0][:, shown])
    single, hidden = make_env(EnvConfig(name)), make_env(EnvConfig(name, hide="velocities"))
    assert np.array_equal(hidden.reset(seed=4)[0], single.reset(seed=4)[0][shown])
    assert hidden.observation_space.contains(hidden.reset(seed=4)[0])


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "Walker2d-v5", "InvertedPendulum-v5"])
def test_velocities_of_mujoco_are_those_of_the_simulation(name):
    pytest.importorskip("mujoco")
    env = gym.make(name)
    obs, _ = env.reset(seed=0)
    velocities = env.unwrapped.data.qvel
    hidden = make_env(EnvConfig(name, hide="velocities"))
    kept, _ = hidden.reset(seed=0)
    assert np.array_equal(np.concatenate([kept, np.clip(velocities, -10, 10)]), obs)


def test_importing_envs_imports_no_simulator():
    heavy = ("pygame", "mujoco", "Box2D", "ale_py", "minatar", "matplotlib", "torch")
    code = f"import sys, triathlon.envs; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_unsupported_vectorization_is_refused():
    with pytest.raises(EnvError, match="vectorization must be one of auto, vector_entry_point, sync, process"):
        make_envs(EnvConfig("CartPole-v1", vectorization="threads"))
