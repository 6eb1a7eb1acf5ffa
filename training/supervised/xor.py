"""Exclusive or: what no single layer can learn (Minsky & Papert 1969, "Perceptrons"). N examples, H x W a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.training.errors import RunError
from triathlon.training.supervised.classification import Classification, ClassificationConfig
from triathlon.training.supervised.drawing import regions
from triathlon.training.supervised.examples import SPLIT_SEED, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.task import Evaluation

EXTENT, SIDE = 1.6, 240  # of the picture, in the plane and in pixels


@dataclass(frozen=True)
class XorConfig(ClassificationConfig):
    """Settings of exclusive or."""

    kind: Annotated[str, "exclusive or of two signs"] = "xor"
    num_examples: Annotated[int, Ge(4), "points learned from; half as many choose the checkpoint"] = 400
    noise: Annotated[float, Ge(0), "standard deviation of the points around the corners (±1, ±1)"] = 0.25


class Xor(Classification):
    """Points around the four corners of a square; the class says whether the corner's signs differ."""

    Config = XorConfig
    config: XorConfig

    def __init__(self, config: XorConfig, facts: dict[str, Any] | None = None) -> None:
        self.config = config
        self.facts = {"classes": ["same sign", "different signs"]}
        self.space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.data = None
        if facts is None:
            rng = np.random.default_rng(SPLIT_SEED)
            half = max(4, config.num_examples // 2)
            train = _points(config.num_examples, config.noise, rng)
            self.data = Splits(train, _points(half, config.noise, rng), _points(half, config.noise, rng))
            self.weigh_classes(train.target)

    def show(
        self, found: Evaluation, network: Network, dataset: Dataset, probability: NDArray[Any], device: torch.device
    ) -> None:
        line = np.linspace(-EXTENT, EXTENT, SIDE, dtype=np.float32)
        plane = np.stack(np.meshgrid(line, line), -1).reshape(1, -1, 2)  # [1, H * W, 2]
        over = network(torch.from_numpy(plane).to(device))[0].softmax(-1)[:, 1].cpu().numpy().reshape(SIDE, SIDE)
        assert isinstance(dataset, Examples)
        found.pictures["boundary"] = regions(over, dataset.obs[:200, 0], dataset.target[:200], EXTENT)

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Files of two numbers a line."""
        for file in files:
            try:
                points = np.loadtxt(file, np.float32, ndmin=2, delimiter="," if "," in file.read_text() else None)
            except (OSError, ValueError) as error:
                raise RunError(f"{file} cannot be read as two numbers a line: {error}") from error
            if points.shape[1:] != (2,):
                raise RunError(f"{file} has {points.shape[1]} numbers a line but should have two")
            probability = network(torch.from_numpy(points).unsqueeze(0).to(device))[0].softmax(-1).cpu().numpy()
            for (x, y), row in zip(points, probability, strict=True):
                yield f"{x:g} {y:g}: {self.in_words(row)}"


def _points(num: int, noise: float, rng: np.random.Generator) -> Examples:
    corner = rng.integers(0, 2, (num, 2))
    points = (2 * corner - 1 + noise * rng.standard_normal((num, 2))).astype(np.float32)
    return Examples(points[:, None], corner[:, 0] ^ corner[:, 1])


__all__ = ["Xor", "XorConfig"]
