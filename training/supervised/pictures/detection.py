"""What is where? B pictures, S their side in pixels, M objects on a picture, K classes, N = h · w cells of the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.backbone import State
from triathlon.networks.images import MapShape
from triathlon.training.supervised.drawing import enlarge, sheet, write_answer
from triathlon.training.supervised.examples import Batch, Dataset
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.pictures.boxes import (
    Found,
    area,
    generalised_iou,
    mean_average_precision,
    non_maximum_suppression,
)
from triathlon.training.supervised.pictures.cutout_task import (
    CutoutConfig,
    CutoutTask,
    read_whole,
    scaled,
)
from triathlon.training.supervised.pictures.cutouts import Scene
from triathlon.training.supervised.pictures.map_head import MapHead, grid
from triathlon.training.supervised.pictures.overlays import frame
from triathlon.training.supervised.task import Evaluation

STRIDE = 4  # pixels between the cells of the head
CENTRE = 1.5  # cells around the middle of an object that answer for it
PRIOR = 0.01  # how likely an object is at a cell, before anything was learned
MOST_FOUND = 40  # boxes of a picture that are kept, the surest
LEAST_SCORE = 0.01  # of a box that is measured
NUM_SHOWN = 18
TRIVIAL_PLACES = 4  # rows and columns of the boxes that are guessed without looking


@dataclass(frozen=True)
class DetectionConfig(CutoutConfig):
    """Settings of detection."""

    kind: Annotated[str, "what is where"] = "detection"
    focus: Annotated[float, Ge(0), "gamma of the focal loss: how much less what is clear already counts"] = 2.0
    box_weight: Annotated[float, Gt(0), "weight of the boxes' loss beside that of the classes"] = 1.0
    overlap: Annotated[float, Gt(0), Lt(1), "IoU from which two boxes of a class are the same object"] = 0.5
    shown_score: Annotated[float, Gt(0), Lt(1), "score from which a box is drawn and predicted"] = 0.3


class BoxHead(nn.Module):
    """Maps to class logits `[B, N, K]` and boxes `[B, N, 4]` in pixels.

    Without anchors (Tian et al. 2019, "FCOS", §3.1): each cell says what it belongs to, and how far from itself the
    four sides are.
    """

    centres: Tensor  # [N, 2]: the middle of each cell in pixels

    def __init__(
        self, shapes: tuple[MapShape, ...], side: int, num_classes: int, channels: int, dropout: float
    ) -> None:
        super().__init__()
        cells = grid(side, side, STRIDE)
        self.head = MapHead(shapes, cells, channels, num_classes + 4, dropout)
        # The middle of cell i is at start + i * stride of the pixels, whose own middles are half a pixel inside.
        across, down = (cells.start + 0.5 + STRIDE * torch.arange(n) for n in (cells.width, cells.height))
        rows, columns = torch.meshgrid(down, across, indexing="ij")
        self.register_buffer("centres", torch.stack([columns, rows], -1).flatten(0, 1), persistent=False)  # [N, 2]
        with torch.no_grad():
            bias = self.head.answer.bias
            assert bias is not None
            bias[:num_classes] = -float(np.log((1 - PRIOR) / PRIOR))  # Lin et al. 2017, "Focal Loss", §4.1
            bias[num_classes:] = 1.0  # e cells to each side
        self._num_classes = num_classes

    def forward(self, maps: list[Tensor], generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        answer = self.head(maps, generator).flatten(2).transpose(1, 2)
        logits, sides = answer.split([self._num_classes, 4], -1)
        sides = STRIDE * sides.clamp(max=4.0).exp()
        boxes = torch.cat([self.centres - sides[..., :2], self.centres + sides[..., 2:]], -1)
        return logits, boxes


class Detection(CutoutTask):
    """The box and the class of each object. The target is `[M, 5]`: boxes in pixels and classes, -1 for no object."""

    Config = DetectionConfig
    metric = "map50"
    config: DetectionConfig

    def target(self, scene: Scene) -> NDArray[np.float32]:
        rows = np.full((self.config.most_objects, 5), -1.0, np.float32)
        rows[: len(scene.boxes), :4], rows[: len(scene.boxes), 4] = scene.boxes, scene.classes
        return rows

    def make_map_head(self, shapes: tuple[MapShape, ...]) -> BoxHead:
        config = self.config
        return BoxHead(shapes, self.facts["size"], len(self.classes), config.head_channels, config.dropout)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        (logits, boxes), state = network(batch.obs, state, None, generator)
        assert isinstance(network.head, BoxHead)
        which = assign(network.head.centres, batch.target)  # [B, N]
        responsible = which >= 0
        mine = batch.target.gather(1, which.clamp(min=0).unsqueeze(-1).expand(-1, -1, 5))  # [B, N, 5]
        wanted = F.one_hot(mine[..., 4].long().clamp(min=0), len(self.classes)) * responsible.unsqueeze(-1)
        num = responsible.sum().clamp(min=1)
        classes = focal_loss(logits, wanted.float(), self.config.focus).sum() / num
        agreement = generalised_iou(boxes[responsible], mine[responsible][..., :4])
        return classes + self.config.box_weight * (1.0 - agreement).sum() / num, state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        found: list[Found] = []
        truth: list[Found] = []
        shown: list[NDArray[Any]] = []
        num_pictures = 0
        for batch in dataset.in_order(batch_size):
            found.append(self._find(network, batch.obs.to(device), num_pictures))
            truth.append(_true(batch.target, num_pictures))
            for i, picture in enumerate(batch.obs[0].numpy()[: max(0, NUM_SHOWN - num_pictures)]):
                shown += [self._drawn(picture, each[-1], num_pictures + i) for each in (truth, found)]
            num_pictures += batch.obs.shape[1]
        everything, there = _join(found), _join(truth)
        guess = self._guess(there, num_pictures)
        metrics = {
            "map50": mean_average_precision(everything, there, len(self.classes)),
            "map50_trivial": mean_average_precision(guess, there, len(self.classes)),
        }
        return Evaluation(metrics, {"samples": sheet(shown, 6)})

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Photos of any size, each scaled to the square that the network reads; what was found is framed."""
        for file in files:
            whole, side = read_whole(file), self.facts["size"]
            obs = torch.from_numpy(scaled(whole, side))[None, None].to(device)
            found = self._sure(self._find(network, obs, 0))
            scale = np.array([whole.shape[1], whole.shape[0]] * 2) / side
            boxes = (found.boxes.numpy() * scale).round().astype(int)
            captions = [
                f"{self.classes[int(k)]} {float(score):.2f}"
                for k, score in zip(found.classes, found.scores, strict=True)
            ]
            out = write_answer(file, "detected", frame(whole, boxes, found.classes.numpy(), captions))
            words = "; ".join(f"{text} at {tuple(box.tolist())}" for text, box in zip(captions, boxes, strict=True))
            yield f"{file}: {words or 'none of the classes'}; framed in {out}"

    def _find(self, network: Network, obs: Tensor, first: int) -> Found:
        """What the network finds in `obs [1, B, S, S, 3]`, pictures numbered from `first`, the surest first."""
        logits, boxes = network(obs)[0]
        scores, classes = logits.sigmoid().max(-1)  # [B, N]
        scores, order = scores.topk(min(MOST_FOUND, scores.shape[1]))
        classes, boxes = classes.gather(1, order), boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        boxes = boxes.clamp(0, self.facts["size"])
        keep = non_maximum_suppression(boxes, scores, classes, self.config.overlap) & (scores > LEAST_SCORE)
        picture = torch.arange(len(keep), device=keep.device).unsqueeze(1).expand_as(keep) + first
        return Found(*(x[keep].cpu() for x in (picture, boxes, classes, scores)))

    def _sure(self, found: Found) -> Found:
        keep = found.scores >= self.config.shown_score
        return Found(found.picture[keep], found.boxes[keep], found.classes[keep], found.scores[keep])

    def _drawn(self, picture: NDArray[Any], found: Found, number: int) -> NDArray[np.uint8]:
        found = self._sure(found)
        mine, large = found.picture == number, enlarge(picture, 128)
        scale = large.shape[0] / picture.shape[0]
        return frame(large, found.boxes[mine].numpy() * scale, found.classes[mine].numpy())

    def _guess(self, truth: Found, num_pictures: int) -> Found:
        """The trivial answer, the same to each picture: every class, in boxes of the mean size on a grid of places."""
        side, num_classes = self.facts["size"], len(self.classes)
        half = (truth.boxes[:, 2:] - truth.boxes[:, :2]).mean(0) / 2
        at = side * (torch.arange(TRIVIAL_PLACES) + 0.5) / TRIVIAL_PLACES
        centres = torch.cartesian_prod(at, at)
        boxes = torch.cat([centres - half, centres + half], 1)
        nearest_first = -(centres - side / 2).square().sum(1)
        shape = (num_pictures, num_classes, len(boxes))
        return Found(
            torch.arange(num_pictures).view(-1, 1, 1).expand(shape).flatten(),
            boxes.expand(*shape, 4).flatten(0, 2),
            torch.arange(num_classes).view(1, -1, 1).expand(shape).flatten(),
            nearest_first.expand(shape).flatten(),
        )


def assign(centres: Tensor, target: Tensor) -> Tensor:
    """`[B, N]`: which object each cell answers for, -1 for none.

    Those whose middle is near it and whose box it is in; of several the smallest (Tian et al. 2019, "FCOS", §3.1; near:
    centre sampling as in their later code, radius 1.5).

    Args:
        centres: `[N, 2]` in pixels.
        target: `[B, M, 5]`.
    """
    boxes, there = target[:, None, :, :4], target[:, None, :, 4] >= 0  # [B, 1, M]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    point = centres[None, :, None]  # [1, N, 1, 2]
    inside = ((point > boxes[..., :2]) & (point < boxes[..., 2:])).all(-1)
    near = ((point - middle).abs() < CENTRE * STRIDE).all(-1)
    smallest, which = area(boxes).masked_fill(~(inside & near & there), torch.inf).min(-1)
    return which.masked_fill(smallest.isinf(), -1)


def focal_loss(logits: Tensor, wanted: Tensor, focus: float, balance: float = 0.25) -> Tensor:
    """`[…]`: cross-entropy of yes and no where what is clear counts little (Lin et al. 2017, "Focal Loss", eq. 5)."""
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    probability = logits.sigmoid()
    missed = torch.where(wanted > 0, 1 - probability, probability)
    return torch.where(wanted > 0, balance, 1 - balance) * missed**focus * loss


def _true(target: Tensor, first: int) -> Found:
    """`target [B, M, 5]` of pictures numbered from `first`."""
    there = target[..., 4] >= 0
    picture = torch.arange(len(target)).unsqueeze(1).expand_as(there) + first
    rows = target[there]
    return Found(picture[there], rows[:, :4], rows[:, 4].long(), torch.ones(len(rows)))


def _join(parts: Sequence[Found]) -> Found:
    names = ("picture", "boxes", "classes", "scores")
    return Found(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


__all__ = ["BoxHead", "Detection", "DetectionConfig", "assign", "focal_loss"]
