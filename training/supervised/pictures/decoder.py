"""From a few numbers back to a picture. N pictures, B examples, D features, Z numbers of a code, C, H, W a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.initialization import orthogonal
from triathlon.training.supervised.heads import pool


class Decoder(nn.Module):
    """A code `[N, Z]` to a picture `[N, C, H, W]`.

    A small picture of many channels is enlarged twice by repeating pixels, with a convolution after each, which leaves
    no checkerboard as transposed convolutions do (Odena, Dumoulin & Olah 2016).
    """

    def __init__(self, code_size: int, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__()
        self._small = (hidden, -(-height // 4), -(-width // 4))
        self._size = (height, width)
        self.enter = orthogonal(nn.Linear(code_size, hidden * self._small[1] * self._small[2]))
        self.first = orthogonal(nn.Conv2d(hidden, hidden, 3, padding=1))
        self.second = orthogonal(nn.Conv2d(hidden, channels, 3, padding=1), 1.0)

    def logits(self, code: Tensor) -> Tensor:
        """`[N, Z]` to `[N, C, H, W]`, before they are pressed between 0 and 1."""
        x = torch.relu(self.enter(code)).view(-1, *self._small)
        x = torch.relu(self.first(F.interpolate(x, scale_factor=2)))
        picture: Tensor = self.second(F.interpolate(x, scale_factor=2))[..., : self._size[0], : self._size[1]]
        return picture

    def decode(self, code: Tensor) -> Tensor:
        """`[N, Z]` to `[N, C, H, W]` of values from 0 to 1."""
        return torch.sigmoid(self.logits(code))


class AutoencoderHead(Decoder):
    """`features [T, B, D]` to a code, and from it pictures `[B, C, H, W]` of values from 0 to 1."""

    def __init__(self, in_features: int, code_size: int, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__(code_size, channels, height, width, hidden)
        self.code = orthogonal(nn.Linear(in_features, code_size), 1.0)

    def encode(self, features: Tensor) -> Tensor:
        """`[T, B, D]` to `[B, Z]`."""
        code: Tensor = self.code(pool(features, None, "last"))
        return code

    def forward(self, features: Tensor, length: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.decode(self.encode(features))


class VariationalHead(Decoder):
    """`features [T, B, D]` to a normal distribution over codes, and pictures from codes drawn from it.

    Auto-Encoding Variational Bayes (Kingma & Welling 2014, §3 and appendix B and C).
    """

    def __init__(self, in_features: int, code_size: int, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__(code_size, channels, height, width, hidden)
        self.code = orthogonal(nn.Linear(in_features, 2 * code_size), 1.0)
        self.register_buffer("beta", torch.zeros(()))

    beta: Tensor
    """What a nat of the code costs at present; it rises while the run warms up, so it is kept with the weights."""

    def encode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`[T, B, D]` to mean and log variance `[B, Z]`."""
        mean, log_variance = self.code(pool(features, None, "last")).chunk(2, -1)
        return mean, log_variance

    def forward(
        self, features: Tensor, length: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[B, C, H, W]`, mean and log variance `[B, Z]`; without a generator the code is the mean."""
        mean, log_variance = self.encode(features)
        code = mean
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
            code = mean + torch.exp(log_variance / 2) * noise
        return self.logits(code), mean, log_variance


def num_channels(shape: list[int]) -> int:
    """Channels of pictures `[H, W]` or `[H, W, C]`."""
    return shape[2] if len(shape) == 3 else 1


def to_planes(obs: Tensor) -> Tensor:
    """`obs [1, B, H, W(, C)]` of bytes as `[B, C, H, W]` from 0 to 1, as a decoder makes them."""
    pictures = obs[0].float() / 255
    return pictures.unsqueeze(1) if pictures.dim() == 3 else pictures.movedim(-1, 1)


def to_obs(planes: Tensor, shape: list[int]) -> Tensor:
    """The inverse of `to_planes`, unrounded, so that gradients come through: `[1, B, *shape]` from 0 to 255."""
    return (planes.movedim(1, -1) * 255).reshape(1, -1, *shape)


def to_bytes(planes: Tensor) -> NDArray[np.uint8]:
    """`[N, C, H, W]` from 0 to 1 as bytes `[N, H, W, C]`."""
    pictures: NDArray[Any] = (planes.movedim(1, -1) * 255).round().to(torch.uint8).cpu().numpy()
    return pictures


def between(first: Tensor, last: Tensor, num: int) -> Tensor:
    """Codes on the straight lines between codes `[N, Z]` and others: `[N · num, Z]`, line by line."""
    weight = torch.linspace(0, 1, num, device=first.device).view(1, -1, 1)
    return torch.lerp(first[:, None], last[:, None], weight).flatten(0, 1)


__all__ = [
    "AutoencoderHead",
    "Decoder",
    "VariationalHead",
    "between",
    "num_channels",
    "to_bytes",
    "to_obs",
    "to_planes",
]
