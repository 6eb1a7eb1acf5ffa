"""A residual tower that keeps every square of the board. N boards, C channels, H height, W width, D features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from gymnasium import Space
from torch import Tensor, nn

from triathlon.networks.images import ImageReader, MapShape, PictureBackbone
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, register
from triathlon.networks.spaces import Layout


@dataclass(frozen=True)
class ResNetConfig(BackboneConfig):
    """Settings of a residual tower."""

    kind: Annotated[str, "residual tower without downsampling, for boards"] = "resnet"
    channels: Annotated[int, Gt(0), "channels of the tower"] = 64
    num_blocks: Annotated[int, Ge(0), "residual blocks of two convolutions"] = 4
    reduced_channels: Annotated[int, Gt(0), "channels that the tower is reduced to before the last layer"] = 8
    features: Annotated[int, Ge(0), "units of the layer after the tower; 0: none"] = 256
    layout: Annotated[Layout, "where the channels are: auto, channels_first or channels_last"] = "auto"
    channels_last: Annotated[bool, "channels-last memory format inside (faster but for few small pictures)"] = True


class _Block(nn.Module):
    """Normalised, so that a deep tower trains without batch statistics, which self-play would shift under its feet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = orthogonal(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
        self.second = orthogonal(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
        self.norm_first, self.norm_second = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.norm_first(self.first(x)))
        return torch.relu(x + self.norm_second(self.second(out)))


@register("resnet", ResNetConfig)
class ResNet(PictureBackbone):
    """The tower of Silver et al. 2017, "Mastering the game of Go without human knowledge", Methods, layers normalised.

    Raises:
        SettingError: the space holds no pictures.
    """

    def __init__(self, space: Space[Any], config: ResNetConfig) -> None:
        super().__init__()
        self.read = ImageReader(space, config.layout, config.channels_last, config.kind)
        self.map_shapes = (MapShape(config.channels, self.read.height, self.read.width),)
        self.entry = orthogonal(nn.Conv2d(self.read.channels, config.channels, 3, padding=1))
        self.blocks = nn.Sequential(*(_Block(config.channels) for _ in range(config.num_blocks)))
        self.reduce = orthogonal(nn.Conv2d(config.channels, config.reduced_channels, 1))
        self.out_features = config.reduced_channels * self.read.height * self.read.width
        self.linear: nn.Linear | None = None
        if config.features:
            self.linear = orthogonal(nn.Linear(self.out_features, config.features))
            self.out_features = config.features

    def encode_maps(self, pictures: Tensor) -> list[Tensor]:
        return [self.blocks(torch.relu(self.entry(pictures)))]

    def encode(self, pictures: Tensor) -> Tensor:
        x = torch.relu(self.reduce(self.encode_maps(pictures)[-1])).flatten(1)
        return x if self.linear is None else torch.relu(self.linear(x))


__all__ = ["ResNet", "ResNetConfig"]
