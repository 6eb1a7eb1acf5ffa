"""What a policy decided as an environment's action space wants it. B environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.agents.actor_critic import ActorCritic, ActorCriticPolicy, as_played
from triathlon.networks.registry import BackboneConfig


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_a_box_of_whole_numbers_is_played_with_the_nearest(dtype: Any) -> None:
    space = spaces.Box(np.array([0, 2]), np.array([3, 9]), dtype=dtype)
    drawn = np.array([[0.4, 2.6], [1.7, -5.0], [7.0, 8.51]], np.float32)
    played = as_played(drawn, space)
    assert played.tolist() == [[0, 3], [2, 2], [3, 9]]
    assert all(space.contains(action) for action in played)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_box_of_floats_is_clipped_to(dtype: Any) -> None:
    space = spaces.Box(-1, 1, (2,), dtype)
    played = as_played(np.array([[0.25, 2.5], [-0.5, -3.0]], np.float32), space)
    assert played.tolist() == [[0.25, 1.0], [-0.5, -1.0]]
    assert all(space.contains(action) for action in played)


def test_actions_of_a_policy_are_of_the_space() -> None:
    space: gym.Space[Any] = spaces.Box(-2, 2, (3,), np.int32)
    seen = spaces.Box(-1, 1, (4,))
    network = ActorCritic(seen, space, BackboneConfig(), True, False, "free", 0.0)
    policy = ActorCriticPolicy(network, space, torch.Generator().manual_seed(0))
    decision = policy.act(torch.zeros(50, 4), (), torch.ones(50, dtype=torch.bool))
    played = policy.env_action(decision.action.numpy())
    assert all(space.contains(action) for action in played)
    assert len(np.unique(played)) > 2


def test_ppo_learns_what_whole_number_to_play(practise: Callable[..., Any]) -> None:
    """The policy moves to where the reward is, through the rounding."""
    gym.register("Nearest-v0", Nearest)
    try:
        agent = {"kind": "ppo", "num_steps": 32, "batch_size": 64, "learning_rate": 3e-3}
        practice = practise({"id": "Nearest-v0", "num_envs": 8}, agent, {"kind": "mlp", "hidden_sizes": [16]}, 10_000)
        assert practice.play().score() == 0.0
    finally:
        gym.registry.pop("Nearest-v0")


class Nearest(gym.Env[Any, Any]):
    """One step: minus the distance of a whole number from 2. Refuses what is no action of its space."""

    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Box(-5, 5, (1,), np.int64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return np.zeros(1, np.float32), -abs(float(action[0]) - 2.0), True, False, {}
