"""Weights travel between copies of a policy as one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

AGENTS = {
    "ppo": {"kind": "ppo", "num_steps": 16, "batch_size": 32, "normalize_obs": True},
    "dqn": {"kind": "dqn", "learning_starts": 0, "normalize_obs": True, "head": {"kind": "iqn", "noisy": True}},
    "pqn": {"kind": "pqn", "num_steps": 16, "batch_size": 32, "normalize_obs": True},
}


@pytest.mark.parametrize("agent", AGENTS)
def test_a_copy_with_the_weights_of_another_acts_like_it(practise: Callable[..., Any], agent: str) -> None:
    first, second = (practise("CartPole-v1", AGENTS[agent], {"kind": "gru"}, seed=seed) for seed in (1, 2))
    first.play(64)
    before = second.learner.policy.weights().clone()
    second.learner.policy.load_weights(first.learner.policy.weights().clone())
    assert not torch.equal(before, second.learner.policy.weights())
    torch.testing.assert_close(first.learner.policy.weights(), second.learner.policy.weights())
    obs, is_first = torch.randn(64, 4), torch.zeros(64, dtype=torch.bool)
    actions = [
        practice.learner.policy.act(obs, practice.learner.policy.initial_state(64), is_first, deterministic=True).action
        for practice in (first, second)
    ]
    assert torch.equal(*actions)
