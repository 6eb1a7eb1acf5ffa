"""What a Gymnasium space says about one observation: is it a picture, how is it laid out, how long is it flattened.

T rows, B columns, H height, W width, C channels, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.errors import SettingError

Layout = Literal["auto", "channels_first", "channels_last"]
SMALLEST_FLAT_IMAGE = 8  # pixels; below that a 2-D byte array is a table (a board), not a picture


def image_layout(shape: tuple[int, ...], layout: Layout = "auto") -> tuple[int, int, int, bool]:
    """`(channels, height, width, channels_first)` of one picture `[H, W]`, `[H, W, C]`, `[C, H, W]` or a stack of them.

    Where the layout is not given, the odd one out of three sides is the channels (8 × 8 × 119); else the smaller of the
    first and the last (210 × 160 × 3), and the first if these are the same (3 planes of a board of 5 × 3).
    """
    if len(shape) == 2:
        return 1, *shape, True
    *stack, first, middle, last = shape
    if layout == "auto":
        channels_first = first != middle if (first == middle) != (middle == last) else first <= last
    else:
        channels_first = layout == "channels_first"
    frames = int(np.prod(stack, dtype=int))
    return (first * frames, middle, last, True) if channels_first else (last * frames, first, middle, False)


def image_size(space: Space[Any]) -> tuple[int, int] | None:
    """`(height, width)` if the space is a Box of pictures, else `None`."""
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3, 4):
        return None
    if len(space.shape) == 2:
        is_image = space.dtype == np.uint8 and min(space.shape) >= SMALLEST_FLAT_IMAGE
    else:
        is_image = len(space.shape) == 3 or space.dtype == np.uint8
    return image_layout(space.shape)[1:3] if is_image else None


def has_images(space: Space[Any]) -> bool:
    """Is the space a Box of pictures, or a Dict or Tuple with one in it?"""
    return num_pixels(space) > 0


def num_pixels(space: Space[Any]) -> int:
    """Height times width of the largest picture in the space, 0 if there is none."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        children = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return max(map(num_pixels, children), default=0)
    height, width = image_size(space) or (0, 0)
    return height * width


def pixel_scale(space: spaces.Box) -> float:
    """What to multiply pixels with: 1 / high for bounded integers (1 / 255 for bytes), 1 for floats and bools."""
    if not np.issubdtype(space.dtype, np.integer) or not np.all(space.bounded_above):
        return 1.0
    high = float(space.high.max())
    return 1.0 / high if 1 < high <= np.iinfo(np.uint16).max else 1.0


def flat_reader(space: Space[Any], who: str) -> tuple[Callable[[Tensor], Tensor] | None, int]:
    """How to turn `obs [T, B, *shape]` into `[T, B, D]` floats, and D.

    The reader is `None` where an observation already is a vector of numbers; integers `Discrete` are made one-hot.

    Raises:
        SettingError: the space is none of Box, Discrete, MultiDiscrete, MultiBinary.
    """
    if isinstance(space, spaces.Box):
        size = int(np.prod(space.shape, dtype=int))
        scale = pixel_scale(space) if space.dtype == np.uint8 else 1.0
        if scale != 1.0:
            return (lambda obs: obs.reshape(*obs.shape[:2], size) * scale), size
        return (None if len(space.shape) == 1 else lambda obs: obs.reshape(*obs.shape[:2], size)), size
    if isinstance(space, spaces.MultiBinary):
        size = int(np.prod(space.shape, dtype=int))
        return (None if len(space.shape) == 1 else lambda obs: obs.reshape(*obs.shape[:2], size)), size
    if isinstance(space, spaces.Discrete):
        n, start = int(space.n), int(space.start)
        return (lambda obs: F.one_hot(obs.long() - start, n)), n
    if isinstance(space, spaces.MultiDiscrete):
        offsets, size = token_offsets(space)
        return _ManyHot(offsets, size), size
    found = f"backbone '{who}' cannot read {type(space).__name__} observations"
    if isinstance(space, spaces.Dict):
        raise SettingError(f"{found}: use kind: auto (or dict)")
    raise SettingError(f"{found}: they must be Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these")


def token_offsets(space: spaces.MultiDiscrete) -> tuple[Tensor, int]:
    """What to add to each number of an observation to index one table of all its values, and that table's length."""
    nvec = torch.as_tensor(space.nvec.reshape(-1), dtype=torch.long)
    return nvec.cumsum(0) - nvec - torch.as_tensor(space.start.reshape(-1), dtype=torch.long), int(nvec.sum())


class _ManyHot(nn.Module):
    """One-hot vectors of a MultiDiscrete's numbers, one behind the other. A module, so that offsets are on its device.

    From the CPU they would be copied at every call, for which a GPU is waited for.
    """

    offsets: Tensor

    def __init__(self, offsets: Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("offsets", offsets, persistent=False)
        self._size = size

    def forward(self, obs: Tensor) -> Tensor:
        tokens = obs.reshape(*obs.shape[:2], -1).long() + self.offsets
        return torch.zeros(*obs.shape[:2], self._size, device=obs.device).scatter_(-1, tokens, 1.0)


__all__ = ["Layout", "flat_reader", "image_layout", "image_size", "pixel_scale", "token_offsets"]
