"""Pictures as a convolution wants them. T rows, B columns, N = T · B, C channels, H height, W width."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from triathlon.networks.backbone import Backbone, Obs, State
from triathlon.networks.errors import SettingError
from triathlon.networks.spaces import Layout, image_layout, pixel_scale


class ImageReader:
    """`obs [T, B, *shape]` to floats `[N, C, H, W]` of a `dtype`; bytes are scaled to 0..1, floats and bools stay.

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

    def __call__(self, obs: Obs, dtype: torch.dtype = torch.float32) -> Tensor:
        x: Tensor = obs.flatten(0, 1)  # type: ignore[union-attr]  # the space was no Dict
        if not self._channels_first:
            x = x.movedim(-1, -3)
        if self._num_sides == 2:
            x = x.unsqueeze(1)
        elif self._num_sides == 4:
            x = x.flatten(1, 2)
        x = x.to(dtype)
        x = x if self._scale == 1.0 else x * self._scale
        return x.contiguous(memory_format=self._memory_format)  # last: converting bytes in two layouts at once is slow


class PictureBackbone(Backbone):
    """A stateless backbone that reads pictures; D features come out in float32, whatever it computes in.

    Nearly all arithmetic of an agent that sees is here, so this is where half the bits pay (Micikevicius et al. 2018,
    "Mixed Precision Training"; bfloat16 needs no loss scaling). Memories and heads stay in float32.
    """

    read: ImageReader
    precision: torch.dtype = torch.float32
    """float32, or bfloat16: weights stay float32, convolutions and products are rounded."""

    def encode(self, pictures: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, D]`."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(pictures)")

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        x: Tensor = obs  # type: ignore[assignment]  # the space was no Dict
        low = self.precision != torch.float32
        with torch.autocast(x.device.type, self.precision) if low else nullcontext():
            features = self.encode(self.read(x, self.precision))
        return features.float().reshape(*x.shape[:2], -1), ()


def compute_pictures_in(network: nn.Module, precision: torch.dtype) -> None:
    """Set the precision of every part of a network that reads pictures."""
    for module in network.modules():
        if isinstance(module, PictureBackbone):
            module.precision = precision


__all__ = ["ImageReader", "PictureBackbone", "compute_pictures_in"]
