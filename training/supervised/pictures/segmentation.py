"""What is at each pixel? B pictures, S their side in pixels, K classes and the photo behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.backbone import State
from triathlon.networks.images import MapShape
from triathlon.training.supervised.drawing import enlarge, sheet, write_answer
from triathlon.training.supervised.examples import Batch, Dataset
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.losses import accuracy, confusion
from triathlon.training.supervised.pictures.cutout_task import (
    CutoutConfig,
    CutoutTask,
    read_whole,
    scaled,
)
from triathlon.training.supervised.pictures.cutouts import Scene
from triathlon.training.supervised.pictures.map_head import MapHead, grid
from triathlon.training.supervised.pictures.overlays import paint
from triathlon.training.supervised.task import Evaluation

STRIDE = 4  # pixels of a cell of the head, which answers for each of them
NUM_SHOWN = 12
LEAST_SHARE = 0.002  # of a person's photo that a class must cover to be named


@dataclass(frozen=True)
class SegmentationConfig(CutoutConfig):
    """Settings of segmentation."""

    kind: Annotated[str, "what is at each pixel"] = "segmentation"
    dice: Annotated[float, Ge(0), "weight of the dice loss beside cross-entropy"] = 1.0


class PixelHead(nn.Module):
    """Maps to logits `[B, K, S, S]`."""

    def __init__(
        self, shapes: tuple[MapShape, ...], side: int, num_classes: int, channels: int, dropout: float
    ) -> None:
        super().__init__()
        self.head = MapHead(shapes, grid(side, side, STRIDE), channels, num_classes * STRIDE**2, dropout)
        self._side = side

    def forward(self, maps: list[Tensor], generator: torch.Generator | None) -> Tensor:
        return F.pixel_shuffle(self.head(maps, generator), STRIDE)[..., : self._side, : self._side]


class Segmentation(CutoutTask):
    """Every pixel's class: 0 is the photo, 1 + class an object."""

    Config = SegmentationConfig
    metric = "miou"
    config: SegmentationConfig

    def target(self, scene: Scene) -> NDArray[np.int64]:
        return scene.mask

    def make_map_head(self, shapes: tuple[MapShape, ...]) -> PixelHead:
        config = self.config
        return PixelHead(shapes, self.facts["size"], 1 + len(self.classes), config.head_channels, config.dropout)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        logits, state = network(batch.obs, state, None, generator)
        loss = F.cross_entropy(logits, batch.target)
        if self.config.dice:
            loss = loss + self.config.dice * dice_loss(logits, batch.target)
        return loss, state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        num_classes = 1 + len(self.classes)
        table = np.zeros((num_classes, num_classes), np.int64)
        shown: list[NDArray[Any]] = []
        for batch in dataset.in_order(batch_size):
            guess = network(batch.obs.to(device))[0].argmax(1).cpu().numpy()
            table += confusion(batch.target.numpy(), guess, num_classes)
            for picture, truth, found in zip(batch.obs[0].numpy(), batch.target.numpy(), guess, strict=True):
                if len(shown) < 3 * NUM_SHOWN:
                    shown += [enlarge(x, 128) for x in (picture, paint(picture, truth), paint(picture, found))]
        each = iou_of(table)
        trivial = np.zeros_like(table)
        trivial[:, 0] = table.sum(1)  # the photo everywhere
        metrics = {
            "miou": float(np.nanmean(each)),
            "accuracy": accuracy(table),
            "miou_trivial": float(np.nanmean(iou_of(trivial))),
        }
        names = ["(photo)", *self.classes]
        rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in zip(names, each, strict=True))
        return Evaluation(metrics, {"samples": sheet(shown, 6)}, {"iou": f"| class | IoU |\n|---|---|\n{rows}"})

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Photos of any size, each scaled to the square that the network reads; what was seen is painted over it."""
        for file in files:
            whole = read_whole(file)
            obs = torch.from_numpy(scaled(whole, self.facts["size"]))[None, None].to(device)
            mask = network(obs)[0].argmax(1)[0].to(torch.uint8).cpu().numpy()
            share = np.bincount(mask.ravel(), minlength=1 + len(self.classes)) / mask.size
            enlarged = np.array(Image.fromarray(mask).resize(whole.shape[1::-1], Image.Resampling.NEAREST))
            out = write_answer(file, "segmented", paint(whole, enlarged))
            seen = [(share[k + 1], name) for k, name in enumerate(self.classes) if share[k + 1] > LEAST_SHARE]
            words = ", ".join(f"{name} {100 * part:.1f} %" for part, name in sorted(seen, reverse=True))
            yield f"{file}: {words or 'none of the classes'}; painted in {out}"


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the mean soft dice coefficient of the classes in a batch (Milletari et al. 2016, "V-Net", §3).

    Args:
        logits: `[B, 1 + K, S, S]`.
        target: `[B, S, S]` ints.
    """
    probability = logits.float().softmax(1)
    truth = F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(probability.dtype)
    both, total, there = ((x).sum((0, 2, 3)) for x in (probability * truth, probability + truth, truth))
    share = there > 0
    return 1.0 - ((2.0 * both / total) * share).sum() / share.sum()


def iou_of(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """`[K]`: hits / (pixels of a class or taken for it), from a confusion table; nan for a class without either."""
    hits, either = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
    each: NDArray[np.float64] = np.divide(hits, either, out=np.full(len(table), np.nan), where=either > 0)
    return each


__all__ = ["Segmentation", "SegmentationConfig", "dice_loss", "iou_of"]
