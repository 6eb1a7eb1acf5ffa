"""The contract of every backbone: a sequence of observations in, a sequence of features and a memory state out.

T rows in time, B batch columns, D features. The convention is that of `torch.nn.LSTM` (optional state in, state out)
plus one reset flag.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

Obs: TypeAlias = "Tensor | dict[str, Obs]"
State: TypeAlias = tuple[Tensor, ...]


def map_obs(function: Callable[[Tensor], Tensor], obs: Obs) -> Obs:
    """Apply `function` to every tensor of an observation, keeping the keys of a `Dict` space."""
    if isinstance(obs, Tensor):
        return function(obs)
    return {key: map_obs(function, value) for key, value in obs.items()}


def first_tensor(obs: Obs) -> Tensor:
    """Any one tensor of an observation: all share the leading `[T, B]`, the device and nothing else."""
    while not isinstance(obs, Tensor):
        obs = next(iter(obs.values()))
    return obs


def keep_where(state: State, keep: Tensor) -> State:
    """Zero the columns of a state whose `keep [B]` is False: memory before the first row of an episode is zero."""
    return tuple(torch.where(keep.view(-1, *[1] * (s.dim() - 1)), s, torch.zeros_like(s)) for s in state)


class Backbone(nn.Module):
    """Reads `obs [T, B, *obs]` and gives `features [T, B, out_features]` with the memory `State` after the last row.

    A stateless backbone reads each row alone and returns `()`. A memory backbone reads along T; before a row whose
    `is_first [T, B]` is True its memory is what `initial_state` gives, whatever came before. The tests in
    `tests/networks/test_contract.py` hold every registered backbone to this.
    """

    out_features: int

    def initial_state(self, batch_size: int) -> State:
        """The memory before anything was seen: a tuple of tensors `[batch_size, ...]`, `()` if there is no memory."""
        return ()

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        raise NotImplementedError(f"{type(self).__name__} must define forward(obs, state, is_first)")

    def advance(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> State:
        """The memory after these rows, without features. Free for a stateless backbone, which has no memory to move."""
        initial = self.initial_state(first_tensor(obs).shape[1])
        return self(obs, state, is_first)[1] if initial else ()

    __call__: Callable[..., tuple[Tensor, State]]


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters (cpu if it has none)."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


__all__ = ["Backbone", "Obs", "State", "device_of", "first_tensor", "keep_where", "map_obs"]
