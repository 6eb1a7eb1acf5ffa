"""Convolutional encoders. T rows, B columns, N = T · B, C channels, H height, W width, D features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from gymnasium import Space
from torch import Tensor, nn

from triathlon.networks.errors import SettingError
from triathlon.networks.images import ImageReader, MapShape, PictureBackbone
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, register
from triathlon.networks.spaces import Layout

PositiveInts = tuple[Annotated[int, Gt(0)], ...]

# (channels, kernel sizes, strides). Mnih et al. 2015, "Human-level control", Methods; the second, for pictures too
# small for those strides, is that of Young & Tian 2019, "MinAtar", with one layer more.
NATURE = ((32, 64, 64), (8, 4, 3), (4, 2, 1))
SMALL = ((16, 32), (3, 3), (1, 1))
SMALLEST_FOR_NATURE = 36  # pixels


@dataclass(frozen=True)
class CNNConfig(BackboneConfig):
    """Settings of a plain convolutional network."""

    kind: Annotated[str, "convolutional network; by default Nature's, or a small one for pictures below 36 pixels"] = (
        "cnn"
    )
    channels: Annotated[PositiveInts, "channels of each convolution; empty: chosen by the picture's size"] = ()
    kernel_sizes: Annotated[PositiveInts, "side of each convolution's kernel, in pixels"] = ()
    strides: Annotated[PositiveInts, "stride of each convolution, in pixels"] = ()
    features: Annotated[int, Ge(0), "units of the layer after the convolutions; 0: none"] = 512
    layer_norm: Annotated[bool, "normalise each layer before its ReLU, over channels and pixels"] = False
    layout: Annotated[Layout, "where the channels are: auto, channels_first or channels_last"] = "auto"
    channels_last: Annotated[bool, "channels-last memory format inside (faster but for few small pictures)"] = True


@register("cnn", CNNConfig)
class CNN(PictureBackbone):
    """Convolutions with ReLU, then one layer. Time and batch are folded together.

    Raises:
        SettingError: the space holds no pictures, the picture is too small for the convolutions, or `channels`,
            `kernel_sizes` and `strides` differ in length.
    """

    def __init__(self, space: Space[Any], config: CNNConfig) -> None:
        super().__init__()
        self.read = ImageReader(space, config.layout, config.channels_last, config.kind)
        shape = MapShape(self.read.channels, self.read.height, self.read.width)
        named = (config.channels, config.kernel_sizes, config.strides)
        if len({len(setting) for setting in named}) != 1:
            lengths = ", ".join(str(len(setting)) for setting in named)
            raise SettingError(f"cnn: channels, kernel_sizes and strides must be equally long, not {lengths}")
        if not config.channels:
            named = SMALL if min(shape.height, shape.width) < SMALLEST_FOR_NATURE else NATURE
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for channels, kernel, stride in zip(*named, strict=True):
            if min(shape.height, shape.width) < kernel:
                raise SettingError(
                    f"cnn: a picture of {self.read.height} x {self.read.width} is too small for "
                    f"kernel_sizes {named[1]} with strides {named[2]}; use smaller ones, or kind: impala or mlp"
                )
            self.convolutions.append(orthogonal(nn.Conv2d(shape.channels, channels, kernel, stride)))
            if config.layer_norm:  # one group of all channels is the layer norm of a picture
                self.norms.append(nn.GroupNorm(1, channels))
            shape = shape.convolved(channels, kernel, stride)
            self.map_shapes += (shape,)
        self.out_features = shape.channels * shape.height * shape.width
        self.linear: nn.Linear | None = None
        if config.features:
            self.linear = orthogonal(nn.Linear(self.out_features, config.features))
            self.out_features = config.features
            if config.layer_norm:
                self.norms.append(nn.LayerNorm(config.features))

    def encode_maps(self, pictures: Tensor) -> list[Tensor]:
        x, maps = pictures, []
        for i, convolution in enumerate(self.convolutions):
            x = self._activate(convolution(x), i)
            maps.append(x)
        return maps

    def encode(self, pictures: Tensor) -> Tensor:
        x = self.encode_maps(pictures)[-1].flatten(1)
        return x if self.linear is None else self._activate(self.linear(x), -1)

    def _activate(self, x: Tensor, layer: int) -> Tensor:
        return torch.relu(self.norms[layer](x) if self.norms else x)


@dataclass(frozen=True)
class ImpalaConfig(BackboneConfig):
    """Settings of an IMPALA residual network."""

    kind: Annotated[str, "IMPALA residual network"] = "impala"
    channels: Annotated[PositiveInts, "channels of each of the sections; each halves the picture"] = (16, 32, 32)
    width: Annotated[int, Gt(0), "multiplier of the channels"] = 1
    features: Annotated[int, Ge(0), "units of the layer after the sections; 0: none"] = 256
    layout: Annotated[Layout, "where the channels are: auto, channels_first or channels_last"] = "auto"
    channels_last: Annotated[bool, "channels-last memory format inside (faster but for few small pictures)"] = True


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = orthogonal(nn.Conv2d(channels, channels, 3, padding=1))
        self.second = orthogonal(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + out


@register("impala", ImpalaConfig)
class Impala(PictureBackbone):
    """The deep residual network of Espeholt et al. 2018, "IMPALA", figure 3, with a multiplier of its channels.

    Raises:
        SettingError: the space holds no pictures.
    """

    def __init__(self, space: Space[Any], config: ImpalaConfig) -> None:
        super().__init__()
        self.read = ImageReader(space, config.layout, config.channels_last, config.kind)
        shape = MapShape(self.read.channels, self.read.height, self.read.width)
        self.sections = nn.ModuleList()
        for channels in config.channels:
            outputs = channels * config.width
            entry = orthogonal(nn.Conv2d(shape.channels, outputs, 3, padding=1))
            pool = nn.MaxPool2d(3, 2, padding=1)
            self.sections.append(nn.Sequential(entry, pool, _Residual(outputs), _Residual(outputs)))
            shape = shape.convolved(outputs, 3, 2, padding=1)
            self.map_shapes += (shape,)
        self.out_features = shape.channels * shape.height * shape.width
        self.linear: nn.Linear | None = None
        if config.features:
            self.linear = orthogonal(nn.Linear(self.out_features, config.features))
            self.out_features = config.features

    def encode_maps(self, pictures: Tensor) -> list[Tensor]:
        x, maps = pictures, []
        for section in self.sections:
            x = section(x)
            maps.append(torch.relu(x))
        return maps

    def encode(self, pictures: Tensor) -> Tensor:
        x = pictures
        for section in self.sections:
            x = section(x)
        x = torch.relu(x).flatten(1)
        return x if self.linear is None else torch.relu(self.linear(x))


__all__ = ["CNN", "CNNConfig", "Impala", "ImpalaConfig"]
