"""Examples to learn from, in arrays. T rows in time, B examples of a batch, N examples in all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]
POOL = 32  # batches at most that are sorted by length together
NUM_POOLS = 4  # of an epoch at least, so that batches of few examples are not the same ones in every epoch


@dataclass(frozen=True)
class Batch:
    """What a gradient step learns from. A picture is a sequence of one row."""

    obs: Tensor  # [T, B, *obs]
    target: Tensor  # [B, ...] one for each sequence, or [T, B] one for each row
    length: Tensor | None = None  # [B]: rows of each sequence, those after them are padding; None: all rows are its own

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        length = None if self.length is None else self.length.to(device, non_blocking=True)
        obs, target = (x.to(device, non_blocking=True) for x in (self.obs, self.target))
        return Batch(obs, target, length)


class Dataset(Protocol):
    """N examples that batches are made of."""

    def __len__(self) -> int: ...

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Indices]:
        """The batches of one epoch, each as indices for `batch`, all of the same size."""

    def batch(self, indices: Indices) -> Batch:
        """The examples that these indices name."""

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All examples once, for measuring; the last batch may be smaller."""


def batches_of_similar(length: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> list[Indices]:
    """A shuffled epoch of batches whose examples are about equally long, so that little of them is padding.

    `length [N, K]`: of each example's K sequences, the first of which counts most. Examples beyond the last whole batch
    are left for another epoch's shuffle.
    """
    size = min(batch_size, len(length))
    num_batches = len(length) // size
    indices = rng.permutation(len(length))[: num_batches * size]
    pool = size * max(1, min(POOL, num_batches // NUM_POOLS))
    batches: list[Indices] = []
    for start in range(0, len(indices), pool):
        batches.extend(sorted_by_length(length, indices[start : start + pool]).reshape(-1, size))
    return [batches[i] for i in rng.permutation(num_batches)]


def sorted_by_length(length: NDArray[np.int64], indices: Indices) -> Indices:
    """These indices, the shortest example first; `length` as in `batches_of_similar`."""
    return indices[np.lexsort(length[indices].T[::-1])]


@dataclass(frozen=True)
class Examples:
    """Examples that know nothing of each other: `obs [N, T, *obs]`, `target [N, ...]`, `length [N]` or None."""

    obs: NDArray[Any]
    target: NDArray[Any]
    length: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.obs)

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Indices]:
        """A shuffled epoch; with `length`, of batches of similar length.

        Examples beyond the last whole batch are left for another epoch's shuffle.
        """
        if self.length is not None:
            return batches_of_similar(self.length[:, None], batch_size, rng)
        size = min(batch_size, len(self))
        indices = rng.permutation(len(self))
        return [indices[i : i + size] for i in range(0, len(self) - size + 1, size)]

    def batch(self, indices: Indices) -> Batch:
        """These examples, time first, cut to the longest of them."""
        obs, target, length = self.obs[indices], torch.from_numpy(self.target[indices]), None
        if self.length is not None:
            rows = self.length[indices]
            obs, length = obs[:, : rows.max()], torch.from_numpy(rows)
        return Batch(torch.from_numpy(obs).transpose(0, 1), target, length)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All examples, one batch after another."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))

    def part(self, indices: Indices) -> Examples:
        """Only these examples."""
        length = None if self.length is None else self.length[indices]
        return replace(self, obs=self.obs[indices], target=self.target[indices], length=length)


@dataclass(frozen=True)
class Splits:
    """What is learned from, what chooses the best checkpoint, and what is only looked at when all is done."""

    train: Dataset
    validation: Dataset
    test: Dataset


def digest(splits: Splits) -> str:
    """SHA-256 of all examples that choose and test, and of how many are learned from: other data have another.

    Where no part is given, examples are dealt out by their number, so one more anywhere changes which of them test.
    """
    found = hashlib.sha256(str(len(splits.train)).encode())
    for part in (splits.validation, splits.test):
        for batch in part.in_order(256):
            for name in sorted(each.name for each in fields(batch)):
                if (value := getattr(batch, name)) is not None:
                    found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


# Not the run's seed: all runs on a data set without parts of its own are judged by the same examples.
SPLIT_SEED = 20_090_101


def parts(num_examples: int, share: float, fold: int = 0) -> tuple[Indices, Indices]:
    """Shuffled indices of all examples in two parts, the second with this share of them (at least one).

    Each `fold` 0, 1, … below 1 / share gives another second part; no two of them have an example in common.
    """
    indices = np.random.default_rng(SPLIT_SEED).permutation(num_examples)
    start = min(round(fold * share * num_examples), num_examples - 1)
    stop = max(start + 1, round((fold + 1) * share * num_examples))
    return np.sort(np.delete(indices, slice(start, stop))), np.sort(indices[start:stop])
