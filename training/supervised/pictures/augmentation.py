"""Pictures changed at random as their class stays right. B pictures, H height, W width, C channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def shift(pictures: NDArray[Any], most: int, rng: np.random.Generator) -> NDArray[Any]:
    """`[B, H, W(, C)]`, each moved by up to `most` pixels along both sides; what comes in is 0."""
    height, width = pictures.shape[1:3]
    around = [(0, 0), (most, most), (most, most), *[(0, 0)] * (pictures.ndim - 3)]
    padded = np.pad(pictures, around)
    down, right = rng.integers(0, 2 * most + 1, (2, len(pictures)))
    rows = down[:, None, None] + np.arange(height)[None, :, None]
    columns = right[:, None, None] + np.arange(width)[None, None, :]
    moved: NDArray[Any] = padded[np.arange(len(pictures))[:, None, None], rows, columns]
    return moved


def flip(pictures: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """`[B, H, W(, C)]`, each mirrored, left for right, with probability a half."""
    mirrored = rng.random(len(pictures)) < 0.5
    flipped = pictures.copy()
    flipped[mirrored] = pictures[mirrored][:, :, ::-1]
    return flipped


def erase(pictures: NDArray[np.uint8], share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`[B, H, W(, C)]`, this share of them with noise in place of a rectangle.

    It covers 2 to 40 % of the picture and is up to 3.3 times as long as broad, as in Zhong et al. 2017, "Random Erasing
    Data Augmentation", algorithm 1; where theirs would stick out of the picture and is drawn again, this one is cut.
    """
    num, height, width = pictures.shape[:3]
    area = rng.uniform(0.02, 0.4, num) * height * width
    aspect = np.exp(rng.uniform(-np.log(3.3), np.log(3.3), num))
    high = np.clip(np.round(np.sqrt(area * aspect)), 1, height).astype(np.int64)
    broad = np.clip(np.round(np.sqrt(area / aspect)), 1, width).astype(np.int64)
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - broad + 1)
    row, column = np.arange(height), np.arange(width)
    is_row = (row >= top[:, None]) & (row < (top + high)[:, None])
    is_column = (column >= left[:, None]) & (column < (left + broad)[:, None])
    is_row &= rng.random((num, 1)) < share
    is_erased = is_row[:, :, None] & is_column[:, None, :]
    erased = pictures.copy()
    erased[is_erased] = rng.integers(0, 256, erased[is_erased].shape, np.uint8)
    return erased
