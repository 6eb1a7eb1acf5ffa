"""Pictures of results for TensorBoard and the documentation. H height, W width, K classes, N pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from triathlon.training.atomic_write import write_beside
from triathlon.training.supervised.task import Picture

WHITE, BLACK, RED, GREEN = (255, 255, 255), (0, 0, 0), (200, 30, 30), (20, 130, 50)
CAPTION = 14  # pixels


def colour(picture: NDArray[Any]) -> Picture:
    """`[H, W]`, `[H, W, 1]` or `[H, W, 3]` as `[H, W, 3]`."""
    picture = picture if picture.ndim == 3 else picture[..., None]
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)), np.uint8)


def write_answer(file: Path, word: str, picture: Picture) -> Path:
    """Write what was made of a person's file beside it, as `NAME.WORD.png`, and say where.

    Raises:
        RunError: it cannot be written there.
    """
    out = file.with_name(f"{file.stem}.{word}.png")
    with write_beside(out) as temporary:
        Image.fromarray(picture).save(temporary)
    return out


def enlarge(picture: Picture, side: int) -> Picture:
    """Whole multiples of each pixel, until the longer side is about `side`."""
    factor = max(1, round(side / max(picture.shape[:2])))
    return np.kron(picture, np.ones((factor, factor, 1), np.uint8))


def sheet(pictures: Sequence[NDArray[Any]], columns: int, captions: Sequence[tuple[str, bool]] = ()) -> Picture:
    """N pictures of one size beside and below each other; a caption is green if it is right and red if not."""
    tiles = [enlarge(colour(picture), 64) for picture in pictures]
    height, width = tiles[0].shape[:2]
    height += CAPTION if captions else 0
    rows = -(-len(tiles) // columns)
    image = Image.new("RGB", (columns * (width + 2), rows * (height + 2)), WHITE)
    draw = ImageDraw.Draw(image)
    for i, tile in enumerate(tiles):
        x, y = i % columns * (width + 2), i // columns * (height + 2)
        image.paste(Image.fromarray(tile), (x, y))
        if captions:
            text, is_right = captions[i]
            draw.text((x + 1, y + height - CAPTION), text[: width // 6], fill=GREEN if is_right else RED)
    return np.asarray(image)


def confusion_picture(table: NDArray[np.int64], names: Sequence[str]) -> Picture:
    """What was (rows) taken for what (columns), shaded by its share of the row, with counts where they are few."""
    num_classes = len(names)
    cell = 36 if num_classes <= 20 else max(4, 720 // num_classes)
    margin = 90 if num_classes <= 60 else 0
    image = Image.new("RGB", (margin + num_classes * cell + 1, margin + num_classes * cell + 1), WHITE)
    draw = ImageDraw.Draw(image)
    share = table / np.maximum(1, table.sum(1, keepdims=True))
    for i, j in np.ndindex(num_classes, num_classes):
        x, y = margin + j * cell, margin + i * cell
        shade = int(255 - 150 * share[i, j] ** 0.5)  # the root, so that a few mistakes can be seen
        fill = (shade, 255 - (255 - shade) // 3, shade) if i == j else (255, shade, shade)
        draw.rectangle((x, y, x + cell, y + cell), fill=fill, outline=(220, 220, 220))
        if table[i, j] and num_classes <= 20:
            draw.text((x + cell / 2, y + cell / 2), str(table[i, j]), fill=BLACK, anchor="mm")
    if margin:
        for i, name in enumerate(names):
            middle = margin + (i + 0.5) * cell
            draw.text((margin - 4, middle), name[:14], fill=BLACK, anchor="rm")
            label = Image.new("RGB", (margin - 4, 12), WHITE)
            ImageDraw.Draw(label).text((0, 0), name[:14], fill=BLACK)
            image.paste(label.rotate(90, expand=True), (int(middle) - 6, 0))
    return np.asarray(image)


def regions(probability: NDArray[Any], points: NDArray[Any], target: NDArray[Any], extent: float) -> Picture:
    """How likely class 1 is over a plane `[H, W]` from -extent to extent, and points `[N, 2]` of two classes on it."""
    blue, orange = np.array([90, 140, 220.0]), np.array([245, 160, 70.0])
    plane = (probability[..., None] * orange + (1 - probability[..., None]) * blue).astype(np.uint8)
    image = Image.fromarray(plane[::-1].copy())  # the second number grows upwards
    draw = ImageDraw.Draw(image)
    size = np.array([probability.shape[1], probability.shape[0]])
    for (x, y), kind in zip((points + extent) / (2 * extent) * size, target, strict=True):
        box = (x - 3, size[1] - y - 3, x + 3, size[1] - y + 3)
        draw.ellipse(box, fill=(200, 90, 0) if kind else (20, 60, 160), outline=WHITE)
    return np.asarray(image)


def attention_picture(weight: NDArray[Any], rows: Sequence[str], columns: Sequence[str]) -> Picture:
    """Where each written token (a row) looked in the source (a column), the darker the more; `weight [S, T]`."""
    cell, margin = 18, 80
    image = Image.new("RGB", (margin + len(columns) * cell, margin + len(rows) * cell), WHITE)
    draw = ImageDraw.Draw(image)
    for i, j in np.ndindex(*weight.shape):
        shade = int(255 * (1.0 - min(1.0, float(weight[i, j]))))
        x, y = margin + j * cell, margin + i * cell
        draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=(shade, shade, 255 - (255 - shade) // 3))
    for i, name in enumerate(rows):
        draw.text((margin - 4, margin + (i + 0.5) * cell), name.strip()[:12], fill=BLACK, anchor="rm")
    for j, name in enumerate(columns):
        label = Image.new("RGB", (margin - 4, 12), WHITE)
        ImageDraw.Draw(label).text((0, 0), name.strip()[:12], fill=BLACK)
        image.paste(label.rotate(90, expand=True), (margin + j * cell + 3, 0))
    return np.asarray(image)
