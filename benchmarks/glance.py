"""A backbone that costs next to nothing, for timing what is around a network. T rows, B columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gymnasium import Space
from torch import Tensor

from triathlon.networks.backbone import Backbone, Obs, State
from triathlon.networks.registry import BackboneConfig


class Glance(Backbone):
    """Sees eight pixels of a picture's upper edge: `[T, B, *obs]` to features `[T, B, 8]`. Nothing is learned in it."""

    @dataclass(frozen=True)
    class Config(BackboneConfig):
        """No settings."""

    out_features = 8

    def __init__(self, space: Space[Any], config: Config) -> None:
        super().__init__()

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        pixels: Tensor = obs  # type: ignore[assignment]  # pictures are one tensor
        while pixels.dim() > 3:
            pixels = pixels[:, :, -1]
        return pixels[..., : self.out_features].float() / 255, ()


__all__ = ["Glance"]
