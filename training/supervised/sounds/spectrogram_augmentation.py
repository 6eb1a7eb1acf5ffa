"""Spectrograms changed at random as what is said stays the same. B recordings, F frames, M bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from triathlon.training.supervised.sounds.spectrogram import centred

Frames = NDArray[np.float32]  # [B, F, M] in bel
Lengths = NDArray[np.int64]  # [B] frames

FAINTEST_NOISE = 30.0  # dB below the loudest
NOISE_SHAPE = 4.0  # of the gamma distribution of a band's power in a frame: about the squares that a triangle sums


@dataclass(frozen=True)
class SpectrogramAugmentationConfig:
    """How recordings are changed while they are learned from; as they are, by default."""

    shift: Annotated[int, Ge(0), "frames of silence that are put before a recording, at most"] = 0
    loudest_noise: Annotated[
        float | None, "dB over the mean strength of each band that hiss reaches at most; null: no hiss"
    ] = None
    band_shift: Annotated[float, Ge(0), "bands that all frequencies are moved by at most, as if by a longer throat"] = (
        0.0
    )
    num_time_masks: Annotated[int, Ge(0), "stretches of time that are blotted out"] = 0
    time_mask_size: Annotated[int, Gt(0), "frames of such a stretch, at most"] = 10
    num_band_masks: Annotated[int, Ge(0), "ranges of frequencies that are blotted out"] = 0
    band_mask_size: Annotated[int, Gt(0), "bands of such a range, at most"] = 6


def augmented(
    frames: Frames,
    length: Lengths,
    strength: Frames,
    config: SpectrogramAugmentationConfig,
    relative_to: str,
    rng: np.random.Generator,
) -> Frames:
    """`[B, F, M]` with other voices, hiss and blots, as many frames as before, of which the first `length` count.

    `strength [B, 1, M]` is that of each band before anything was changed. What comes out is measured from the mean that
    hiss has lifted, so that blots are at the mean too.
    """
    if config.band_shift:
        frames = band_shifted(frames, config.band_shift, rng)
    if config.loudest_noise is not None:
        frames = noisy(frames, strength, config.loudest_noise, rng)
    frames = centred(frames, length, relative_to)
    if config.num_band_masks or config.num_time_masks:
        frames = masked(frames, length, config, rng)
    return frames


def later(frames: Frames, length: Lengths, most: int, rng: np.random.Generator) -> tuple[Frames, Lengths]:
    """Each recording up to `most` frames later, in silence of its own: `[B, F + most, M]` and its new length."""
    delay = rng.integers(0, most + 1, len(frames))
    faintest = frames.min((1, 2), keepdims=True)
    size = frames.shape[1]
    source = np.arange(size + most) - delay[:, None]  # [B, F + most]
    moved = np.take_along_axis(frames, source.clip(0, size - 1)[..., None], 1)
    there = (source >= 0) & (source < length[:, None])
    return np.where(there[..., None], moved, faintest), length + delay


def band_shifted(frames: Frames, most: float, rng: np.random.Generator) -> Frames:
    """All bands of a recording moved up or down, by parts of a band too.

    A longer vocal tract has lower resonances; on the mel scale that is close to a shift (Jaitly & Hinton 2013, "Vocal
    Tract Length Perturbation", warps the axis instead).
    """
    num_bands = frames.shape[2]
    source = (np.arange(num_bands) + rng.uniform(-most, most, (len(frames), 1))).clip(0, num_bands - 1)  # [B, M]
    low = np.floor(source).astype(np.int64).clip(0, num_bands - 2)
    part = (source - low).astype(np.float32)[:, None]
    below, above = (np.take_along_axis(frames, (low + step)[:, None], 2) for step in (0, 1))
    return np.asarray(below + part * (above - below), np.float32)


def mean_strength(frames: Frames, length: Lengths) -> Frames:
    """`[B, 1, M]`: the mean of each band over a recording's own frames."""
    own = (np.arange(frames.shape[1]) < length[:, None])[..., None]
    return np.asarray(frames.mean(1, keepdims=True, where=own), np.float32)


def noisy(frames: Frames, strength: Frames, loudest: float, rng: np.random.Generator) -> Frames:
    """With hiss as strong in each band as `strength [B, 1, M]`, and a level drawn for each recording above or below it.

    Powers add, so in bel it is log10(10^speech + 10^noise).
    """
    level = rng.uniform(loudest - FAINTEST_NOISE, loudest, (len(frames), 1, 1)) / 10
    hiss = rng.gamma(NOISE_SHAPE, 1 / NOISE_SHAPE, frames.shape)
    return np.log10(10.0**frames + hiss * 10.0 ** (strength + level)).astype(np.float32)


def masked(frames: Frames, length: Lengths, config: SpectrogramAugmentationConfig, rng: np.random.Generator) -> Frames:
    """Stretches of time and ranges of bands at their mean, 0 (Park et al. 2019, "SpecAugment", §2, without warping)."""
    num, size, num_bands = frames.shape
    hidden = np.zeros((num, size, num_bands), bool)
    for _ in range(config.num_time_masks):
        width = np.asarray(rng.integers(0, config.time_mask_size + 1, num), np.int64)
        start = (rng.random(num) * np.maximum(length - width, 1)).astype(np.int64)
        hidden |= _between(start, width, size)[:, :, None]
    for _ in range(config.num_band_masks):
        width = np.asarray(rng.integers(0, min(config.band_mask_size, num_bands) + 1, num), np.int64)
        start = (rng.random(num) * (num_bands - width + 1)).astype(np.int64)
        hidden |= _between(start, width, num_bands)[:, None, :]
    return np.where(hidden, np.float32(0), frames)


def _between(start: NDArray[np.int64], width: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """`[B, size]`: which places lie in a range of each."""
    place = np.arange(size)
    return (place >= start[:, None]) & (place < (start + width)[:, None])


__all__ = ["SpectrogramAugmentationConfig", "augmented", "band_shifted", "later", "masked", "mean_strength", "noisy"]
