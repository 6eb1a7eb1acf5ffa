"""A trained agent asked from Python: the same answers as in evaluation, memory, masks, one observation and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triathlon.training import config
from triathlon.training.errors import RunError
from triathlon.training.evaluate import evaluate
from triathlon.training.run_folder import create
from triathlon.training.runner import train
from triathlon.training.trained_agent import TrainedAgent


def trained(tmp_path: Path, env: dict[str, Any], backbone: dict[str, Any]) -> TrainedAgent:
    experiment = config.from_mapping(
        {
            "env": {"num_envs": 4, **env},
            "agent": {"kind": "ppo", "num_steps": 16, "batch_size": 64},
            "backbone": backbone,
            "total_steps": 128,
            "evaluation": {"final_episodes": 1, "video": False},
            "root": str(tmp_path),
            "name": "one",
        }
    )
    folder = create(experiment)
    train(experiment, folder.path)
    return TrainedAgent.load(folder.path)


def test_plays_as_an_evaluation_does(tmp_path: Path) -> None:
    agent = trained(tmp_path, {"id": "CartPole-v1", "hide": "velocities"}, {"kind": "gru", "hidden_size": 16})
    returns = []
    for _ in range(2):
        env = agent.make_env()
        obs, _ = env.reset(seed=5)
        state, done, score = None, False, 0.0
        while not done:
            action, state = agent.predict(obs, state)
            obs, reward, terminated, truncated, _ = env.step(action)
            score, done = score + float(reward), terminated or truncated
        returns.append(score)
        env.close()
    envs = agent.make_envs(1)
    played = evaluate(agent.policy, envs, 1, seed=5)
    assert returns == [played.returns[0]] * 2


def test_a_batch_is_its_rows(tmp_path: Path) -> None:
    agent = trained(tmp_path, {"id": "CartPole-v1", "hide": "velocities"}, {"kind": "lstm", "hidden_size": 16})
    obs = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)  # rows in time, columns
    alone: list[list[Any]] = [[None] * 5 for _ in range(3)]
    for column in range(5):
        state = None
        for t in range(3):
            action, state = agent.predict(obs[t, column], state)
            alone[t][column] = action
    state = None
    for t in range(3):
        actions, state = agent.predict(obs[t], state)
        assert actions.tolist() == alone[t]
    for x in state:
        assert x.shape[0] == 5
    _, begun = agent.predict(obs[0])
    _, again = agent.predict(obs[0], state, episode_start=[True] * 5)
    for one, other in zip(begun, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_masks_are_obeyed(tmp_path: Path) -> None:
    agent = trained(tmp_path, {"id": "triathlon/ProbeMask-v0"}, {"kind": "mlp"})
    num_actions = agent.make_envs(1).single_action_space.n
    obs = agent.observation_space.sample()
    for allowed in range(num_actions):
        mask = np.arange(num_actions) == allowed
        assert agent.predict(obs, action_masks=mask)[0] == allowed
        assert agent.predict(obs, action_masks=mask, deterministic=False)[0] == allowed
        assert agent.predict(obs[None].repeat(2, 0), action_masks=mask)[0].tolist() == [allowed] * 2


def test_another_shape_is_refused(tmp_path: Path) -> None:
    agent = trained(tmp_path, {"id": "CartPole-v1"}, {"kind": "mlp"})
    with pytest.raises(RunError, match=r"an observation has shape \(4,\), or \('B', 4\) for B of them; found \(3,\)"):
        agent.predict(np.zeros(3))
