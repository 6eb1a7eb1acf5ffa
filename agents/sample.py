"""What a replay hands to a learner.

N samples of one draw, W rows read for each, the L trained rows among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from triathlon.agents.segment import Segment
from triathlon.networks.backbone import State
from triathlon.networks.transfer import send


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

    @property
    def num_samples(self) -> int:
        """N."""
        return self.mask.shape[1]

    def split(self, size: int) -> Iterator[Sample]:
        """The same in parts of `size` samples at most, as views; one part is the sample itself."""
        if size >= self.num_samples:
            yield self
            return
        for start in range(0, self.num_samples, size):
            yield self._part(slice(start, start + size))

    def _part(self, samples: slice) -> Sample:
        def columns(x: Tensor) -> Tensor:
            return x[:, samples]

        return replace(
            self,
            segment=self.segment.map(columns),
            state=tuple(s[samples] for s in self.state),
            returns=columns(self.returns),
            discount=columns(self.discount),
            bootstrap=columns(self.bootstrap),
            mask=columns(self.mask),
            weights=self.weights[samples],
            index=self.index[samples],
        )

    def to(self, device: torch.device) -> Sample:
        """The same sample on another device."""
        if self.returns.device == device:
            return self

        def sent(x: Tensor) -> Tensor:
            return send(x, device)

        return replace(
            self,
            segment=self.segment.to(device),
            state=tuple(map(sent, self.state)),
            returns=sent(self.returns),
            discount=sent(self.discount),
            bootstrap=sent(self.bootstrap),
            mask=sent(self.mask),
            weights=sent(self.weights),
        )


__all__ = ["Sample"]
