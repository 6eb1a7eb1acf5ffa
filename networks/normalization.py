"""Observations scaled to zero mean and unit variance, by statistics that travel with the weights.

T rows, B columns; `*shape` one observation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from triathlon.networks.backbone import Obs
from triathlon.networks.spaces import image_size

Total: TypeAlias = Callable[[Tensor], Tensor]


class RunningNorm(nn.Module):
    """Mean and variance of all that `update` has seen; forward gives `clip((x - mean) / sqrt(var + eps), ±clip)`.

    Batches are merged by Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1, in
    double precision. Before the first update the mean is 0 and the variance 1.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], clip: float = 10.0, eps: float = 1e-8) -> None:
        super().__init__()
        self.clip = clip
        self.eps = eps
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        # What forward uses, in the precision of observations: two operations an observation instead of six.
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    @torch.no_grad()
    def update(self, x: Tensor, mask: Tensor | None = None, total: Total = lambda x: x) -> None:
        """Take in `x [..., *shape]`; where `mask [...]` is False a row is left out.

        `total` sums a tensor over all processes that take in rows at the same time.
        """
        rows = (x.reshape(-1, *self.mean.shape) if mask is None else x[mask]).double()
        count = total(torch.full_like(self.count, rows.shape[0]))
        mean = total(rows.sum(0)) / count.clamp(min=1.0)
        squares = total((rows - mean).square().sum(0))
        delta = mean - self.mean
        of_all = (self.count + count).clamp(min=1.0)
        spread = self.var * self.count + squares + delta.square() * (self.count * count / of_all)
        self.mean.add_(delta * (count / of_all))
        self.var.copy_(torch.where(count > 0, spread / of_all, self.var))
        self.count.add_(count)
        self.shift.copy_(self.mean)
        self.scale.copy_(torch.rsqrt(self.var + self.eps))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.shift) * self.scale).clamp(-self.clip, self.clip)


class ObsNorm(nn.Module):
    """A `RunningNorm` for each leaf of a space that is a Box and no picture; all else goes through untouched."""

    def __init__(self, space: Space[Any], clip: float = 10.0) -> None:
        super().__init__()
        is_vector = isinstance(space, spaces.Box) and image_size(space) is None
        self.norm = RunningNorm(space.shape or (), clip) if is_vector else None
        children = space.spaces if isinstance(space, spaces.Dict) else {}
        self.keys = tuple(children)
        parts = nn.ModuleList(ObsNorm(child, clip) for child in children.values())
        self.parts: list[ObsNorm] = parts  # type: ignore[assignment]
        self.space: Space[Any] = space
        """What comes out, for whoever reads it: bytes that were normalised are bytes no more."""
        if is_vector:
            self.space = spaces.Box(-clip, clip, space.shape, np.float32)
        elif children:
            self.space = spaces.Dict({key: part.space for key, part in zip(children, self.parts, strict=True)})

    def update(self, obs: Obs, mask: Tensor | None = None, total: Total = lambda x: x) -> None:
        """Take in `obs [..., *obs]`; where `mask [...]` is False a row is left out; `total` as for `RunningNorm`."""
        if self.norm is not None:
            self.norm.update(obs, mask, total)  # type: ignore[arg-type]  # a Box is no dict
        for key, part in zip(self.keys, self.parts, strict=True):
            part.update(obs[key], mask, total)  # type: ignore[index]

    def forward(self, obs: Obs) -> Obs:
        if self.norm is not None:
            return self.norm(obs)  # type: ignore[no-any-return]
        if not self.keys:
            return obs
        return {key: part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)}  # type: ignore[index]


__all__ = ["ObsNorm", "RunningNorm"]
