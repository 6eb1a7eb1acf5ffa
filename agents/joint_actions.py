"""Numbering the actions of a space, for agents that value each action by itself.

A joint actions, n parts of an action, B environments.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.errors import SettingError
from triathlon.networks.transfer import send

MAX_JOINT_ACTIONS = 4096


class JointActions:
    """Actions `0 … A-1` of a Discrete, MultiDiscrete or MultiBinary space; every combination of parts is one action.

    Raises:
        SettingError: the space cannot be numbered (Box), or has several parts with more than 4,096 combinations.
    """

    def __init__(self, space: gym.Space[Any], agent: str) -> None:
        self._space = space
        if isinstance(space, gym.spaces.Discrete):
            sizes = [int(space.n)]
        elif isinstance(space, gym.spaces.MultiDiscrete):
            sizes = [int(n) for n in space.nvec.reshape(-1)]
        elif isinstance(space, gym.spaces.MultiBinary):
            sizes = [2] * int(np.prod(space.shape))
        else:
            raise SettingError(
                f"agent.kind: {agent} values each action by itself and cannot act in {space}; use agent.kind: ppo, "
                "or an environment with Discrete, MultiDiscrete or MultiBinary actions"
            )
        self.num_actions = int(np.prod(sizes, dtype=object))
        if len(sizes) > 1 and self.num_actions > MAX_JOINT_ACTIONS:
            raise SettingError(
                f"agent.kind: {agent} would have to value {self.num_actions} joint actions of {space}, at most "
                f"{MAX_JOINT_ACTIONS} are allowed; use agent.kind: ppo, which chooses each part by itself"
            )
        self._parts = np.stack(np.unravel_index(np.arange(self.num_actions), sizes), -1)  # [A, n]
        offsets = np.cumsum([0, *sizes[:-1]])
        # Where each part stands in a mask [B, sum(sizes)], on each device that masks were on.
        self._columns = {torch.device("cpu"): torch.from_numpy(self._parts + offsets)}

    def to_env(self, action: NDArray[Any]) -> NDArray[Any]:
        """Action numbers `[B]` as the environment's space has them."""
        space = self._space
        if isinstance(space, gym.spaces.Discrete):
            played: NDArray[Any] = action + space.start
            return played
        assert space.shape is not None
        played = self._parts[action].reshape(-1, *space.shape)
        if isinstance(space, gym.spaces.MultiDiscrete):
            played = played + space.start
        return np.asarray(played, space.dtype)

    def legal(self, mask: Tensor) -> Tensor:
        """`[..., A]`: which action numbers a mask over parts, `[..., sum(n)]` or `[..., n]` for bits, allows."""
        if isinstance(self._space, gym.spaces.Discrete):
            return mask
        if isinstance(self._space, gym.spaces.MultiBinary):  # a bit may always be 0
            mask = torch.stack([torch.ones_like(mask), mask], -1).flatten(-2)
        if mask.device not in self._columns:
            self._columns[mask.device] = send(self._columns[torch.device("cpu")], mask.device)
        return mask[..., self._columns[mask.device]].all(-1)
