"""What was found, drawn over pictures. H height, W width, M boxes, K classes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from triathlon.training.supervised.task import Picture

GOLDEN = 0.618034  # of a turn around the circle of hues: neighbours in the list of classes never look alike


def class_colour(k: int) -> tuple[int, int, int]:
    """A bright colour for class k (from 0)."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + k * GOLDEN) % 1.0, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def paint(picture: Picture, mask: NDArray[Any], strength: float = 0.65) -> Picture:
    """`[H, W, 3]` with the pixels of `mask [H, W]` that are not 0 tinted in the colour of their class (1 + class)."""
    colours = np.array([(0, 0, 0), *(class_colour(k) for k in range(int(mask.max())))], np.float32)
    share = np.where(mask > 0, strength, 0.0)[..., None]
    tinted: Picture = (picture * (1 - share) + colours[mask] * share).round().astype(np.uint8)
    return tinted


def frame(picture: Picture, boxes: NDArray[Any], classes: NDArray[Any], captions: Sequence[str] = ()) -> Picture:
    """`[H, W, 3]` with `boxes [M, 4]` (left, top, right, bottom in pixels) drawn in the colours of their classes."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    thickness = max(1, max(picture.shape[:2]) // 200)
    for i, (box, kind) in enumerate(zip(boxes, classes, strict=True)):
        left, top, right, bottom = (round(float(side)) for side in box)
        colour = class_colour(int(kind))
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=thickness)
        if captions:
            place = draw.textbbox((left + 1, top), captions[i])
            draw.rectangle(place, fill=colour)
            draw.text((left + 1, top), captions[i], fill=(0, 0, 0))
    return np.asarray(image)


__all__ = ["class_colour", "frame", "paint"]
