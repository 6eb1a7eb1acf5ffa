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
