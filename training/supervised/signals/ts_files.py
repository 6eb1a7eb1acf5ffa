"""Files of labelled signals in the format `.ts` of timeseriesclassification.com. N signals, T frames, C channels.

Lines that begin with # are remarks, those that begin with @ say what follows. After @data each line is a signal: its
channels one after another, separated by colons, each as numbers separated by commas, and its class at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import Examples


def read_ts(path: Path, classes: list[str] | None = None) -> tuple[list[str], Examples]:
    """The names of the classes and the signals `[N, T, C]`, zeros after their ends.

    Args:
        classes: the names if they are known, as they are from a training part.

    Raises:
        RunError: the file cannot be read, a signal's channels differ in length or number, a value is missing or no
            number, or a class is none of those that it names.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise RunError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    head = {}
    for number, line in enumerate(lines):
        if line.lower() == "@data":
            lines = lines[number + 1 :]
            break
        key, *words = line.split()
        head[key.lower()] = words
    else:
        raise RunError(f"{path} has no line @data, as a .ts file has")
    named = head.get("@classlabel", ["false"])
    if named[0].lower() != "true" or len(named) < 3 or head.get("@timestamps", ["false"])[0].lower() == "true":
        raise RunError(
            f"{path} should have signals without times and with classes (@timeStamps false, @classLabel true …)"
        )
    names = classes or named[1:]
    signals, target = [], []
    for number, line in enumerate(lines, start=1):
        *channels, label = line.split(":")
        if label not in names:
            raise RunError(f"{path}: signal {number} is of class '{label}', and the classes are {', '.join(names)}")
        signals.append(_signal(path, number, channels))
        target.append(names.index(label))
    widths = {signal.shape[1] for signal in signals}
    if len(widths) != 1:
        raise RunError(f"{path}: signals should have the same number of channels, not {sorted(widths) or 'no signal'}")
    length = np.array([len(signal) for signal in signals], np.int64)
    obs = np.zeros((len(signals), length.max(), widths.pop()), np.float32)
    for row, signal in zip(obs, signals, strict=True):
        row[: len(signal)] = signal
    return names, Examples(obs, np.array(target, np.int64), length)


def _signal(path: Path, number: int, channels: list[str]) -> NDArray[np.float32]:
    """`[T, C]`."""
    try:
        values = [np.array(channel.split(","), np.float32) for channel in channels]
        signal = np.stack(values, 1)
    except ValueError as error:
        raise RunError(f"{path}: signal {number} should be channels of equally many numbers: {error}") from error
    if not np.isfinite(signal).all():
        raise RunError(f"{path}: signal {number} has a value that is no number")
    return signal


__all__ = ["read_ts"]
