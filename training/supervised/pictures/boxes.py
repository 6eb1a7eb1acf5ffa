"""Boxes: how well two agree, which of many say the same, and how good a detector is.

Boxes are `[…, 4]`: left, top, right, bottom. N, M boxes, B pictures, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Found:
    """What a detector found, or what there is, in many pictures."""

    picture: Tensor  # [N] ints: in which picture
    boxes: Tensor  # [N, 4]
    classes: Tensor  # [N] ints
    scores: Tensor  # [N]: how sure it is; not read of what there is

    def of_class(self, k: int) -> Found:
        """Those of one class."""
        keep = self.classes == k
        return Found(self.picture[keep], self.boxes[keep], self.classes[keep], self.scores[keep])


def area(boxes: Tensor) -> Tensor:
    """`[…]`: 0 for a box whose right is left of its left."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _both(a: Tensor, b: Tensor) -> Tensor:
    """`[…]`: the area that two boxes share."""
    return area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], -1))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """`[…]`: the area that two boxes share over the area that they cover; 0 where they cover none."""
    both = _both(a, b)
    return both / (area(a) + area(b) - both).clamp(min=torch.finfo(both.dtype).tiny)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """`[…, N, 4]` and `[…, M, 4]` to the IoU of each with each, `[…, N, M]`."""
    return iou(a.unsqueeze(-2), b.unsqueeze(-3))


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """`[…]`: IoU less the empty share of the smallest box around both, from -1 to 1 (Rezatofighi et al. 2019, "GIoU").

    Unlike the IoU it says of boxes that do not touch how far they are from it.
    """
    both, tiny = _both(a, b), torch.finfo(a.dtype).tiny
    cover = area(a) + area(b) - both
    around = area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], -1))
    return both / cover.clamp(min=tiny) - (around - cover) / around.clamp(min=tiny)


def non_maximum_suppression(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """`[…, N]`: which boxes are kept, each unless a surer one of its class that is kept has an IoU above `threshold`.

    Of equal scores the first is the surer. The usual loop over boxes, solved for all at once (Zheng et al. 2021,
    "Enhancing Geometric Factors", §3.3, Cluster-NMS): what is kept is decided anew from what was kept, until nothing
    changes. After n rounds the n surest are decided, so this ends, and with what the loop would have found.
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)
    boxes = boxes.gather(-2, order.unsqueeze(-1).expand_as(boxes))
    classes = classes.gather(-1, order)
    same = classes.unsqueeze(-1) == classes.unsqueeze(-2)
    beats = ((pairwise_iou(boxes, boxes) > threshold) & same).triu(1)  # [..., N surer, N]
    kept = torch.ones_like(classes, dtype=torch.bool)
    while True:
        now = ~(beats & kept.unsqueeze(-1)).any(-2)
        if torch.equal(now, kept):
            return torch.zeros_like(kept).scatter(-1, order, kept)
        kept = now


def average_precision(found: Found, truth: Found, threshold: float = 0.5) -> float:
    """The area under the curve of precision over recall for boxes of one class; nan where there is none to find.

    As Pascal VOC measures since 2010 (Everingham et al. 2015, "A Retrospective", §3.2): a box is right if the IoU with
    the true box that it agrees with most is at least `threshold` and no surer box was right about the same; precision
    at a recall is the best at that recall or a higher one. Of equal scores the first is the surer.
    """
    num = len(truth.boxes)
    if not num:
        return float("nan")
    if not len(found.boxes):
        return 0.0
    order = found.scores.argsort(descending=True, stable=True)
    picture, boxes = found.picture[order], found.boxes[order]
    agreement = pairwise_iou(boxes, truth.boxes).masked_fill(picture.unsqueeze(1) != truth.picture, -1.0)
    best, which = agreement.max(1)
    hit = best >= threshold
    place = torch.arange(len(order), device=order.device)
    first = torch.full((num,), len(order), device=order.device).scatter_reduce(0, which[hit], place[hit], "amin")
    right = hit & (first[which] == place)
    num_right = right.cumsum(0).double()
    precision = (num_right / (place + 1)).flip(0).cummax(0).values.flip(0)
    return float(precision[right].sum() / num)


def mean_average_precision(found: Found, truth: Found, num_classes: int, threshold: float = 0.5) -> float:
    """The mean of the average precision of all classes that there is something to find of; nan if there is nothing."""
    each = torch.tensor(
        [average_precision(found.of_class(k), truth.of_class(k), threshold) for k in range(num_classes)]
    )
    return float(each.nanmean())


__all__ = [
    "Found",
    "area",
    "average_precision",
    "generalised_iou",
    "iou",
    "mean_average_precision",
    "non_maximum_suppression",
    "pairwise_iou",
]
