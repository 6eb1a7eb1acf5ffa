"""Pairs of token sequences to learn from. T rows of a source, S of a target, B pairs of a batch, N pairs in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.training.supervised.examples import Batch, Indices, batches_of_similar, sorted_by_length

NOTHING = -1  # the target where there is none any more


@dataclass(frozen=True)
class Pairs:
    """Sources and targets, each a list of N token lists, and the sentences that they were, which they may not tell."""

    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]
    texts: Sequence[tuple[str, str]] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Indices]:
        """A shuffled epoch of batches whose pairs are about equally long, so that little of them is padding."""
        return batches_of_similar(self._length(), batch_size, rng)

    def batch(self, indices: Indices) -> Batch:
        """Sources `[T, B]` and their lengths, and targets `[S, B]` with NOTHING after the end of each."""
        sources, targets = ([side[i] for i in indices] for side in (self.sources, self.targets))
        length = torch.tensor([len(source) for source in sources])
        return Batch(_padded(sources, 0), _padded(targets, NOTHING), length)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All pairs, the shortest first."""
        indices = self.by_length()
        for start in range(0, len(self), batch_size):
            yield self.batch(indices[start : start + batch_size])

    def by_length(self) -> Indices:
        """All indices in the order of `in_order`."""
        return sorted_by_length(self._length(), np.arange(len(self)))

    def _length(self) -> NDArray[np.int64]:
        """`[N, 2]`: of each source and its target."""
        sides = ([len(sequence) for sequence in side] for side in (self.sources, self.targets))
        return np.array(list(sides), np.int64).T


def _padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """`[L, B]`, time first."""
    out = torch.full((max(map(len, sequences)), len(sequences)), value, dtype=torch.int32)
    for column, sequence in enumerate(sequences):
        out[: len(sequence), column] = torch.tensor(sequence, dtype=torch.int32)
    return out


__all__ = ["NOTHING", "Pairs"]
