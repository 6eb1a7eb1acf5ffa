"""Evaluation plays whole episodes, each environment its share, and leaves the policy as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.envs import EnvConfig, make_envs
from triathlon.training.evaluate import evaluate, film

PPO = {"kind": "ppo", "num_steps": 8, "batch_size": 32}
CARTPOLE = {"id": "CartPole-v1", "num_envs": 2}


@pytest.mark.parametrize(("num_envs", "num_episodes"), [(1, 3), (3, 7), (4, 2)])
def test_each_environment_plays_its_share(practise: Callable[..., Any], num_envs: int, num_episodes: int) -> None:
    policy = practise(CARTPOLE, PPO, "mlp").learner.policy
    envs = make_envs(EnvConfig("CartPole-v1", num_envs=num_envs))
    active: list[list[bool]] = []
    result = evaluate(policy, envs, num_episodes, seed=5, on_step=lambda a: active.append(a.tolist()))
    assert len(result.returns) == len(result.lengths) == num_episodes
    assert result.returns == result.lengths  # CartPole pays 1 a step, and the step that resets is none
    assert active[0] == [i < num_episodes for i in range(num_envs)] and any(active[-1])  # what it ends with is seen
    # Of each episode the first observation and one a step.
    assert np.array(active).sum() == sum(result.lengths) + num_episodes


def test_the_same_seed_plays_the_same_episodes_and_training_goes_on_as_before(practise: Callable[..., Any]) -> None:
    policy = practise(CARTPOLE, PPO, {"kind": "lstm", "hidden_size": 8}).learner.policy
    envs = make_envs(EnvConfig("CartPole-v1", num_envs=3))
    before, weights = policy.generator.get_state(), policy.weights()
    first, again, other = (evaluate(policy, envs, 6, seed, deterministic=False) for seed in (1, 1, 2))
    assert first == again != other
    assert policy.generator.get_state().equal(before) and policy.weights().equal(weights)


def test_lengths_and_returns_of_known_episodes(practise: Callable[..., Any]) -> None:
    policy = practise({"id": "triathlon/ProbeTimeLimit-v0", "num_envs": 1}, PPO, "mlp").learner.policy
    result = evaluate(policy, make_envs(EnvConfig("triathlon/ProbeTimeLimit-v0", num_envs=4)), 9, seed=0)
    assert result.returns == [5.0] * 9 and result.lengths == [5] * 9


def test_masks_and_memory_reach_the_policy(practise: Callable[..., Any]) -> None:
    """An untrained policy that took illegal actions would earn 10 now and then."""
    practice = practise({"id": "triathlon/ProbeMask-v0", "num_envs": 2}, PPO, {"kind": "gru", "hidden_size": 4})
    envs = make_envs(practice.experiment.env, 8)
    for deterministic in (True, False):
        result = evaluate(practice.learner.policy, envs, 80, seed=1, deterministic=deterministic)
        assert set(result.returns) <= {0.0, 1.0, 2.0} and result.lengths == [2] * 80


def test_a_film_has_a_frame_for_every_observation(practise: Callable[..., Any]) -> None:
    policy = practise({"id": "triathlon/ProbeDiscount-v0", "num_envs": 1}, PPO, "mlp").learner.policy
    envs = make_envs(EnvConfig("triathlon/ProbeDiscount-v0"), 1, render=True)
    frames: list[np.ndarray] = []
    result = film(policy, envs, frames.append, seed=0, num_episodes=2)
    assert result.lengths == [5, 5]
    assert len(frames) == 12 and all(f.dtype == np.uint8 and f.shape[-1] == 3 for f in frames)
    assert torch.is_inference_mode_enabled() is False
