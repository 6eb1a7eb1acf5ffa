"""One long text as batches that go on where the ones before ended. T rows of a batch, B columns, n tokens in all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triathlon.training.supervised.examples import Batch, Indices


@dataclass(frozen=True)
class Stream:
    """`tokens [n]` cut into B columns that are read side by side, `num_rows` (T) tokens at a time.

    The target of each row is the token after it. Whoever reads the batches in order keeps the memory between them, so
    that what a network remembers reaches further back than the T rows that gradients flow through.
    """

    tokens: NDArray[Any]
    num_rows: int

    def __len__(self) -> int:
        """How many tokens have one after them."""
        return max(0, len(self.tokens) - 1)

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Indices]:
        """The places where each batch starts, for one epoch that begins at a random place."""
        columns = max(1, min(batch_size, len(self) // self.num_rows))
        num_batches = len(self) // columns // self.num_rows
        if not num_batches:
            return []
        length = num_batches * self.num_rows
        first = rng.integers(len(self) - columns * length + 1)
        starts = first + length * np.arange(columns)
        return [starts + self.num_rows * k for k in range(num_batches)]

    def batch(self, indices: Indices) -> Batch:
        """T rows of tokens from these places on, `[T, B]`, and the tokens after them."""
        return self._batch(indices, self.num_rows)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All tokens but fewer than B at the end, in columns; the last batch may have fewer rows."""
        columns = max(1, min(batch_size, len(self) // self.num_rows))
        length = len(self) // columns
        starts = length * np.arange(columns)
        for row in range(0, length, self.num_rows):
            yield self._batch(starts + row, min(self.num_rows, length - row))

    def _batch(self, starts: Indices, num_rows: int) -> Batch:
        tokens = torch.from_numpy(self.tokens[starts + np.arange(num_rows + 1)[:, None]])
        return Batch(tokens[:-1], tokens[1:])


__all__ = ["Stream"]
