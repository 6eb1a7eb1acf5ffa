"""From a few numbers back to a picture. N pictures, D features, C channels, H height, W width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.initialization import orthogonal
from triathlon.training.supervised.heads import pool


class Decoder(nn.Module):
    """`features [T, B, D]` to a code of a few numbers, and from it pictures `[B, C, H, W]` of values from 0 to 1.

    A small picture of many channels is enlarged twice by repeating pixels, with a convolution after each, which leaves
    no checkerboard as transposed convolutions do (Odena, Dumoulin & Olah 2016).
    """

    def __init__(self, in_features: int, code_size: int, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__()
        self._small = (hidden, -(-height // 4), -(-width // 4))
        self._size = (height, width)
        self.code = orthogonal(nn.Linear(in_features, code_size), 1.0)
        self.enter = orthogonal(nn.Linear(code_size, hidden * self._small[1] * self._small[2]))
        self.first = orthogonal(nn.Conv2d(hidden, hidden, 3, padding=1))
        self.second = orthogonal(nn.Conv2d(hidden, channels, 3, padding=1), 1.0)

    def forward(self, features: Tensor, length: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.decode(self.code(pool(features, length, "last")))

    def decode(self, code: Tensor) -> Tensor:
        """`[N, code_size]` to `[N, C, H, W]`."""
        x = torch.relu(self.enter(code)).view(-1, *self._small)
        x = torch.relu(self.first(F.interpolate(x, scale_factor=2)))
        x = self.second(F.interpolate(x, scale_factor=2))[..., : self._size[0], : self._size[1]]
        return torch.sigmoid(x)


__all__ = ["Decoder"]
