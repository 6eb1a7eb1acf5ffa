"""One replay of contiguous rows: transitions, n-step and sequences, uniform and prioritised.

R rows of the ring, B columns, T rows of one added segment, N samples, L trained rows of a sample, W rows read for one.
Every observation is stored once: the successor of a row is the next row. Rows and starts are counted from the
beginning of the run and live at their number modulo the size of their ring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.device_rows import fits
from triathlon.agents.picture_store import INDEX_BYTES, TYPICAL_SHARE, load_lz4
from triathlon.agents.priorities import Priorities
from triathlon.agents.returns import n_step_targets, value_rescale, value_unscale
from triathlon.agents.row_store import Array, Index, RowStore, host, padded
from triathlon.agents.sample import Sample
from triathlon.agents.segment import Segment
from triathlon.agents.sum_tree import SumTree
from triathlon.networks.errors import SettingError

MAX_REDRAWS = 8  # of uniform draws that hit a row that was not played, before choosing from a list of those that were


class ReplayBytes(NamedTuple):
    """The memory of a full replay in bytes; of compressed pictures, those of a typical game, and the most."""

    expected: int  # of the host
    most: int
    picture_device: torch.device | None  # where pictures are, if not on the host
    of_pictures: int  # there


class Replay:
    """A ring of the last `capacity` transitions of B columns, in host memory that is committed as it fills.

    With a `picture_device`, plain pictures are kept on that device and drawn there, everything else in host memory; if
    `only_if_they_fit`, they are where the device has the memory free when the first segment is added.

    `contiguous=True` draws sequences of `burn_in + length + n_step` rows: the `length` rows after the burn-in are
    trained, the rest are there to be seen and bootstrapped from. A sequence may contain the end of an episode.
    `contiguous=False` (stateless network, `length` 1) draws two rows: a played row and the one it bootstraps from.

    Where segments carry memory states, the rows that have one are starts, thinned out to be `state_period` apart; else
    all rows are. A start can be drawn once all its rows are written and until the first is overwritten.

    Row T of a segment is stored too, as the row newest transitions bootstrap from; row 0 of the next segment takes its
    place. If the environments were reset in between, that row starts an episode and so the row before it turns out not
    to be valid: one transition a column is lost.

    With `frame_stack` K > 1 an observation is a stack of K frames, of which only the newest is stored; stacks are put
    together when they are drawn, and K - 1 more rows are kept for the frames of the oldest. With `compress`, pictures
    are packed losslessly (`agents/picture_store.py`).

    Prioritised sampling is proportional (Schaul et al. 2016, section 3.3), the priority of a sequence
    `eta * max + (1 - eta) * mean` of its absolute TD errors (R2D2: Kapturowski et al. 2019, section 2.3). What is new
    has the greatest priority so far; with `values_seen`, it has that of its errors by the values that acting saw, which
    are stored from the extras `q_taken` and `q_best` (Ape-X: Horgan et al. 2018, section 3). A start then waits one row
    more: what acting sees of the last row, to bootstrap from, comes with the next segment. Other extras are not stored.
    """

    def __init__(
        self,
        capacity: int,
        gamma: float,
        n_step: int = 1,
        length: int = 1,
        burn_in: int = 0,
        state_period: int = 1,
        prioritized: bool = False,
        priority_exponent: float = 0.6,
        priority_eta: float = 0.9,
        values_seen: bool = False,
        value_rescale: bool = False,
        *,
        contiguous: bool,
        frame_stack: int = 1,
        compress: bool = False,
        picture_device: torch.device | None = None,
        only_if_they_fit: bool = False,
        generator: np.random.Generator,
    ) -> None:
        if not contiguous and (length != 1 or burn_in != 0):
            raise SettingError(
                f"length {length} with burn_in {burn_in} needs contiguous=True, or length 1 and burn_in 0"
            )
        self.capacity, self.gamma, self.n_step, self.length, self.burn_in = capacity, gamma, n_step, length, burn_in
        self.prioritized, self.priority_exponent, self.priority_eta = prioritized, priority_exponent, priority_eta
        self.values_seen, self.value_rescale = values_seen, value_rescale
        self.state_period, self.contiguous, self.generator = state_period, contiguous, generator
        self.frame_stack, self.compress = frame_stack, compress
        self._picture_device, self._only_if_they_fit = picture_device, only_if_they_fit
        self._num_history = frame_stack - 1  # rows that are kept for their frames when they cannot be drawn any more
        if compress:
            load_lz4()  # or say now that it is not there
        self._span = burn_in + length + n_step - 1  # the last row of a sample, counted from its start
        self._offsets = np.arange(self._span + 1)[:, None]
        self._rows: RowStore | None = None  # its shapes are known when something is added
        self._states: list[Array] = []  # each [starts * B, ...]
        self._start_row: Index | None = None  # [starts]; None: every row is a start
        self._priorities: Priorities | None = None
        self._num_columns = self._num_rows = self._num_ring_rows = self._num_ring_starts = self._start_period = 0
        self._head = self._num_history  # the row to be written next; until then it holds row T of the last segment
        # Starts [first, ready) can be drawn, [ready, end) wait for rows still to come.
        self._first = self._ready = self._end = 0
        self._num_sampleable = 0

    def __len__(self) -> int:
        """The number of rows times columns that are stored."""
        return (self._head - self._oldest(self._head)) * self._num_columns

    @property
    def num_sampleable(self) -> int:
        """How many starts can be drawn now."""
        return self._num_sampleable

    @property
    def nbytes(self) -> int:
        """Bytes of memory when full, without the priorities; of pictures that are compressed, the bytes taken now."""
        return (self._rows.nbytes if self._rows else 0) + sum(array.nbytes for array in self._states)

    def expected_nbytes(self, like: Segment) -> ReplayBytes:
        """The memory that it will take when full of rows like these. Nothing is taken yet."""
        columns, period = like.num_columns, self._start_period_of(like)
        rows = self.capacity // columns
        num_places, num_starts = (self._num_history + rows + 1) * columns, _num_starts(rows, period) * columns
        plain, picture_sizes = RowStore.place_bytes(like, self.frame_stack)
        host = num_places * plain + (SumTree.nbytes(num_starts) if self.prioritized else 0)
        host += sum(num_starts * state[0, 0].nbytes for state in like.state)
        pictures = num_places * sum(picture_sizes)
        if self.compress:
            host += num_places * INDEX_BYTES * len(picture_sizes)
            return ReplayBytes(host + int(pictures * TYPICAL_SHARE), host + pictures, None, 0)
        device = self._place_of(pictures)
        on_host = host + (pictures if device is None else 0)
        return ReplayBytes(on_host, on_host, device, 0 if device is None else pictures)

    def _place_of(self, picture_bytes: int) -> torch.device | None:
        """The device for pictures of so many bytes, if not in host memory."""
        device = self._picture_device
        return None if device is None or (self._only_if_they_fit and not fits(picture_bytes, device)) else device

    def _oldest(self, head: int) -> int:
        return max(self._num_history, head - self._num_rows)

    # Writing

    def add(self, segment: Segment) -> None:
        """Append the rows of a segment. All segments have the same columns; errors: `SettingError`."""
        num_rows = segment.num_rows
        self._rows = rows = self._rows or self._allocate(segment)
        if segment.num_columns != self._num_columns:
            raise SettingError(
                f"replay holds {self._num_columns} columns; a segment of {segment.num_columns} was added"
            )
        if num_rows > self._num_rows:
            raise SettingError(
                f"capacity {self.capacity} of the replay holds {self._num_rows} rows of {self._num_columns} "
                f"environments, fewer than the {num_rows} added at once: "
                f"raise capacity to {num_rows * self._num_columns} or more"
            )
        if self._ready > self._first and self._row_of(self._ready - 1) == self._head - 1:
            # The row behind this start is about to be replaced: whether it was played is decided once more.
            self._ready -= 1
            self._num_sampleable -= int(self._playable(self._ready, self._ready + 1).sum())
        new_head = self._head + num_rows
        starts = self._choose_starts(segment)
        self._drop_starts(new_head)
        slots = np.arange(self._head, new_head + 1) % self._num_ring_rows
        rows.write(slots, segment)
        if self._start_row is not None:
            start_slots = np.arange(self._end, self._end + len(starts)) % self._num_ring_starts
            self._start_row[start_slots] = self._head + starts
            for array, state in zip(self._states, segment.state, strict=True):
                view = array.reshape(self._num_ring_starts, self._num_columns, *array.shape[1:])
                view[start_slots] = host(state)[starts // segment.state_period]
        self._head, self._end = new_head, self._end + len(starts)
        self._ready_starts()

    def _choose_starts(self, segment: Segment) -> Index:
        """The rows of the segment that become starts; `_start_period` apart, so that there is room for all states."""
        if self._start_row is None:
            return np.arange(segment.num_rows)
        chosen: list[int] = []
        last = int(self._row_of(self._end - 1)) - self._head if self._end else -self._start_period
        for row in range(0, segment.num_rows, segment.state_period)[: len(segment.state[0])]:
            if row - last >= self._start_period:
                chosen.append(row)
                last = row
        return np.array(chosen, np.int64)

    def _drop_starts(self, new_head: int) -> None:
        """Forget the starts whose rows the coming rows replace."""
        num_lost_rows = self._oldest(new_head) - self._oldest(self._head)
        oldest = self._row_of(np.arange(self._first, min(self._first + num_lost_rows, self._end)))
        keep_from = self._first + int((oldest < self._oldest(new_head)).sum())
        self._num_sampleable -= int(self._playable(self._first, min(keep_from, self._ready)).sum())
        if self._priorities is not None and keep_from > self._first:
            self._priorities.drop(self._leaves(self._first, keep_from).ravel())
        self._first, self._ready = keep_from, max(self._ready, keep_from)

    def _ready_starts(self) -> None:
        """Admit the starts whose last row has been written, and decided upon where its value is asked for."""
        waiting = self._row_of(np.arange(self._ready, self._end))
        ready = self._ready + int((waiting + self._span + self.values_seen <= self._head).sum())
        playable = self._playable(self._ready, ready)
        self._num_sampleable += int(playable.sum())
        if self._priorities is not None and self._rows is not None and ready > self._ready:
            leaf = self._leaves(self._ready, ready).ravel()
            self._priorities.admit(leaf, playable.ravel())
            if self.values_seen:
                index = np.arange(self._ready * self._num_columns, ready * self._num_columns)
                self._priorities.update(leaf, playable.ravel(), *self._errors_seen(self._rows, index))
        self._ready = ready

    def _errors_seen(self, rows: RowStore, index: Index) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """`[L, N]`: n-step TD errors of the trained rows by the values that acting saw, and which were played."""
        window = self._window(index)
        _, returns, discount, steps = self._targets(rows, window, rows.take("is_first", window))
        trained = slice(self.burn_in, None)
        places = np.arange(self.burn_in, self.burn_in + self.length)[:, None] + steps[trained]
        best = np.take_along_axis(rows.take("q_best", window), places, 0)
        if self.value_rescale:
            best = value_unscale(torch.from_numpy(best)).numpy()
        goal = returns[trained] + discount[trained] * best
        if self.value_rescale:
            goal = value_rescale(torch.from_numpy(goal)).numpy()
        taken = rows.take("q_taken", window[trained][: self.length])
        return goal - taken, steps[trained] > 0

    def _targets(self, rows: RowStore, window: Index, is_first: NDArray[np.bool_]) -> Any:
        """What is known of the rows of a window `[W, N]`, and their n-step targets."""
        reward, terminated = rows.take("reward", window), rows.take("terminated", window)
        sign = rows.take("next_sign", window)[:-1] if "next_sign" in rows.arrays else None
        known = {"reward": reward, "terminated": terminated, "is_first": is_first}
        return known, *n_step_targets(reward[:-1], terminated[:-1], is_first, self.gamma, self.n_step, sign)

    def _row_of(self, start: Any) -> Any:
        return start if self._start_row is None else self._start_row[start % self._num_ring_starts]

    def _leaves(self, begin: int, end: int) -> Index:
        """`[starts, B]`: the places of starts in the ring of starts."""
        slots = np.arange(begin, end)[:, None] % self._num_ring_starts
        return slots * self._num_columns + np.arange(self._num_columns)

    def _playable(self, begin: int, end: int) -> NDArray[np.bool_]:
        """`[starts, B]`: a single row can only be drawn if it was played; a sequence masks those that were not."""
        if self._rows is None or self.contiguous or end <= begin:
            return np.ones((max(0, end - begin), self._num_columns), np.bool_)
        after = (self._row_of(np.arange(begin, end)) + 1) % self._num_ring_rows
        columns = np.arange(self._num_columns)
        played: NDArray[np.bool_] = ~self._rows.take("is_first", after[:, None] * self._num_columns + columns)
        return played

    def _allocate(self, segment: Segment) -> RowStore:
        columns = segment.num_columns
        num_rows = self.capacity // columns
        least = self._span + self.values_seen
        if num_rows < least:
            raise SettingError(
                f"capacity {self.capacity} of the replay holds {num_rows} rows of {columns} environments; one sample "
                f"needs burn_in + length + n_step - 1 = {self._span}{' and one more' if self.values_seen else ''}: "
                f"raise capacity to {least * columns} or more"
            )
        self._make_room(columns, self._start_period_of(segment))
        # Rows are starts by their own number, which begins after the history; those with states are counted apart.
        self._first = self._ready = self._end = 0 if segment.state else self._num_history
        starts = self._num_ring_starts * columns
        self._states = [np.zeros((starts, *x.shape[2:]), x.dtype) for x in map(host, segment.state)]
        device = self.expected_nbytes(segment).picture_device
        return RowStore(self._num_ring_rows, columns, segment, self.frame_stack, self.compress, device)

    def _start_period_of(self, segment: Segment) -> int:
        return max(self.state_period, min(segment.state_period, segment.num_rows)) if segment.state else 0

    def _make_room(self, num_columns: int, start_period: int) -> None:
        self._num_columns, self._start_period = num_columns, start_period
        self._num_rows = self.capacity // num_columns
        self._num_ring_rows = self._num_history + self._num_rows + 1  # and the row that the newest transition leads to
        self._num_ring_starts = _num_starts(self._num_rows, start_period)
        self._start_row = np.zeros(self._num_ring_starts, np.int64) if start_period else None
        if self.prioritized:
            num_leaves = self._num_ring_starts * num_columns
            self._priorities = Priorities(num_leaves, self.priority_exponent, self.priority_eta)

    # Reading

    def sample(self, batch_size: int, beta: float = 1.0) -> Sample:
        """Draw `batch_size` pieces with replacement; `beta` is the importance-sampling exponent of prioritised replay.

        Uniform draws of single rows reject the rows that were not played and draw again.
        """
        if self._rows is None or self._num_sampleable == 0:
            raise ValueError(f"the replay has nothing to draw yet: it holds {len(self)} transitions")
        if self._priorities is None:
            index, window, is_first = self._draw_uniform(self._rows, batch_size)
            weights = torch.ones(batch_size)
        else:
            leaf = self._priorities.tree.sample(batch_size, self.generator)
            slot, column = np.divmod(leaf, self._num_columns)
            index = (self._first + (slot - self._first) % self._num_ring_starts) * self._num_columns + column
            window = self._window(index)
            is_first = self._rows.take("is_first", window)
            weights = torch.from_numpy(self._priorities.weights(leaf, beta))
        known, returns, discount, steps = self._targets(self._rows, window, is_first)
        trained = slice(self.burn_in, None)
        if self.contiguous or self.n_step == 1:
            bootstrap = self._offsets[self.burn_in : self.burn_in + self.length] + np.maximum(steps[trained], 1)
        else:  # keep the two rows that matter, so that n costs no rows in the network
            pair = (np.stack([np.zeros_like(steps[0]), steps[0]]), np.arange(batch_size))
            window, known = window[pair], {name: x[pair] for name, x in known.items()}
            bootstrap = np.ones_like(steps)
        state: tuple[Array, ...] = ()
        if self._states:
            leaf = index % (self._num_ring_starts * self._num_columns)
            state = tuple(array.take(leaf, 0) for array in self._states)
        return Sample(
            segment=self._rows.segment(window, known),
            state=tuple(map(torch.from_numpy, state)),
            returns=torch.from_numpy(returns[trained]),
            discount=torch.from_numpy(discount[trained]),
            bootstrap=torch.from_numpy(bootstrap),
            mask=torch.from_numpy(steps[trained] > 0),
            weights=weights,
            index=torch.from_numpy(index),
        )

    def _draw_uniform(self, rows: RowStore, num: int) -> tuple[Index, Index, NDArray[np.bool_]]:
        """Starts that are ready, their rows, and `is_first` of those."""
        low, high = self._first * self._num_columns, self._ready * self._num_columns
        index = self.generator.integers(low, high, num)
        for attempt in range(MAX_REDRAWS + 1):
            window = self._window(index)
            is_first = rows.take("is_first", window)
            if self.contiguous or not (unplayed := is_first[1]).any():
                break
            if attempt < MAX_REDRAWS - 1:
                index[unplayed] = self.generator.integers(low, high, np.count_nonzero(unplayed))
            else:  # almost nothing here was played: choose among what was
                playable = low + np.flatnonzero(self._playable(self._first, self._ready))
                index[unplayed] = self.generator.choice(playable, np.count_nonzero(unplayed))
        return index, window, is_first

    def _window(self, index: Index) -> Index:
        """`[W, N]`: the places of the rows from each start on."""
        start, column = np.divmod(index, self._num_columns)
        places: Index = (self._row_of(start) + self._offsets) % self._num_ring_rows * self._num_columns + column
        return places

    def update_priorities(self, index: Tensor, td_error: Tensor, mask: Tensor | None = None) -> None:
        """Give the drawn `index [N]` priorities from `td_error [N]` or `[L, N]`, of the rows where `mask` is True.

        Pieces that have been overwritten since they were drawn are passed over. Without prioritised replay: nothing.
        """
        if self._priorities is None:
            return
        error = host(td_error.detach())
        error = error.reshape(-1, error.shape[-1])
        trained = np.ones_like(error, np.bool_) if mask is None else host(mask).reshape(error.shape)
        drawn = host(index)
        alive = drawn >= self._first * self._num_columns
        self._priorities.update(drawn % (self._num_ring_starts * self._num_columns), alive, error, trained)

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """All of it: nested dicts of arrays and JSON values. The arrays are views: save them before the next `add`."""
        num_starts = min(self._end, self._num_ring_starts)
        rows = None if self._rows is None else self._rows.state_dict(min(self._head + 1, self._num_ring_rows))
        return {
            "num_rows": self._num_rows,
            "start_period": self._start_period,
            "counts": [self._head, self._first, self._ready, self._end, self._num_sampleable],
            "rows": rows,
            "states": [array[: num_starts * self._num_columns] for array in self._states],
            "start_row": None if self._start_row is None else self._start_row[:num_starts],
            "priorities": None if self._priorities is None else self._priorities.state_dict(),
            "generator": self.generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict` for a replay with the same settings; errors: `SettingError`."""
        if state["rows"] is not None:
            columns = state["rows"]["num_columns"]
            if self.capacity // columns != state["num_rows"]:
                raise SettingError(
                    f"replay capacity {self.capacity} is not that of the saved replay, "
                    f"{state['num_rows'] * columns}; resume with the capacity that the run had"
                )
            saved = {"prioritized": state["priorities"] is not None}
            saved |= {"frame_stack": state["rows"]["frame_stack"], "compress": state["rows"]["compress"]}
            saved["values_seen"] = "q_best" in state["rows"]["arrays"]
            for name, value in saved.items():
                if getattr(self, name) != value:
                    raise SettingError(
                        f"{name}={getattr(self, name)} is not what the saved replay had; resume with its value"
                    )
            self._make_room(columns, state["start_period"])
            size = self._num_ring_rows * columns
            device = self._place_of(RowStore.picture_bytes(state["rows"]) * size)
            self._rows = RowStore.from_state_dict(self._num_ring_rows, state["rows"], device)
            self._states = [padded(array, self._num_ring_starts * columns) for array in state["states"]]
        if self._start_row is not None:
            self._start_row = padded(state["start_row"], self._num_ring_starts)
        if self._priorities is not None:
            self._priorities.load_state_dict(state["priorities"])
        self._head, self._first, self._ready, self._end, self._num_sampleable = state["counts"]
        self.generator.bit_generator.state = state["generator"]


def _num_starts(num_rows: int, start_period: int) -> int:
    """Room for the starts among so many rows and the one after them: every row, or some that are a period apart."""
    return (num_rows + 1) // start_period + 1 if start_period else num_rows + 1


__all__ = ["Replay", "ReplayBytes", "Sample"]
