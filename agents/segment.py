"""A segment of experience: T + 1 rows of B environments, and the memory that stood before them.

T rows in time, B columns, S rows of one training segment, K stored memory states, N training segments.
`docs/architecture.md` says what a row means; in short, row t holds what was seen at t and what was done about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from triathlon.networks.backbone import Obs, State, map_obs
from triathlon.networks.transfer import send


@dataclass(slots=True)
class Segment:
    """T + 1 rows `[T+1, B, ...]`; row T was seen but not played. Shapes and meanings: `docs/architecture.md`."""

    obs: Obs
    action: Tensor
    reward: Tensor
    terminated: Tensor
    is_first: Tensor
    legal: Tensor | None = None
    next_sign: Tensor | None = None  # how the value of row t + 1 counts for who moved at t: 1, or -1 for the other side
    extras: dict[str, Tensor] = field(default_factory=dict)
    state: State = ()  # each [K, B, ...]: the memory before rows 0, P, 2P, …
    state_period: int = 1  # P
    lag: int = 0  # updates by which the policy that collected it was behind the learner

    @property
    def num_rows(self) -> int:
        """T, the rows that may have been played."""
        return self.is_first.shape[0] - 1

    @property
    def num_columns(self) -> int:
        """B."""
        return self.is_first.shape[1]

    @property
    def valid(self) -> Tensor:
        """`[T, B]` bool: the action of row t was played (row t is not the last observation of an episode)."""
        return ~self.is_first[1:]

    @property
    def next_sign_played(self) -> Tensor | None:
        """`[T, B]`: `next_sign` of the rows that may have been played."""
        return None if self.next_sign is None else self.next_sign[:-1]

    @property
    def num_steps(self) -> int:
        """Environment steps in it: the rows that were played."""
        return int(self.valid.sum())

    def map(self, function: Callable[[Tensor], Tensor]) -> Segment:
        """Apply `function` to every tensor that has rows `[T+1, B, ...]`; the stored states are left alone."""
        return replace(
            self,
            obs=map_obs(function, self.obs),
            action=function(self.action),
            reward=function(self.reward),
            terminated=function(self.terminated),
            is_first=function(self.is_first),
            legal=None if self.legal is None else function(self.legal),
            next_sign=None if self.next_sign is None else function(self.next_sign),
            extras={name: function(value) for name, value in self.extras.items()},
        )

    def to(self, device: torch.device) -> Segment:
        """The same segment on another device (rows and stored states)."""
        if self.is_first.device == device:  # of the rest, only pictures may have been there before
            return self
        moved = self.map(lambda x: send(x, device))
        moved.state = tuple(send(s, device) for s in self.state)
        return moved
