"""Recordings from files. n samples of one channel, between -1 and 1."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.training.errors import RunError

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au"}

Wave = NDArray[np.float32]  # [n]


def read_sound(path: Path, sample_rate: int) -> Wave:
    """A file, its channels averaged, at `sample_rate` samples per second.

    Raises:
        RunError: there is no such file, it is no sound or an empty one, or the packages that read it are missing.
    """
    check_packages()
    import soundfile

    if not path.is_file():
        raise RunError(f"there is no file {path}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise RunError(f"{path} cannot be read as a sound: {error}") from error
    if not len(samples):
        raise RunError(f"{path} is a sound without samples")
    return at_rate(samples.mean(1), rate, sample_rate)


def at_rate(wave: NDArray[Any], rate: int, sample_rate: int) -> Wave:
    """Samples taken `rate` times a second as if they had been taken `sample_rate` times (a polyphase filter)."""
    if rate == sample_rate:
        return wave.astype(np.float32)
    from scipy.signal import resample_poly

    divisor = int(np.gcd(rate, sample_rate))
    resampled: Wave = resample_poly(wave, sample_rate // divisor, rate // divisor).astype(np.float32)
    return resampled


def check_packages() -> None:
    """Raises RunError where what reads and hears sounds is not installed."""
    for module in ("soundfile", "kaldi_native_fbank", "scipy"):
        if importlib.util.find_spec(module) is None:
            raise RunError(f"sounds need {module}; install it with: pip install 'triathlon[speech]'")


__all__ = ["SUFFIXES", "Wave", "at_rate", "check_packages", "read_sound"]
