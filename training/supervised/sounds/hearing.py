"""Spectrograms as observations: rows of frames for a memory, pictures for what sees, and back to be looked at.

N recordings, F frames, M bands, T rows in time, B recordings of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.networks.errors import SettingError
from triathlon.training.supervised.examples import Batch, Examples, Indices
from triathlon.training.supervised.sounds.spectrogram import HearingConfig, Spectrogram
from triathlon.training.supervised.sounds.spectrogram_augmentation import (
    SpectrogramAugmentationConfig,
    augmented,
    later,
    mean_strength,
)


@dataclass(frozen=True, kw_only=True)
class HeardBatch(Batch):
    """Recordings of which the first `num_frames [B]` frames are their own; rows and pictures are filled up."""

    num_frames: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class HeardExamples(Examples):
    """All recordings, with `num_frames [N]`."""

    num_frames: NDArray[np.int64]

    def batch(self, indices: Indices) -> HeardBatch:
        """These recordings."""
        batch = super().batch(indices)
        return HeardBatch(obs=batch.obs, target=batch.target, length=batch.length, num_frames=self.num_frames[indices])

    def part(self, indices: Indices) -> HeardExamples:
        """Only these recordings."""
        part = super().part(indices)
        return HeardExamples(obs=part.obs, target=part.target, length=part.length, num_frames=self.num_frames[indices])


class Hearing:
    """How spectrograms become rows of observations and back. `num_frames` is F where a whole recording is one row.

    Raises:
        SettingError: the settings are not those that `num_frames` was found with.
    """

    def __init__(
        self, config: HearingConfig, augmentation: SpectrogramAugmentationConfig, num_frames: int | None
    ) -> None:
        if (num_frames is None) != (config.frames_per_row is not None):
            raise SettingError("hearing.frames_per_row is not what the run was trained with; leave it as it was")
        self.config, self.augmentation = config, augmentation
        self.whole = num_frames is not None
        self._size = num_frames if num_frames is not None else int(config.frames_per_row or 1)
        shape = (1, self._size, config.num_bands) if config.as_picture else (self._size * config.num_bands,)
        self.space = spaces.Box(-np.inf, np.inf, shape, np.float32)

    def examples(self, spectrograms: Sequence[Spectrogram], target: NDArray[np.int64]) -> HeardExamples:
        """Spectrograms as rows `[N, T, *obs]`, filled up with silence; a whole one is cut where it is longer."""
        sizes = np.array([len(frames) for frames in spectrograms], np.int64)
        longest = self._size if self.whole else self._up(int(sizes.max()))
        padded = np.empty((len(sizes), longest, self.config.num_bands), np.float32)
        for row, frames in zip(padded, spectrograms, strict=True):
            row[: len(frames)] = frames[:longest]
            row[len(frames) :] = frames.min()  # silence is what is faintest
        length = None if self.whole else self._up(sizes) // self._size
        return HeardExamples(
            obs=self._rows(padded), target=target, length=length, num_frames=np.minimum(sizes, longest)
        )

    def num_rows(self, spectrogram: Spectrogram) -> int:
        """Rows T of a recording."""
        return 1 if self.whole else self._up(len(spectrogram)) // self._size

    def augmented(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch of `HeardExamples` changed at random as the settings say, and heard anew as `spectrogram` hears.

        What a recording is filled up with has no part in its mean, and is as faint as what is faintest in it now.
        """
        change = self.augmentation
        if change == SpectrogramAugmentationConfig():
            return batch
        assert isinstance(batch, HeardBatch)
        frames, length = self._frames(batch.obs.transpose(0, 1).numpy()), batch.num_frames
        strength = mean_strength(frames, length)
        if change.shift:
            frames, length = later(frames, length, change.shift, rng)
            size = self._size if self.whole else self._up(int(length.max()))
            frames = np.pad(frames, [(0, 0), (0, max(0, size - frames.shape[1])), (0, 0)], "edge")[:, :size]
            length = np.minimum(length, size)
        frames = augmented(frames, length, strength, change, self.config.relative_to, rng)
        own = (np.arange(frames.shape[1]) < length[:, None])[..., None]
        frames = np.where(own, frames, np.where(own, frames, np.inf).min((1, 2), keepdims=True)).astype(np.float32)
        rows = None if self.whole else torch.from_numpy(self._up(length) // self._size)
        return Batch(torch.from_numpy(self._rows(frames)).transpose(0, 1), batch.target, rows)

    def pictures(self, examples: Examples, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Spectrograms of these examples as grey pictures `[M, F]` of one size: time to the right, pitch upwards."""
        frames = self._frames(examples.obs[np.asarray(indices)])
        size = frames.shape[1]
        if examples.length is not None:
            size = int(examples.length[np.asarray(indices)].max()) * self._size
        shade = (frames[:, :size].transpose(0, 2, 1)[:, ::-1] + 2.0) / 5.0  # bel around the mean
        return list((shade.clip(0, 1) * 255).astype(np.uint8))

    def _up(self, num_frames: Any) -> Any:
        """The next multiple of the frames of a row."""
        return -(-num_frames // self._size) * self._size

    def _rows(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """`[B, F, M]` as `[B, T, *obs]`; F is a multiple of the frames of a row."""
        return frames.reshape(len(frames), -1, *self.space.shape)

    def _frames(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of `_rows`."""
        return rows.reshape(len(rows), -1, self.config.num_bands)


__all__ = ["HeardBatch", "HeardExamples", "Hearing"]
