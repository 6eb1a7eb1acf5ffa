"""Recordings: what is played is what is written down, and what is read back; Minari data sets are read as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.envs.make import EnvConfig, make_envs
from triathlon.training.errors import RunError
from triathlon.training.supervised.played import space_json
from triathlon.training.supervised.played.behaviour_cloning import best_episodes
from triathlon.training.supervised.played.minari_source import read_recording
from triathlon.training.supervised.played.recorder import RandomPolicy, record
from triathlon.training.supervised.played.recording import ARRAYS, Recording, read
from triathlon.training.supervised.played.rows import RecordedRows, splits_of


def played(env_id: str = "CartPole-v1", num_steps: int = 200, num_envs: int = 2) -> Recording:
    """Random play."""
    env = EnvConfig(env_id, num_envs=num_envs)
    envs = make_envs(env)
    try:
        return record(None, envs, num_steps, seed=3, env=env)
    finally:
        envs.close()


def counted() -> Recording:
    """Three episodes of 2, 3 and 4 steps, the last without an end; what is seen counts up."""
    lengths = (2, 3, 4)
    is_first = np.concatenate([np.arange(n + 1) == 0 for n in lengths])
    over = np.concatenate([np.arange(n + 1) == n - 1 for n in lengths])
    over[-5:] = False
    num = len(is_first)
    return Recording(
        np.arange(num, dtype=np.float32)[:, None],
        np.arange(num) % 3 + 5,
        np.ones(num, np.float32) * ~np.append(is_first[1:], True),
        over,
        np.zeros(num, bool),
        is_first,
        spaces.Box(-1, 99, (1,), np.float32),
        spaces.Discrete(3, start=5),
    )


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (4, 5, 2), np.uint8),
        spaces.Box(np.array([-1.5, -np.inf], np.float32), np.array([2.0, np.inf], np.float32)),
        spaces.Discrete(4, start=-1),
        spaces.MultiDiscrete([2, 5], start=[1, 0]),
        spaces.MultiBinary([2, 3]),
    ],
    ids=str,
)
def test_a_space_comes_back_from_json(space: spaces.Space[Any]) -> None:
    assert space_json.from_json(json.loads(json.dumps(space_json.to_json(space)))) == space


def test_a_space_of_parts_is_refused() -> None:
    with pytest.raises(RunError, match="not those of a Dict space"):
        space_json.to_json(spaces.Dict({"a": spaces.Discrete(2)}))


def test_a_recording_follows_the_environment() -> None:
    """Stepping CartPole from each row's observation by its action gives the next row's, its reward and its end."""
    found = played()
    env = gym.make("CartPole-v1").unwrapped
    for row in np.flatnonzero(found.played):
        env.reset()
        env.state = found.obs[row]
        obs, reward, terminated, *_ = env.step(int(found.action[row]))
        np.testing.assert_allclose(obs, found.obs[row + 1], atol=1e-5)
        assert (reward, terminated) == (found.reward[row], found.terminated[row])
    ends = np.flatnonzero(found.terminated)
    assert len(ends) > 4 and found.is_first[ends[:-1] + 2].all()  # the last observation is a row of its own
    assert not found.played[ends + 1].any()
    assert found.returns() == [float(rows.stop - rows.start - 1) for rows in whole(found)]
    assert set(found.action[found.played]) == {0, 1}


def whole(found: Recording) -> list[slice]:
    return [rows for rows in found.episodes() if found.terminated[rows].any()]


def test_a_time_limit_is_truncated_not_terminated() -> None:
    env = EnvConfig("CartPole-v1", num_envs=1, max_episode_steps=5)
    envs = make_envs(env)
    found = record(None, envs, 24, seed=3, env=env)
    envs.close()
    assert np.flatnonzero(found.truncated).tolist() == [4, 10, 16, 22]
    assert not found.terminated.any() and found.returns() == [5.0] * 4


def test_a_recording_comes_back_from_its_folder(tmp_path: Path) -> None:
    found = played("Pendulum-v1", 20)
    found.save(tmp_path / "mine", note="at random")
    again = read(tmp_path / "mine")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    assert again.env == EnvConfig("Pendulum-v1", num_envs=2)
    assert (again.observation_space, again.action_space) == (found.observation_space, found.action_space)
    facts = json.loads((tmp_path / "mine" / "recording.json").read_text())
    assert (facts["num_steps"], facts["num_episodes"], facts["note"]) == (20, 0, "at random")
    with pytest.raises(RunError, match=r"there is a recording in .* already"):
        found.save(tmp_path / "mine")


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no recording in 'nowhere'.*triathlon record"):
        read_recording("nowhere")
    counted().save(tmp_path / "mine")
    rows = tmp_path / "mine" / "rows.npz"
    rows.write_bytes(rows.read_bytes()[:200])
    with pytest.raises(RunError, match="holds no recording that can be read"):
        read(tmp_path / "mine")
    np.savez(rows, **{name: getattr(counted(), name)[: 5 if name == "obs" else None] for name in ARRAYS})
    with pytest.raises(RunError, match="do not fit each other"):
        read(tmp_path / "mine")


def test_rows_by_themselves_are_all_that_were_played() -> None:
    rows = RecordedRows(counted(), num_rows=1)
    assert len(rows) == 9
    batches = [rows.batch(indices) for indices in rows.order(3, np.random.default_rng(1))]
    seen = np.concatenate([batch.obs.flatten().numpy() for batch in batches])
    assert sorted(seen.tolist()) == [0, 1, 3, 4, 5, 7, 8, 9, 10]
    for batch in [*batches, *rows.in_order(4)]:
        assert batch.valid.all() and batch.obs.shape == (1, batch.obs.shape[1], 1)
        assert (batch.next_obs == batch.obs + 1).all()
        assert (batch.target == batch.obs[..., 0].long() % 3).all()  # counted from 0, not from the space's start


def test_sequences_keep_their_order_and_say_where_episodes_start() -> None:
    rows = RecordedRows(counted(), num_rows=3)
    batches = list(rows.in_order(2))
    seen, is_first, valid = (
        torch.cat(parts).numpy().T.tolist()
        for parts in zip(*((b.obs[..., 0], b.is_first, b.valid) for b in batches), strict=True)
    )
    assert [len(batch.obs) for batch in batches] == [3, 3, 3]  # columns of 3 and 9 rows: they begin with episodes
    assert seen == [[0, 1, 2] + 6 * [2], [3, 4, 5, 6, 7, 8, 9, 10, 11]]
    assert valid == [[True, True] + 7 * [False], [True, True, True, False] + 4 * [True] + [False]]
    assert is_first[1] == [True, False, False, False, True] + 4 * [False]
    starts = rows.order(2, np.random.default_rng(0))
    assert len(starts) == 1 and starts[0][1] - starts[0][0] == 3


def test_parts_share_no_episode() -> None:
    recording = played(num_steps=600)
    splits = splits_of(recording, 1)
    parts = [splits.train, splits.validation, splits.test]
    starts = [{tuple(p.recording.obs[rows.start]) for rows in p.recording.episodes()} for p in parts]
    assert not (starts[0] & starts[1] or starts[0] & starts[2] or starts[1] & starts[2])
    assert sum(map(len, starts)) == len(recording.episodes())
    assert len(starts[1]) == len(starts[2]) == round(len(recording.episodes()) / 10)
    with pytest.raises(RunError, match="has 2 episodes; 3 are needed"):
        splits_of(recording.part(np.arange(recording.episodes()[1].stop)), 1)


def test_the_best_episodes_are_those_of_highest_return() -> None:
    assert best_episodes(counted(), 0.34).obs[:, 0].tolist() == [3, 4, 5, 6]
    assert len(best_episodes(counted(), 1.0)) == 12


def test_an_episode_that_the_recording_stopped_in_is_not_taken_for_a_good_one() -> None:
    """Where each step costs something, what was cut off early has paid least."""
    found = counted()
    for reward in (-found.reward, np.where(np.arange(12) < 7, -found.reward, -0.1 * found.reward)):
        costly = replace(found, reward=reward.astype(np.float32))
        assert best_episodes(costly, 0.34).obs[:, 0].tolist() == [0, 1, 2]
        assert best_episodes(costly, 0.67).obs[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    truncated = replace(found, terminated=np.zeros(12, bool), truncated=found.terminated)
    assert best_episodes(truncated, 0.34).obs[:, 0].tolist() == [3, 4, 5, 6]  # a time limit is an end


def test_random_play_obeys_masks_and_repeats_itself() -> None:
    mask = np.array([[True, False, True], [False, True, False]])
    policy = RandomPolicy(spaces.Discrete(3), seed=1)
    drawn = np.stack([policy.draw(2, mask) for _ in range(30)])
    assert set(drawn[:, 0]) == {0, 2} and set(drawn[:, 1]) == {1}
    again = RandomPolicy(spaces.Discrete(3), seed=1)
    assert (np.stack([again.draw(2, mask) for _ in range(30)]) == drawn).all()
    with pytest.raises(RunError, match="obeys action masks of Discrete spaces only"):
        RandomPolicy(spaces.MultiBinary(2), seed=1).draw(1, mask)


def test_a_data_set_of_minari_is_read_by_name_and_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gym.make("Pendulum-v1", max_episode_steps=7)
    env.action_space.seed(1)
    episodes, rewards = [], []
    for seed in range(3):
        observations = [env.reset(seed=seed)[0]]
        steps = []
        for _ in range(7):
            action = env.action_space.sample()
            obs, *rest, _ = env.step(action)
            observations.append(obs)
            steps.append((action, *rest))
        actions, reward, terminated, truncated = map(list, zip(*steps, strict=True))
        rewards += reward
        episodes.append(
            minari.data_collector.EpisodeBuffer(seed, seed, None, observations, actions, reward, terminated, truncated)
        )
    minari.create_dataset_from_buffers("test/pendulum-v0", episodes, env=env)
    env.close()
    by_name, by_folder = read_recording("minari:test/pendulum-v0"), read_recording(str(tmp_path / "test/pendulum-v0"))
    assert np.flatnonzero(by_name.is_first).tolist() == [0, 8, 16]
    assert np.flatnonzero(by_name.truncated).tolist() == [6, 14, 22]
    np.testing.assert_allclose(by_name.reward[by_name.played], rewards, rtol=1e-6)
    np.testing.assert_array_equal(by_name.obs, by_folder.obs)
    assert by_name.obs.dtype == np.float32 and by_name.env is not None and by_name.env.id == "Pendulum-v1"
    for row in np.flatnonzero(by_name.played)[:10]:  # the angle turns by dt times the speed after it
        turned = np.arctan2(by_name.obs[row + 1, 1], by_name.obs[row + 1, 0])
        before = np.arctan2(by_name.obs[row, 1], by_name.obs[row, 0])
        assert np.isclose(np.sin(turned - before), np.sin(0.05 * by_name.obs[row + 1, 2]), atol=1e-4)
    with pytest.raises(RunError, match=r"the data set nowhere-v0 of Minari cannot be read.*minari download"):
        read_recording("minari:nowhere-v0")
