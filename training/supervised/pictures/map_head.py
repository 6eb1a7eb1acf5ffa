"""Answers at every place of a picture, from the maps of features that a backbone keeps.

N pictures, C channels, H height, W width of a picture; h, w of a map; K what is answered at a place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.backbone import Backbone, State
from triathlon.networks.errors import SettingError
from triathlon.networks.images import MapShape, PictureBackbone
from triathlon.networks.initialization import orthogonal
from triathlon.training.supervised.heads import Network, drop

KEEPERS = "cnn, impala, patches and resnet"


def grid(height: int, width: int, stride: int) -> MapShape:
    """Cells of `stride` pixels that cover a picture; no channels, as it is only places."""
    return MapShape(0, -(-height // stride), -(-width // stride), stride, (stride - 1) / 2)


class Place(nn.Module):
    """Reads a map where the cells of another lie, linearly between its own cells; beyond its edge, its edge.

    Unpadded convolutions leave maps that neither cover the picture nor share their cells' places, so that maps cannot
    simply be enlarged. As two products with small matrices this is exact, and its gradient is the same on every run.
    """

    down: Tensor  # [h of the target, h of the source]
    across: Tensor  # [w, w]

    def __init__(self, source: MapShape, target: MapShape) -> None:
        super().__init__()
        sides = ((source.height, target.height), (source.width, target.width))
        for name, (cells, wanted) in zip(("down", "across"), sides, strict=True):
            at = (target.start + target.stride * torch.arange(wanted) - source.start) / source.stride
            distance = (at.clamp(0, cells - 1).unsqueeze(1) - torch.arange(cells)).abs()
            self.register_buffer(name, (1 - distance).clamp(min=0), persistent=False)
        self._same = (source.height, source.width, source.stride, source.start) == (
            target.height, target.width, target.stride, target.start
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, h, w]` of the source to `[N, C, h, w]` of the target."""
        return x if self._same else self.down @ x @ self.across.T


class MapHead(nn.Module):
    """Maps of any strides to `[N, K, h, w]` on a grid.

    Every map gets the same number of channels; a coarse one is made finer by sub-pixel convolution (Shi et al. 2016,
    "Real-Time Single Image and Video Super-Resolution", §3.2), a fine one coarser by a convolution with strides; all
    are put on the grid and added (Kirillov et al. 2019, "Panoptic Feature Pyramid Networks", §3, without a pyramid of
    its own). Two convolutions read the sum.
    """

    def __init__(self, shapes: tuple[MapShape, ...], target: MapShape, channels: int, out: int, dropout: float) -> None:
        super().__init__()
        self.entries, self.places = nn.ModuleList(), nn.ModuleList()
        self._finer, self._dropout = [], dropout
        for shape in shapes:
            finer = max(1, shape.stride // target.stride)
            coarser = max(1, target.stride // shape.stride)
            self._finer.append(finer)
            self.entries.append(orthogonal(nn.Conv2d(shape.channels, channels * finer**2, coarser, coarser), 1.0))
            self.places.append(Place(_shuffled(shape.convolved(channels, coarser, coarser), finer), target))
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for _ in range(3))
        self.convolutions = nn.ModuleList(
            orthogonal(nn.Conv2d(channels, channels, 3, padding=1, bias=False)) for _ in range(2)
        )
        self.answer = orthogonal(nn.Conv2d(channels, out, 1), 0.01)

    def forward(self, maps: list[Tensor], generator: torch.Generator | None) -> Tensor:
        placed = [
            place(F.pixel_shuffle(entry(x), finer))
            for x, entry, finer, place in zip(maps, self.entries, self._finer, self.places, strict=True)
        ]
        x = torch.relu(self.norms[0](torch.stack(placed).sum(0)))
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = torch.relu(norm(convolution(x)))
        answer: Tensor = self.answer(drop(x, self._dropout, generator))
        return answer


def _shuffled(shape: MapShape, finer: int) -> MapShape:
    """The map in which every cell has become `finer` times as many each way."""
    stride = shape.stride // finer
    start = shape.start - (shape.stride - stride) / 2
    return MapShape(shape.channels, shape.height * finer, shape.width * finer, stride, start)


class MapNetwork(Network):
    """A picture backbone as an agent has one, and a head that reads its maps in place of its features.

    Raises:
        SettingError: the backbone keeps no maps.
    """

    backbone: PictureBackbone

    def __init__(self, backbone: Backbone, make_head: Callable[[tuple[MapShape, ...]], nn.Module], task: str) -> None:
        shapes = backbone.map_shapes if isinstance(backbone, PictureBackbone) else ()
        if not shapes:
            raise SettingError(
                f"backbone: {task} needs one that keeps a map of the picture, and {type(backbone).__name__} keeps "
                f"none; {KEEPERS} do"
            )
        assert isinstance(backbone, PictureBackbone)
        super().__init__(backbone, make_head(shapes))
        self._maps: Callable[[Tensor], list[Tensor]] = backbone.feature_maps

    def forward(
        self,
        obs: Tensor,
        state: State | None = None,
        length: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """`obs [1, N, *shape]` to the head's answer `[N, …]`; `generator` is for dropout."""
        return self.head(self._maps(obs), generator), ()

    def compile_backbone(self) -> None:
        self._maps = torch.compile(self.backbone.feature_maps, dynamic=False)


__all__ = ["MapHead", "MapNetwork", "Place", "grid"]
