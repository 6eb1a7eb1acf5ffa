"""What is on a picture? T rows in time, B examples, H height, W width, C channels, K classes, N examples in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.errors import SettingError
from triathlon.training.supervised.classification import Classification, ClassificationConfig
from triathlon.training.supervised.drawing import sheet
from triathlon.training.supervised.examples import Batch, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.pictures.augmentation import erase, flip, shift
from triathlon.training.supervised.pictures.sources import Pictures, read_picture, read_pictures
from triathlon.training.supervised.sources import PartsConfig
from triathlon.training.supervised.task import Embeddings, Evaluation


@dataclass(frozen=True)
class ImageClassificationConfig(ClassificationConfig):
    """Settings of image classification."""

    kind: Annotated[str, "what is on a picture"] = "image_classification"
    source: Annotated[
        str, MinLen(1), "digits, fashion_mnist, a folder of IDX files, or one with a folder of pictures for each class"
    ] = "digits"
    size: Annotated[int | None, Ge(5), "side that the pictures of a person's own folder are scaled to"] = None
    parts: PartsConfig = field(default_factory=PartsConfig)
    as_rows: Annotated[bool, "read a picture row by row, from top to bottom, as a sequence"] = False
    shift: Annotated[int, Ge(0), "pixels that a picture is moved by at most while it is learned from"] = 0
    flip: Annotated[bool, "show every second picture mirrored while it is learned from"] = False
    erase: Annotated[float, Ge(0), Le(1), "share of pictures that are learned from with noise in a rectangle"] = 0.0

    def __post_init__(self) -> None:
        if self.pooling != "last" and not self.as_rows:
            raise SettingError(
                f"pooling is {self.pooling}, but a picture that is seen at once is one row; set as_rows: true, or "
                "leave it out"
            )


class ImageClassification(Classification):
    """Pictures `[H, W]` or `[H, W, 3]` of bytes, seen at once or row by row."""

    Config = ImageClassificationConfig
    config: ImageClassificationConfig

    def __init__(self, config: ImageClassificationConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        if facts is None:
            data = read_pictures(config.source, config.size, config.parts)
            facts = {"classes": data.classes, "shape": list(data.train[0].shape[1:])}
            self.data = Splits(*(self._examples(part) for part in (data.train, data.validation, data.test)))
        self.facts = facts
        if self.data is not None:
            self.weigh_classes(data.train[1])
        shape = tuple(facts["shape"])
        if config.as_rows:
            shape = (int(np.prod(shape[1:])),)
        self.space = spaces.Box(0, 255, shape, np.uint8)

    def _examples(self, pictures: Pictures) -> Examples:
        return Examples(self.sequences(pictures[0]), pictures[1])

    def sequences(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`[N, H, W(, C)]` as sequences `[N, 1, H, W(, C)]`, or `[N, H, W · C]` row by row."""
        if self.config.as_rows:
            return pictures.reshape(*pictures.shape[:2], -1)
        return pictures[:, None]

    def _pictures(self, obs: Tensor) -> Tensor:
        """The inverse of `sequences` for a batch: `[T, B, …]` to `[B, H, W(, C)]`."""
        return obs.transpose(0, 1).reshape(obs.shape[1], *self.facts["shape"])

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        if not (self.config.shift or self.config.flip or self.config.erase):
            return batch
        pictures = self._pictures(batch.obs).numpy()
        if self.config.shift:
            pictures = shift(pictures, self.config.shift, rng)
        if self.config.flip:
            pictures = flip(pictures, rng)
        if self.config.erase:
            pictures = erase(pictures, self.config.erase, rng)
        return replace(batch, obs=torch.from_numpy(self.sequences(pictures)).transpose(0, 1))

    def embed(self, network: Network, batch: Batch) -> Embeddings:
        return replace(super().embed(network, batch), pictures=self._pictures(batch.obs).cpu().numpy())

    def show(
        self, found: Evaluation, network: Network, dataset: Dataset, probability: NDArray[Any], device: torch.device
    ) -> None:
        assert isinstance(dataset, Examples)
        chosen = self.sample_indices(probability, dataset.target, 32)
        pictures = [dataset.obs[i].reshape(self.facts["shape"]) for i in chosen]
        guess, target = probability.argmax(-1), dataset.target
        captions = [(self.classes[guess[i]], bool(guess[i] == target[i])) for i in chosen]
        found.pictures["samples"] = sheet(pictures, 8, captions)

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Pictures of any size and format that Pillow reads."""
        shape = self.facts["shape"]
        for file in files:
            picture = read_picture(file, (shape[0], shape[1]), is_grey=len(shape) == 2)
            obs = torch.from_numpy(self.sequences(picture[None])).transpose(0, 1).to(device)
            yield f"{file}: {self.in_words(network(obs)[0].softmax(-1)[0].cpu().numpy())}"


__all__ = ["ImageClassification", "ImageClassificationConfig"]
