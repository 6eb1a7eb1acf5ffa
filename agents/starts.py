"""Where the samples of a replay begin, with the memory states that are stored there.

B columns, N samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triathlon.agents.row_store import Array, Index, host, padded
from triathlon.agents.segment import Segment


class Starts:
    """The rows at which samples begin, counted from the beginning of the run, in a ring.

    Without a `period` every row is a start and is its own number. With one, the rows that come with a memory state are,
    thinned out to be `period` rows apart; they are numbered apart from the rows, and their states are kept here.

    Starts from `first` to before `ready` can be drawn; from there to before `end` they wait for rows still to come. In
    a replay, a start of a column has the index `start * B + column`.
    """

    def __init__(self, num_rows: int, num_columns: int, period: int, first_row: int) -> None:
        self.num_columns, self.period = num_columns, period
        self.num_slots = self.room(num_rows, period)
        self.first = self.ready = self.end = 0 if period else first_row
        self._row: Index | None = np.zeros(self.num_slots, np.int64) if period else None
        self._states: list[Array] = []  # each [slots * B, ...]

    @staticmethod
    def room(num_rows: int, period: int) -> int:
        """Slots for the starts among so many rows and the one after: every row, or some that are a period apart."""
        return (num_rows + 1) // period + 1 if period else num_rows + 1

    @staticmethod
    def period_of(segment: Segment, at_least: int) -> int:
        """How far apart starts of segments like this one are; 0: every row is one, as there is no memory."""
        return max(at_least, min(segment.state_period, segment.num_rows)) if segment.state else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the memory states."""
        return sum(array.nbytes for array in self._states)

    def row_of(self, start: Any) -> Any:
        """The row, or rows, of a start or an array of them."""
        return start if self._row is None else self._row[start % self.num_slots]

    def leaves(self, begin: int, end: int) -> Index:
        """`[starts, B]`: the places of the starts of all columns in the ring."""
        slots = np.arange(begin, end)[:, None] % self.num_slots
        return slots * self.num_columns + np.arange(self.num_columns)

    def leaf_of(self, index: Index) -> Index:
        """`[N]`: the place in the ring of each index."""
        return index % (self.num_slots * self.num_columns)

    def index_of(self, leaf: Index) -> Index:
        """`[N]`: the index, among those not forgotten, of each place in the ring."""
        slot, column = np.divmod(leaf, self.num_columns)
        index: Index = (self.first + (slot - self.first) % self.num_slots) * self.num_columns + column
        return index

    def states_at(self, index: Index) -> tuple[Array, ...]:
        """The memory states before the drawn starts, each `[N, ...]`."""
        return tuple(array.take(self.leaf_of(index), 0) for array in self._states)

    def choose(self, segment: Segment, head: int) -> Index:
        """Which rows of a segment that is written from row `head` on become starts."""
        if self._row is None:
            return np.arange(segment.num_rows)
        chosen: list[int] = []
        last = int(self.row_of(self.end - 1)) - head if self.end else -self.period
        for row in range(0, segment.num_rows, segment.state_period)[: len(segment.state[0])]:
            if row - last >= self.period:
                chosen.append(row)
                last = row
        return np.array(chosen, np.int64)

    def add(self, chosen: Index, segment: Segment, head: int) -> None:
        """Append those rows, with the states before them. Starts that they replace were dropped before."""
        if self._row is not None:
            if not self._states:
                num_places = self.num_slots * self.num_columns
                self._states = [np.zeros((num_places, *x.shape[2:]), x.dtype) for x in map(host, segment.state)]
            slots = np.arange(self.end, self.end + len(chosen)) % self.num_slots
            self._row[slots] = head + chosen
            for array, state in zip(self._states, segment.state, strict=True):
                view = array.reshape(self.num_slots, self.num_columns, *array.shape[1:])
                view[slots] = host(state)[chosen // segment.state_period]
        self.end += len(chosen)

    def before_row(self, oldest: int, num_lost_rows: int) -> int:
        """The first start that is not before row `oldest`, when so many rows are lost."""
        rows = self.row_of(np.arange(self.first, min(self.first + num_lost_rows, self.end)))
        return self.first + int((rows < oldest).sum())

    def keep_from(self, start: int) -> None:
        """Forget the starts before this one."""
        self.first, self.ready = start, max(self.ready, start)

    def state_dict(self) -> dict[str, Any]:
        """Arrays are views: save them before the next `add`."""
        num_slots = min(self.end, self.num_slots)
        return {
            "states": [array[: num_slots * self.num_columns] for array in self._states],
            "start_row": None if self._row is None else self._row[:num_slots],
        }

    def load_state_dict(self, state: dict[str, Any], counts: tuple[int, int, int]) -> None:
        """Inverse of `state_dict`, with `first`, `ready` and `end`."""
        self._states = [padded(array, self.num_slots * self.num_columns) for array in state["states"]]
        if self._row is not None:
            self._row = padded(state["start_row"], self.num_slots)
        self.first, self.ready, self.end = counts


__all__ = ["Starts"]
