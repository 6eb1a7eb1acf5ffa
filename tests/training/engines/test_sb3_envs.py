"""Our environments behind Stable-Baselines3's interface play what they play by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from gymnasium import spaces

from tests.training.engines.odd_envs import OBSERVATIONS
from triathlon.envs.make import make_envs
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.recorder import Recorder
from triathlon.training.engines.resettable import make_resettable
from triathlon.training.engines.sb3_envs import SB3Envs, flat, flat_space
from triathlon.training.errors import RunError


def experiment(env: dict[str, Any], agent: Any = "ppo") -> Experiment:
    return from_mapping({"env": env, "agent": agent, "total_steps": 100, "engine": "sb3"})


def adapter(env: dict[str, Any], seed: int, tmp_path: Any) -> SB3Envs:
    recorder = Recorder(experiment(env), tmp_path)
    recorder.close()
    actions = EngineActions(recorder.learner.policy, recorder.task.action_space)
    return SB3Envs(make_resettable(recorder.experiment.env), actions, seed)


@pytest.mark.parametrize(
    "env",
    [
        {"id": "CartPole-v1", "num_envs": 3, "vectorization": "sync", "max_episode_steps": 12},
        {"id": "triathlon/CartPolePixels-v0", "num_envs": 3, "max_episode_steps": 12},
        {"id": "triathlon/TMaze-v0", "num_envs": 3},
        {"id": "CartPole-v1", "num_envs": 2, "hide": "velocities", "vectorization": "process"},
    ],
    ids=lambda env: f"{env['id']}-{env.get('vectorization', 'own')}",
)
def test_the_same_rows_in_the_same_order(env: dict[str, Any], tmp_path: Any) -> None:
    """With the same seed and actions each environment shows, earns and ends what it does under NEXT_STEP."""
    envs = adapter(env, 5, tmp_path)
    plain = make_envs(experiment(env).env)
    try:
        num_envs, num_actions = envs.num_envs, int(envs.action_space.n)
        chosen = np.random.default_rng(0).integers(num_actions, size=(num_envs, 60))
        ours, theirs = ([[] for _ in range(num_envs)] for _ in range(2))  # type: ignore[var-annotated]

        played = np.zeros(num_envs, int)
        obs, done = flat(plain.reset(seed=5)[0]), np.zeros(num_envs, bool)
        while (played < 40).any():
            actions = np.array([chosen[i, min(played[i], 59)] for i in range(num_envs)])
            after, reward, terminated, truncated, _ = plain.step(actions)
            for i in map(int, np.flatnonzero(~done)):
                ours[i].append((obs[i].tolist(), np.float32(reward[i]), bool(terminated[i]), flat(after)[i].tolist()))
                played[i] += 1
            obs, done = flat(after), terminated | truncated

        obs = envs.reset()
        for t in range(40):
            after, reward, done, infos = envs.step(chosen[:, t])
            for i in range(num_envs):
                last = infos[i].get("terminal_observation", after[i])
                terminated = bool(done[i]) and not infos[i]["TimeLimit.truncated"]
                theirs[i].append((obs[i].tolist(), reward[i], terminated, last.tolist()))
            obs = after
        for i in range(num_envs):
            assert theirs[i] == ours[i][:40]
        assert any(terminated for _, _, terminated, _ in theirs[0]) or env["id"] != "CartPole-v1"
        assert sum(e.length for e in envs.take_episodes()) <= 40 * num_envs and not envs.take_episodes()
    finally:
        envs.close()
        plain.close()


def test_what_ended_is_told_apart_and_scored(tmp_path: Any) -> None:
    envs = adapter({"id": "tests.training.engines.odd_envs:OddEnv", "num_envs": 2}, 1, tmp_path)
    try:
        envs.reset()
        ends = []
        for _ in range(40):
            _, _, done, infos = envs.step(np.zeros(2, int))
            ends += [infos[i]["TimeLimit.truncated"] for i in np.flatnonzero(done)]
        episodes = envs.take_episodes()
        assert len(ends) == len(episodes) > 8
        for truncated, episode in zip(ends, episodes, strict=True):
            assert truncated == bool(episode.length % 2)
            assert episode.episode_return == episode.length * (episode.length + 1) / 2
    finally:
        envs.close()


def test_a_lost_life_ends_an_episode_for_learning_only(tmp_path: Any) -> None:
    pytest.importorskip("ale_py")
    env = {"id": "ALE/Breakout-v5", "num_envs": 2, "atari": {"num_threads": 1, "noop_max": 0}}
    envs = adapter(env, 3, tmp_path)
    try:
        obs = envs.reset()
        assert obs.shape == (2, 4 * 84 * 84) and obs.dtype == np.uint8
        lost_lives = 0
        for _ in range(160):
            obs, reward, done, infos = envs.step(np.ones(2, int))  # fire, and hardly ever meet the ball
            assert np.abs(reward).max() <= 1.0
            if done.any() and not envs.take_episodes():
                i = int(np.flatnonzero(done)[0])
                assert not infos[i]["TimeLimit.truncated"]
                assert np.array_equal(infos[i]["terminal_observation"], obs[i])
                lost_lives += 1
        assert lost_lives >= 3
    finally:
        envs.close()


def test_masks_are_refused(tmp_path: Any) -> None:
    envs = adapter({"id": "triathlon/ProbeMask-v0", "num_envs": 2}, 0, tmp_path)
    with pytest.raises(RunError, match="masks of legal actions, which engine: sb3 cannot read"):
        envs.reset()
    envs.close()


def test_an_entry_point_that_resets_all_at_once_is_refused() -> None:
    env = experiment({"id": "CartPole-v1", "num_envs": 2, "vectorization": "vector_entry_point"}).env
    with pytest.raises(RunError, match="cannot reset one environment alone, which Stable-Baselines3 needs"):
        make_resettable(env)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_flat_observations_are_of_the_flat_space(name: str) -> None:
    space = OBSERVATIONS[name]
    space.seed(0)
    batched = [space.sample() for _ in range(4)]
    stacked = _stack(batched)
    flattened, declared = flat(stacked), flat_space(space)
    if isinstance(declared, spaces.Dict):
        assert set(flattened) == set(declared.spaces) == {"inner/eye", "inner/word", "body"}
        assert all(declared[key].contains(flattened[key][0]) for key in declared.spaces)
        assert flattened["inner/eye"].shape == (4, 360)
    else:
        assert declared.contains(flattened[0]) and len(flattened) == 4


def _stack(batch: list[Any]) -> Any:
    if isinstance(batch[0], dict):
        return {key: _stack([obs[key] for obs in batch]) for key in batch[0]}
    return np.stack(batch)
