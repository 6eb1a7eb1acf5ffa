"""Spectrograms as observations: rows of frames for a memory, pictures for what sees, and back to be looked at.

N recordings, F frames, M bands, T rows in time, B recordings of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.networks.errors import SettingError
from triathlon.training.supervised.examples import Batch, Examples
from triathlon.training.supervised.sounds.spectrogram import HearingConfig, Spectrogram, centred
from triathlon.training.supervised.sounds.spectrogram_augmentation import (
    SpectrogramAugmentationConfig,
    augmented,
    later,
)


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

    def examples(self, spectrograms: Sequence[Spectrogram], target: NDArray[np.int64]) -> Examples:
        """Spectrograms as rows `[N, T, *obs]`, filled up with silence; a whole one is cut where it is longer."""
        sizes = np.array([len(frames) for frames in spectrograms], np.int64)
        longest = self._size if self.whole else self._up(int(sizes.max()))
        padded = np.empty((len(sizes), longest, self.config.num_bands), np.float32)
        for row, frames in zip(padded, spectrograms, strict=True):
            row[: len(frames)] = frames[:longest]
            row[len(frames) :] = frames.min()  # silence is what is faintest
        return Examples(self._rows(padded), target, None if self.whole else self._up(sizes) // self._size)

    def num_rows(self, spectrogram: Spectrogram) -> int:
        """Rows T of a recording."""
        return 1 if self.whole else self._up(len(spectrogram)) // self._size

    def augmented(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch changed at random as the settings say, and heard anew: strength is measured from the new mean."""
        change = self.augmentation
        if change == SpectrogramAugmentationConfig():
            return batch
        frames = self._frames(batch.obs.transpose(0, 1).numpy())
        length = np.full(len(frames), frames.shape[1]) if batch.length is None else batch.length.numpy() * self._size
        if change.shift:
            frames, length = later(frames, length, change.shift, rng)
            size = self._size if self.whole else self._up(int(length.max()))
            frames = np.pad(frames, [(0, 0), (0, max(0, size - frames.shape[1])), (0, 0)], "edge")[:, :size]
            length = np.minimum(length, size)
        frames = centred(augmented(frames, length, change, rng), length, self.config.relative_to)
        rows = None if batch.length is None else torch.from_numpy(self._up(length) // self._size)
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


__all__ = ["Hearing"]
