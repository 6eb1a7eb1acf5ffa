"""Copies from host memory to a device that nobody waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device) -> Tensor:
    """`x` on `device`. The copy to a GPU goes on by itself: it starts from page-locked memory.

    From ordinary memory the driver copies through a buffer of its own, and the caller waits for all but small tensors,
    and so for everything that the GPU was given to do before.
    """
    if x.device == device:
        return x
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()  # returns x itself if it is page-locked already
    return x.to(device, non_blocking=True)


__all__ = ["send"]
