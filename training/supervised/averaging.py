"""The average of a network's weights over the last steps, which is often better than any of them."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def average_of(module: Module) -> Module:
    """A copy that takes no gradients, for `follow`."""
    return copy.deepcopy(module).requires_grad_(False)


def follow(average: nn.Module, module: nn.Module, decay: float, num_steps: int) -> None:
    """Let an average follow what has taken `num_steps` steps by now, the latest since the last call; without gradients.

    It keeps the share `decay` of itself, at first less: n / (n + 10) after step n, so that the weights of the start are
    soon forgotten (Tarvainen & Valpola 2017, "Mean teachers are better role models", §2, with a rise). What is no
    parameter (a buffer) is as it is in `module`.
    """
    share = min(decay, num_steps / (num_steps + 10))
    for mean, now in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(now, 1.0 - share)
    for kept, buffer in zip(average.buffers(), module.buffers(), strict=True):
        kept.copy_(buffer)


__all__ = ["average_of", "follow"]
