"""What a replay hands to a learner.

N samples of one draw, W rows read for each, the L trained rows among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from triathlon.agents.segment import Segment
from triathlon.networks.backbone import State


@dataclass(slots=True)
class Sample:
    """N pieces of experience. The target of trained row i is `returns[i] + discount[i] * value[bootstrap[i]]`."""

    segment: Segment  # the rows, time-major, [W, N, ...]; its own `state` is empty
    state: State  # each [N, ...]: the memory before row 0
    returns: Tensor  # [L, N] float32, discounted n-step sum of rewards
    discount: Tensor  # [L, N] float32, gamma ** steps, or 0 if the episode terminated
    bootstrap: Tensor  # [L, N] int64, the later row of the segment whose value is bootstrapped from
    mask: Tensor  # [L, N] bool, the row's action was played
    weights: Tensor  # [N] float32, importance weights, the largest possible being 1
    index: Tensor  # [N] int64, for `update_priorities`; stays on the host

    def _map(self, function: Callable[[Tensor], Tensor]) -> Sample:
        return replace(
            self,
            returns=function(self.returns),
            discount=function(self.discount),
            bootstrap=function(self.bootstrap),
            mask=function(self.mask),
            weights=function(self.weights),
        )

    def to(self, device: torch.device) -> Sample:
        """The same sample on another device."""
        if self.returns.device == device:
            return self
        moved = self._map(lambda x: x.to(device, non_blocking=True))
        moved.segment = self.segment.to(device)
        moved.state = tuple(s.to(device, non_blocking=True) for s in self.state)
        return moved

    def split(self, batch_size: int) -> list[Sample]:
        """Minibatches of `batch_size` columns (the last may be smaller), as views."""
        parts = []
        for start in range(0, len(self.index), batch_size):
            columns = slice(start, start + batch_size)
            part = self._map(lambda x, c=columns: x[..., c])  # type: ignore[misc]
            part.segment = self.segment.map(lambda x, c=columns: x[:, c])  # type: ignore[misc]
            part.state = tuple(s[columns] for s in self.state)
            part.index = self.index[columns]
            parts.append(part)
        return parts


__all__ = ["Sample"]
