"""Pictures as a convolution wants them. T rows, B columns, N = T · B, C channels, H height, W width."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor

from triathlon.networks.backbone import Obs
from triathlon.networks.errors import SettingError
from triathlon.networks.spaces import Layout, image_layout, pixel_scale


class ImageReader:
    """`obs [T, B, *shape]` to `[N, C, H, W]` floats; bytes are scaled to 0..1, floats and bools stay as they are.

    Raises:
        SettingError: the space is no Box of 2 (one channel), 3 or 4 (a stack of pictures) sides.
    """

    def __init__(self, space: Space[Any], layout: Layout, channels_last: bool, who: str) -> None:
        if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3, 4):
            found = f"a Box of shape {space.shape}" if isinstance(space, spaces.Box) else type(space).__name__
            raise SettingError(f"backbone '{who}' reads pictures (a Box of 2 to 4 sides), not {found}: use kind: auto")
        self.channels, self.height, self.width, self._channels_first = image_layout(space.shape, layout)
        self._num_sides = len(space.shape)
        self._scale = pixel_scale(space)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, obs: Obs) -> Tensor:
        x: Tensor = obs.flatten(0, 1)  # type: ignore[union-attr]  # the space was no Dict
        if not self._channels_first:
            x = x.movedim(-1, -3)
        if self._num_sides == 2:
            x = x.unsqueeze(1)
        elif self._num_sides == 4:
            x = x.flatten(1, 2)
        x = x.to(torch.float32, memory_format=self._memory_format)
        return x if self._scale == 1.0 else x * self._scale


__all__ = ["ImageReader"]
