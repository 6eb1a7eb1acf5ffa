"""The arrays that a segment is written into while it is played.

T rows in time, B environments, A actions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.agent import Decision
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs, State
from triathlon.training.env_group import EnvGroup, Step

Place: TypeAlias = tuple[int, slice]  # a row, and the columns of a group


class SegmentRows:
    """The arrays that one segment is written into, row by row: numpy, whose small writes cost a tenth of torch's.

    What is large is page-locked where it goes on to a GPU (`for_gpu`), so that copies need not be waited for.
    """

    def __init__(self, num_rows: int, num_envs: int, like: EnvGroup, for_gpu: bool) -> None:
        shape, legal = (num_rows + 1, num_envs), like.legal
        self._for_gpu = for_gpu
        self.obs = _allocate(shape, like.obs, for_gpu)
        self.actions: NDArray[Any] = np.empty(0)  # its shape is known at the first decision
        self.rewards = np.zeros(shape, np.float32)
        self.terminated = np.zeros(shape, bool)
        self.is_first = np.zeros(shape, bool)
        self.legal = None if legal is None else np.ones((*shape, *legal.shape[1:]), bool)
        self.next_sign: NDArray[np.float32] | None = None
        self.extras: dict[str, NDArray[Any]] = {}

    def see(self, t: int, group: EnvGroup) -> tuple[Obs, Tensor, Tensor | None]:
        """Write what a group sees at row t; returns it as views for the policy."""
        place = t, group.columns
        _write(self.obs, place, group.obs)
        self.is_first[place] = group.is_first
        if self.legal is not None and group.legal is not None:
            self.legal[place] = group.legal
        mask = None if self.legal is None else torch.from_numpy(self.legal[place])
        return _tensors(_part(self.obs, place)), torch.from_numpy(self.is_first[place]), mask

    def decide(self, t: int, group: EnvGroup, decision: Decision) -> NDArray[Any]:
        """Write what was decided for a group at row t; returns its actions."""
        if not self.actions.size:
            self.actions = self._like(decision.action)
            self.extras = {name: self._like(value) for name, value in decision.extras.items()}
        place = t, group.columns
        for name, value in decision.extras.items():
            if self._for_gpu:
                torch.from_numpy(self.extras[name][place]).copy_(value.detach(), non_blocking=True)
            else:
                self.extras[name][place] = value.numpy(force=True)
        self.actions[place] = decision.action.numpy(force=True)  # waits for the GPU, and so for all copies before it
        actions: NDArray[Any] = self.actions[place]
        return actions

    def reward(self, t: int, group: EnvGroup, step: Step) -> None:
        """Write what a group's step from row t gave; an environment may score otherwise than it teaches."""
        _, reward, terminated, _, info = step
        place = t, group.columns
        self.rewards[place] = info.get("learning_reward", reward)
        self.terminated[place] = info.get("learning_terminated", terminated)
        if "next_sign" in info:
            if self.next_sign is None:
                self.next_sign = np.ones(self.rewards.shape, np.float32)
            self.next_sign[place] = info["next_sign"]

    def not_finite(self) -> str | None:
        """The first reward or observation that is not a finite number, in words."""
        for name, array in (("reward", self.rewards), *_leaves(self.obs, "observation")):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                t, column = (int(i[0]) for i in np.nonzero(~np.isfinite(array))[:2])
                return f"the {name} of environment {column} is {array[t, column]} at row {t} of the rollout"
        return None

    def _like(self, row: Tensor) -> NDArray[Any]:
        shape = (*self.rewards.shape, *row.shape[1:])
        array: NDArray[Any] = torch.zeros(shape, dtype=row.dtype, pin_memory=self._for_gpu).numpy()
        return array

    def segment(self, state: State, state_period: int) -> Segment:
        """All of it as a segment that shares this memory."""
        return Segment(
            obs=_tensors(self.obs),
            action=torch.from_numpy(self.actions),
            reward=torch.from_numpy(self.rewards),
            terminated=torch.from_numpy(self.terminated),
            is_first=torch.from_numpy(self.is_first),
            legal=None if self.legal is None else torch.from_numpy(self.legal),
            next_sign=None if self.next_sign is None else torch.from_numpy(self.next_sign),
            extras={name: torch.from_numpy(value) for name, value in self.extras.items()},
            state=state,
            state_period=state_period,
        )


def _allocate(shape: tuple[int, int], obs: Any, for_gpu: bool) -> Any:
    if isinstance(obs, dict):
        return {key: _allocate(shape, value, for_gpu) for key, value in obs.items()}
    dtype = np.float32 if obs.dtype == np.float64 else obs.dtype  # networks compute in float32
    rows = np.empty((*shape, *obs.shape[1:]), dtype)
    return torch.from_numpy(rows).pin_memory().numpy() if for_gpu else rows


def _write(rows: Any, place: Place, obs: Any) -> None:
    if isinstance(rows, dict):
        for key, value in rows.items():
            _write(value, place, obs[key])
    else:
        rows[place] = obs


def _tensors(rows: Any) -> Any:
    return {key: _tensors(value) for key, value in rows.items()} if isinstance(rows, dict) else torch.from_numpy(rows)


def _part(rows: Any, place: Place) -> Any:
    return {key: _part(value, place) for key, value in rows.items()} if isinstance(rows, dict) else rows[place]


def _leaves(obs: Any, name: str) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(obs, dict):
        return [leaf for key, value in obs.items() for leaf in _leaves(value, f"{name}['{key}']")]
    return [(name, obs)]


__all__ = ["SegmentRows"]
