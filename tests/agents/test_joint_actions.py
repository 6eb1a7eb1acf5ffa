"""Numbers of joint actions and what they mean to the environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.agents.joint_actions import JointActions
from triathlon.networks.errors import SettingError


def test_discrete_counts_from_its_start() -> None:
    actions = JointActions(spaces.Discrete(3, start=-1), "dqn")
    assert actions.num_actions == 3
    assert actions.to_env(np.array([0, 2, 1])).tolist() == [-1, 1, 0]
    mask = torch.tensor([[True, False, True]])
    assert actions.legal(mask).equal(mask)


def test_multi_discrete() -> None:
    actions = JointActions(spaces.MultiDiscrete([2, 3], start=[0, 5]), "dqn")
    assert actions.num_actions == 6
    assert actions.to_env(np.arange(6)).tolist() == [[0, 5], [0, 6], [0, 7], [1, 5], [1, 6], [1, 7]]
    mask = torch.tensor([[1, 1, 1, 0, 1], [0, 1, 1, 1, 0]], dtype=torch.bool)
    assert actions.legal(mask).int().tolist() == [[1, 0, 1, 1, 0, 1], [0, 0, 0, 1, 1, 0]]
    assert actions.legal(mask.expand(4, 2, 5)).shape == (4, 2, 6)


def test_multi_binary() -> None:
    actions = JointActions(spaces.MultiBinary(2), "dqn")
    played = actions.to_env(np.arange(4))
    assert played.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert played.dtype == np.int8
    assert actions.legal(torch.tensor([[False, True]])).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=3),
        spaces.MultiDiscrete(np.array([[2, 3], [1, 4]])),
        spaces.MultiBinary((2, 3)),
        spaces.MultiDiscrete([3, 2], dtype=np.int32),
    ],
)
def test_every_number_is_another_action_of_the_space(space: spaces.Space) -> None:
    actions = JointActions(space, "dqn")
    played = actions.to_env(np.arange(actions.num_actions))
    assert all(space.contains(action) for action in played)
    assert len({np.asarray(action).tobytes() for action in played}) == actions.num_actions


def test_what_cannot_be_numbered_is_refused() -> None:
    with pytest.raises(SettingError, match=r"dqn values each action by itself .* use agent.kind: ppo"):
        JointActions(spaces.Box(-1, 1, (2,)), "dqn")
    with pytest.raises(SettingError, match=r"8192 joint actions .* at most 4096"):
        JointActions(spaces.MultiBinary(13), "pqn")
    assert JointActions(spaces.MultiBinary(12), "dqn").num_actions == 4096
