"""Recorded rows as examples: shuffled one by one, or in sequences that go on from batch to batch.

T rows of a batch, B columns, N rows of a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import SPLIT_SEED, Batch, Indices, Splits
from triathlon.training.supervised.played.recording import Recording
from triathlon.training.supervised.stream import Stream


@dataclass(frozen=True, kw_only=True)
class RowBatch(Batch):
    """Rows `obs [T, B, *obs]` with the actions `target [T, B, *action]`, counted from 0, that were chosen at them."""

    is_first: Tensor  # [T, B]: the row starts an episode
    valid: Tensor  # [T, B]: its action was played
    next_obs: Tensor  # [T, B, *obs]: what came of it

    def to(self, device: torch.device) -> RowBatch:
        obs, target, is_first, valid, next_obs = (
            x.to(device, non_blocking=True) for x in (self.obs, self.target, self.is_first, self.valid, self.next_obs)
        )
        return RowBatch(obs=obs, target=target, is_first=is_first, valid=valid, next_obs=next_obs)


@dataclass(frozen=True)
class RecordedRows:
    """The rows of a recording, as a `Dataset`.

    With `num_rows` 1 every played row is an example by itself, in any order. With more, the recording is cut into
    columns that are read side by side, `num_rows` at a time, and whoever reads keeps the memory between two batches.
    """

    recording: Recording
    num_rows: int
    _stream: Stream = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_stream", Stream(np.arange(len(self.recording)), self.num_rows))

    @cached_property
    def _played(self) -> NDArray[np.bool_]:
        return self.recording.played

    @cached_property
    def actions(self) -> NDArray[Any]:
        """`[N, *action]`: counted from 0 whatever the space's `start`, as distributions count; 0 where none was."""
        action, space = self.recording.action, self.recording.action_space
        if isinstance(space, spaces.Box):
            return action
        counted = action.astype(np.int64) - getattr(space, "start", 0)
        counted[~self._played] = 0  # what stands there means nothing, and need not be an action
        return counted

    def __len__(self) -> int:
        return self.recording.num_steps

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Indices]:
        """The batches of an epoch: rows in any order, or the places where sequences start, in order."""
        if self.num_rows > 1:
            return self._stream.order(batch_size, rng)
        rows = rng.permutation(np.flatnonzero(self._played))
        size = min(batch_size, len(rows))
        return [rows[i : i + size] for i in range(0, len(rows) - size + 1, size)]

    def batch(self, indices: Indices) -> RowBatch:
        """These rows, or the sequences that start there."""
        return self._batch(indices[None] if self.num_rows == 1 else self._stream.batch(indices).obs.numpy())

    def in_order(self, batch_size: int) -> Iterator[RowBatch]:
        """All rows once. Columns of sequences begin with episodes: nothing is asked of a memory that began late."""
        if self.num_rows > 1:
            num, starts = len(self.recording), np.flatnonzero(self.recording.is_first)
            num_columns = max(1, min(batch_size, num // self.num_rows))
            even = np.arange(num_columns) * num / num_columns
            edges = np.append(np.unique(starts[np.searchsorted(starts, even, "right") - 1]), num)
            for row in range(0, int(np.diff(edges).max()), self.num_rows):
                rows = edges[:-1] + np.arange(row, row + self.num_rows)[:, None]
                yield self._batch(np.minimum(rows, edges[1:] - 1), rows < edges[1:])
            return
        rows = np.flatnonzero(self._played)
        for start in range(0, len(rows), batch_size):
            yield self._batch(rows[None, start : start + batch_size])

    def _batch(self, rows: NDArray[np.int64], within: NDArray[np.bool_] | bool = True) -> RowBatch:
        """`rows [T, B]`, of which those that are not `within [T, B]` do not count."""
        recording, after = self.recording, np.minimum(rows + 1, len(self.recording) - 1)
        return RowBatch(
            obs=torch.from_numpy(recording.obs[rows]),
            target=torch.from_numpy(self.actions[rows]),
            is_first=torch.from_numpy(recording.is_first[rows]),
            valid=torch.from_numpy(self._played[rows] & within),
            next_obs=torch.from_numpy(recording.obs[after]),
        )


def splits_of(recording: Recording, num_rows: int) -> Splits:
    """Eight tenths of the episodes to learn from, a tenth that chooses, a tenth to test; always the same ones.

    Raises:
        RunError: there are fewer than three episodes, or they are shorter than a sequence.
    """
    episodes = [rows for rows in recording.episodes() if rows.stop - rows.start > 1]
    if len(episodes) < 3:
        raise RunError(
            f"the recording has {len(episodes)} episodes; 3 are needed, to learn from, to choose and to test"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(episodes))
    tenth = max(1, round(len(episodes) / 10))
    found = []
    for chosen in (order[2 * tenth :], order[tenth : 2 * tenth], order[:tenth]):
        rows = np.concatenate([np.arange(episodes[i].start, episodes[i].stop) for i in chosen])
        if len(rows) <= num_rows:
            raise RunError(f"task.num_rows is {num_rows}, but a part of the recording has {len(rows)} rows; lower it")
        found.append(RecordedRows(recording.part(rows), num_rows))
    return Splits(*found)


__all__ = ["RecordedRows", "RowBatch", "splits_of"]
