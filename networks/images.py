"""Pictures as a convolution wants them. T rows, B columns, N = T · B, C channels, H height, W width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
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
        numbers = x.to(dtype)
        if self._scale != 1.0:  # in place where the numbers are a copy already
            numbers = numbers * self._scale if numbers is x else numbers.mul_(self._scale)
        return numbers.contiguous(memory_format=self._memory_format)  # last: converting in two layouts at once is slow


@dataclass(frozen=True)
class MapShape:
    """A map of features over a picture, and where its cells lie: cell i is centred on pixel `start + i * stride`."""

    channels: int
    height: int
    width: int
    stride: int = 1
    start: float = 0.0

    def convolved(self, channels: int, kernel: int, stride: int, padding: int = 0) -> MapShape:
        """The map that a convolution or a pooling makes of this one."""
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (self.height, self.width))
        start = self.start + self.stride * ((kernel - 1) / 2 - padding)
        return MapShape(channels, height, width, self.stride * stride, start)


class PictureBackbone(Backbone):
    """A stateless backbone that reads pictures; D features come out in float32, whatever it computes in.

    Where features still have a place in the picture, they can be had before they are flattened: `feature_maps`, from
    fine to coarse, each of the shape in `map_shapes`. The features come from the last of them.

    Nearly all arithmetic of an agent that sees is here, so this is where half the bits pay (Micikevicius et al. 2018,
    "Mixed Precision Training"; bfloat16 needs no loss scaling). Memories and heads stay in float32.
    """

    read: ImageReader
    precision: torch.dtype = torch.float32
    """float32, or bfloat16: weights stay float32, convolutions and products are rounded."""

    map_shapes: tuple[MapShape, ...] = ()
    """From fine to coarse; empty where a backbone keeps no maps."""

    def encode(self, pictures: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, D]`."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(pictures)")

    def encode_maps(self, pictures: Tensor) -> list[Tensor]:
        """`[N, C, H, W]` to maps `[N, channels, height, width]`, one for each of `map_shapes`."""
        raise NotImplementedError(f"{type(self).__name__} must define encode_maps(pictures), or leave map_shapes empty")

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        x: Tensor = obs  # type: ignore[assignment]  # the space was no Dict
        with self._rounding(x):
            features = self.encode(self.read(x, self.precision))
        return features.float().reshape(*x.shape[:2], -1), ()

    def feature_maps(self, obs: Obs) -> list[Tensor]:
        """`obs [T, B, *shape]` to maps `[T · B, channels, height, width]` in float32, one for each of `map_shapes`."""
        x: Tensor = obs  # type: ignore[assignment]  # the space was no Dict
        with self._rounding(x):
            maps = self.encode_maps(self.read(x, self.precision))
        return [each.float() for each in maps]

    def _rounding(self, x: Tensor) -> AbstractContextManager[object]:
        low = self.precision != torch.float32
        return torch.autocast(x.device.type, self.precision) if low else nullcontext()


def compute_pictures_in(network: nn.Module, precision: torch.dtype) -> None:
    """Set the precision of every part of a network that reads pictures."""
    for module in network.modules():
        if isinstance(module, PictureBackbone):
            module.precision = precision


@contextmanager
def weights_rounded_once(network: nn.Module) -> Iterator[None]:
    """Inside, the weights of parts that read pictures are rounded beforehand, not again at every call.

    For a few pictures at a time rounding the weights takes a third of the time. What comes out is the same to the bit;
    the weights must neither be learned nor be read meanwhile. On a GPU rounding is cheap, and a recorded graph reads
    the weights from their place: there nothing is done.
    """
    whole: list[tuple[nn.Parameter, Tensor, torch.dtype]] = []
    for part in network.modules():
        if isinstance(part, PictureBackbone) and part.precision != torch.float32:
            layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
            parameters = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
            whole += [(each, each.data, part.precision) for each in parameters if each.device.type == "cpu"]
    try:
        for parameter, weights, precision in whole:
            parameter.data = weights.to(precision)
        yield
    finally:
        for parameter, weights, _ in whole:
            parameter.data = weights


__all__ = ["ImageReader", "MapShape", "PictureBackbone", "compute_pictures_in", "weights_rounded_once"]
