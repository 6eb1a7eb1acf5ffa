"""Labelled signals in time: sets that come with packages, and a person's own arrays. N signals, T frames, C channels.

A new source is one function from nothing to `SequenceData`, entered in `SOURCES`.
"""

from __future__ import annotations

import importlib.util
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import Examples, Indices
from triathlon.training.supervised.signals.ts_files import read_ts
from triathlon.training.supervised.sources import USUAL_PARTS, PartsConfig, packaged, three_parts


@dataclass(frozen=True)
class SequenceData:
    """Signals in three parts, each `obs [N, T, C]` float32 with zeros after its end, `target [N]`, `length [N]`."""

    classes: list[str]
    train: Examples
    validation: Examples
    test: Examples


def read_sequences(source: str, parts: PartsConfig = USUAL_PARTS) -> SequenceData:
    """The signals of a source: a set by name, a .ts file, or an .npz file with `x [N, T]` or `[N, T, C]` and `y [N]`.

    A .ts file whose name ends in _TRAIN is learned from, and the one that ends in _TEST beside it tests.
    An .npz file may also have `length [N]` (frames of each signal) and `classes [K]` (names of the labels 0, 1, …).
    What parts a source does not have are split off as `parts` says, by a seed that is always the same.

    Raises:
        RunError: no such source or file, a package is missing, the file does not hold such arrays, or `parts` is
            not read.
    """
    if source in SOURCES:
        return SOURCES[source](parts)
    path = Path(source).expanduser()
    if path.is_file():
        return _ts(path, parts) if path.suffix == ".ts" else _arrays(path, parts)
    raise RunError(
        f"task.source: there is no file '{source}' and no source of that name{nearest(source, SOURCES)}; "
        f"there are {', '.join(SOURCES)}"
    )


def read_signal(path: Path, num_channels: int) -> NDArray[np.float32]:
    """A file as one signal `[T, C]`: an .npy array, or text with a frame in each line.

    Raises:
        RunError: there is no such file, or it has no numbers or another number of channels.
    """
    try:
        if path.suffix == ".npy":
            signal = np.asarray(np.load(path, allow_pickle=False), np.float32)
        else:
            text = path.read_text(encoding="utf-8").replace(",", " ")
            signal = np.array([line.split() for line in text.splitlines() if line.strip()], np.float32)
    except FileNotFoundError as error:
        raise RunError(f"there is no file {path}") from error
    except (OSError, ValueError, EOFError) as error:  # EOFError: an empty .npy
        raise RunError(f"{path} cannot be read as frames of numbers: {error}") from error
    if num_channels == 1:
        signal = signal.reshape(-1, 1)
    if signal.ndim != 2 or signal.shape[1] != num_channels or not len(signal):
        found = " x ".join(map(str, signal.shape))
        raise RunError(f"{path} holds {found} numbers; this run reads frames of {num_channels}, one in each line")
    return signal


def split(classes: list[str], train: Examples, test: Examples | None, parts: PartsConfig = USUAL_PARTS) -> SequenceData:
    """The parts that are there, and those that are not taken from `train`; RunError if there are too few signals."""
    return SequenceData(classes, *three_parts(train, test, None, parts, Examples.part, len, "signals"))


def _mnist1d(parts: PartsConfig) -> SequenceData:
    """4,000 and 1,000 signals of 40 numbers (Greydanus & Kobak 2024, "Scaling down deep learning with MNIST-1D")."""
    if importlib.util.find_spec("mnist1d") is None:
        raise RunError("task.source: these signals come with mnist1d; install it with: pip install mnist1d")
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  # the package seeds the global generators
    try:
        from mnist1d.data import get_dataset_args, make_dataset

        data = make_dataset(get_dataset_args())
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
    train, test = (
        Examples(data[f"x{part}"].astype(np.float32)[..., None], data[f"y{part}"].astype(np.int64))
        for part in ("", "_test")
    )
    return split([str(k) for k in range(10)], train, test, parts)


def _japanese_vowels(parts: PartsConfig) -> SequenceData:
    """Nine speakers say two vowels: 270 and 370 recordings as 12 coefficients of linear prediction in each frame.

    Kudo, Toyama & Shimbo 1999, "Multidimensional curve classification using passing-through regions". The test part is
    theirs; sktime, which brings the files, is not imported.
    """
    missing = "task.source: these recordings come with sktime; install it with: pip install --no-deps sktime"
    return _ts(packaged("sktime", "datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts", missing), parts)


def _ts(path: Path, parts: PartsConfig) -> SequenceData:
    classes, train = read_ts(path)
    beside = path.with_name(f"{path.stem.removesuffix('_TRAIN')}_TEST.ts")
    test = read_ts(beside, classes)[1] if path.stem.endswith("_TRAIN") and beside.is_file() else None
    if test is not None and test.obs.shape[2] != train.obs.shape[2]:
        raise RunError(f"{beside} has {test.obs.shape[2]} channels, and {path.name} has {train.obs.shape[2]}")
    return split(classes, train, test, parts)


def _arrays(path: Path, parts: PartsConfig) -> SequenceData:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        signals = np.asarray(arrays["x"], np.float32)
        target = arrays["y"].astype(np.int64)
        length = arrays["length"].astype(np.int64) if "length" in arrays else None
    # EOFError: an empty file; TypeError: an .npy file, which holds one array without a name.
    except (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise RunError(f"task.source: {path} is no .npz file with arrays x and y: {error}") from error
    signals = signals[..., None] if signals.ndim == 2 else signals
    if signals.ndim != 3 or target.shape != signals.shape[:1] or (length is not None and length.shape != target.shape):
        raise RunError(
            f"task.source: in {path} x should be [N, T] or [N, T, C] with y [N], not {list(signals.shape)} with "
            f"{list(target.shape)}"
        )
    names = [str(name) for name in arrays.get("classes", range(int(target.max(initial=0)) + 1))]
    if not len(target) or target.min() < 0 or target.max() >= len(names):
        raise RunError(f"task.source: labels y in {path} should be whole numbers from 0 to {len(names) - 1}")
    if length is not None:
        if length.min() < 1 or length.max() > signals.shape[1]:
            raise RunError(f"task.source: length in {path} should be from 1 to {signals.shape[1]} frames")
        signals = np.where(_is_signal(length, signals.shape[1])[..., None], signals, np.float32(0))
    if not np.isfinite(signals).all():
        signal, frame, channel = np.argwhere(~np.isfinite(signals))[0]
        raise RunError(
            f"task.source: x in {path} is {signals[signal, frame, channel]} in frame {frame} of signal {signal}, "
            "where every value should be a finite number; fill the gap or leave the signal out"
        )
    return split(names, Examples(signals, target, length), None, parts)


def _is_signal(length: Indices, num_frames: int) -> NDArray[np.bool_]:
    """`[N, T]`: which frames are no padding."""
    return np.arange(num_frames) < length[:, None]


SOURCES: dict[str, Callable[[PartsConfig], SequenceData]] = {"mnist1d": _mnist1d, "japanese_vowels": _japanese_vowels}

__all__ = ["SOURCES", "SequenceData", "read_sequences", "read_signal", "split"]
