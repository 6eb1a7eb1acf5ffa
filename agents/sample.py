"""What a replay hands to a learner.

N samples of one draw, W rows read for each, the L trained rows among them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from triathlon.agents.segment import Segment
from triathlon.agents.transfer import send
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
