"""A vision transformer over patches of a picture. T rows, B columns, N = T · B, L patches, D features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from gymnasium import Space
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.attention import TransformerEncoder
from triathlon.networks.errors import SettingError
from triathlon.networks.images import ImageReader, MapShape, PictureBackbone
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, register
from triathlon.networks.spaces import Layout


@dataclass(frozen=True)
class PatchesConfig(BackboneConfig):
    """Settings of a vision transformer."""

    kind: Annotated[str, "vision transformer over patches"] = "patches"
    patch_size: Annotated[int, Gt(0), "side of a patch in pixels; the picture is padded with zeros to a multiple"] = 12
    width: Annotated[int, Gt(0), "features of a token, and what comes out"] = 128
    num_layers: Annotated[int, Gt(0), "transformer layers"] = 4
    num_heads: Annotated[int, Gt(0), "attention heads; must divide the width"] = 4
    pooling: Annotated[Literal["mean", "cls"], "how the tokens become one: their mean, or a token of its own"] = "mean"
    layout: Annotated[Layout, "where the channels are: auto, channels_first or channels_last"] = "auto"


@register("patches", PatchesConfig)
class Patches(PictureBackbone):
    """ViT (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", §3.1) with learned positions.

    Raises:
        SettingError: the space holds no pictures, a patch is larger than the picture, or the heads do not fit.
    """

    def __init__(self, space: Space[Any], config: PatchesConfig) -> None:
        super().__init__()
        self.read = ImageReader(space, config.layout, False, config.kind)
        height, width, size = self.read.height, self.read.width, config.patch_size
        if size > min(height, width):
            raise SettingError(f"patches: patch_size ({size}) is larger than the picture ({height} x {width})")
        self._padding = (0, -width % size, 0, -height % size)
        padded = MapShape(self.read.channels, -(-height // size) * size, -(-width // size) * size)
        self.map_shapes = (padded.convolved(config.width, size, size),)
        num_patches = self.map_shapes[0].height * self.map_shapes[0].width
        self.embedding = orthogonal(nn.Conv2d(self.read.channels, config.width, size, size), 1.0)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.width)) if config.pooling == "cls" else None
        num_tokens = num_patches + (self.cls is not None)
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_tokens, config.width), std=0.02))
        self.encoder = TransformerEncoder(config.width, config.num_layers, config.num_heads, config.kind)
        self.out_features = config.width

    def encode_maps(self, pictures: Tensor) -> list[Tensor]:
        patches = self._tokens(pictures)[:, self.cls is not None :]
        return [patches.transpose(1, 2).unflatten(2, (self.map_shapes[0].height, self.map_shapes[0].width))]

    def encode(self, pictures: Tensor) -> Tensor:
        tokens = self._tokens(pictures)
        return tokens.mean(1) if self.cls is None else tokens[:, 0]

    def _tokens(self, pictures: Tensor) -> Tensor:
        """`[N, C, H, W]` to `[N, L, D]`, the token of its own first if there is one."""
        x = self.embedding(F.pad(pictures, self._padding)).flatten(2).transpose(1, 2)  # [N, L, D]
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        tokens: Tensor = self.encoder(x + self.position)
        return tokens


__all__ = ["Patches", "PatchesConfig"]
