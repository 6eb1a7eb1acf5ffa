"""One replay of contiguous rows: transitions, n-step and sequences, uniform and prioritised.

R rows of the ring, B columns, T rows of one added segment, N samples, L trained rows of a sample, W rows read for one.
Every observation is stored once: the successor of a row is the next row. Rows and starts are counted from the
beginning of the run and live at their number modulo the size of their ring.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.device_rows import fits
from triathlon.agents.picture_store import INDEX_BYTES, TYPICAL_SHARE, load_lz4
from triathlon.agents.priorities import Priorities
from triathlon.agents.returns import n_step_targets, value_rescale, value_unscale
from triathlon.agents.row_store import Index, RowStore, host
from triathlon.agents.sample import Sample
from triathlon.agents.segment import Segment
from triathlon.agents.starts import Starts
from triathlon.agents.sum_tree import SumTree
from triathlon.networks.errors import SettingError

_INITIAL = {False: "greatest", True: "td_error"}  # the setting agent.initial_priority, by whether values seen are kept
MAX_REDRAWS = 8  # of uniform draws that hit a row that was not played, before choosing from a list of those that were


class ReplayBytes(NamedTuple):
    """The memory of a full replay in bytes; of compressed pictures, those of a typical game, and the most."""

    expected: int  # of the host
    most: int  # also while pictures that are on a device pass through the host on their way into a checkpoint
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

    Rewards are stored as they were paid; returns are of `scale_reward` of them, as it is when they are drawn.
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
        scale_reward: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
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
        self._scale_reward = scale_reward
        self._num_history = frame_stack - 1  # rows that are kept for their frames when they cannot be drawn any more
        if compress:
            load_lz4()  # or say now that it is not there
        self._span = burn_in + length + n_step - 1  # the last row of a sample, counted from its start
        self._offsets = np.arange(self._span + 1)[:, None]
        self._rows: RowStore | None = None  # its shapes are known when something is added
        self._starts: Starts | None = None
        self._priorities: Priorities | None = None
        self._num_columns = self._num_rows = self._num_ring_rows = 0
        self._head = self._num_history  # the row to be written next; until then it holds row T of the last segment
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
        return (self._rows.nbytes if self._rows else 0) + (self._starts.nbytes if self._starts else 0)

    def expected_nbytes(self, like: Segment) -> ReplayBytes:
        """The memory that it will take when full of rows like these. Nothing is taken yet."""
        columns, period = like.num_columns, Starts.period_of(like, self.state_period)
        rows = self.capacity // columns
        num_places, num_starts = (self._num_history + rows + 1) * columns, Starts.room(rows, period) * columns
        plain, picture_sizes = RowStore.place_bytes(like, self.frame_stack)
        host = num_places * plain + (SumTree.nbytes(num_starts) if self.prioritized else 0)
        host += sum(num_starts * state[0, 0].nbytes for state in like.state)
        pictures = num_places * sum(picture_sizes)
        if self.compress:
            host += num_places * INDEX_BYTES * len(picture_sizes)
            return ReplayBytes(host + int(pictures * TYPICAL_SHARE), host + pictures, None, 0)
        device = self._place_of(pictures)
        most = host + pictures  # of the host: `DeviceRows.saved` copies all that is on a device there
        return ReplayBytes(most if device is None else host, most, device, 0 if device is None else pictures)

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
        if self._rows is None or self._starts is None:
            self._rows, self._starts = self._allocate(segment)
        rows, starts = self._rows, self._starts
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
        if starts.ready > starts.first and starts.row_of(starts.ready - 1) == self._head - 1:
            # The row behind this start is about to be replaced: whether it was played is decided once more.
            starts.ready -= 1
            self._num_sampleable -= int(self._playable(rows, starts, starts.ready, starts.ready + 1).sum())
        new_head = self._head + num_rows
        chosen = starts.choose(segment, self._head)
        self._drop_starts(rows, starts, new_head)
        slots = np.arange(self._head, new_head + 1) % self._num_ring_rows
        rows.write(slots, segment)
        starts.add(chosen, segment, self._head)
        self._head = new_head
        self._ready_starts(rows, starts)

    def _drop_starts(self, rows: RowStore, starts: Starts, new_head: int) -> None:
        """Forget the starts whose rows the coming rows replace."""
        oldest = self._oldest(new_head)
        keep_from = starts.before_row(oldest, oldest - self._oldest(self._head))
        self._num_sampleable -= int(self._playable(rows, starts, starts.first, min(keep_from, starts.ready)).sum())
        if self._priorities is not None and keep_from > starts.first:
            self._priorities.drop(starts.leaves(starts.first, keep_from).ravel())
        starts.keep_from(keep_from)

    def _ready_starts(self, rows: RowStore, starts: Starts) -> None:
        """Admit the starts whose last row has been written, and decided upon where its value is asked for."""
        waiting = starts.row_of(np.arange(starts.ready, starts.end))
        ready = starts.ready + int((waiting + self._span + self.values_seen <= self._head).sum())
        playable = self._playable(rows, starts, starts.ready, ready)
        self._num_sampleable += int(playable.sum())
        if self._priorities is not None and ready > starts.ready:
            leaf = starts.leaves(starts.ready, ready).ravel()
            self._priorities.admit(leaf, playable.ravel())
            if self.values_seen:
                index = np.arange(starts.ready * self._num_columns, ready * self._num_columns)
                window = self._window(starts, index)
                self._priorities.update(leaf, playable.ravel(), *self._errors_seen(rows, window))
        starts.ready = ready

    def _errors_seen(self, rows: RowStore, window: Index) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """`[L, N]`: n-step TD errors of the trained rows by the values that acting saw, and which were played."""
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
        learned = reward if self._scale_reward is None else self._scale_reward(reward)
        return known, *n_step_targets(learned[:-1], terminated[:-1], is_first, self.gamma, self.n_step, sign)

    def _playable(self, rows: RowStore, starts: Starts, begin: int, end: int) -> NDArray[np.bool_]:
        """`[starts, B]`: a single row can only be drawn if it was played; a sequence masks those that were not."""
        if self.contiguous or end <= begin:
            return np.ones((max(0, end - begin), self._num_columns), np.bool_)
        after = (starts.row_of(np.arange(begin, end)) + 1) % self._num_ring_rows
        columns = np.arange(self._num_columns)
        played: NDArray[np.bool_] = ~rows.take("is_first", after[:, None] * self._num_columns + columns)
        return played

    def _allocate(self, segment: Segment) -> tuple[RowStore, Starts]:
        columns = segment.num_columns
        num_rows = self.capacity // columns
        least = self._span + self.values_seen
        if num_rows < least:
            raise SettingError(
                f"capacity {self.capacity} of the replay holds {num_rows} rows of {columns} environments; one sample "
                f"needs burn_in + length + n_step - 1 = {self._span}{' and one more' if self.values_seen else ''}: "
                f"raise capacity to {least * columns} or more"
            )
        starts = self._make_room(columns, Starts.period_of(segment, self.state_period))
        device = self.expected_nbytes(segment).picture_device
        return RowStore(self._num_ring_rows, columns, segment, self.frame_stack, self.compress, device), starts

    def _make_room(self, num_columns: int, start_period: int) -> Starts:
        self._num_columns, self._num_rows = num_columns, self.capacity // num_columns
        self._num_ring_rows = self._num_history + self._num_rows + 1  # and the row that the newest transition leads to
        # Rows are starts by their own number, which begins after the history.
        starts = Starts(self._num_rows, num_columns, start_period, first_row=self._num_history)
        if self.prioritized:
            num_leaves = starts.num_slots * num_columns
            self._priorities = Priorities(num_leaves, self.priority_exponent, self.priority_eta)
        return starts

    # Reading

    def sample(self, batch_size: int, beta: float = 1.0) -> Sample:
        """Draw `batch_size` pieces with replacement; `beta` is the importance-sampling exponent of prioritised replay.

        Uniform draws of single rows reject the rows that were not played and draw again.
        """
        rows, starts = self._rows, self._starts
        if rows is None or starts is None or self._num_sampleable == 0:
            raise ValueError(f"the replay has nothing to draw yet: it holds {len(self)} transitions")
        if self._priorities is None:
            index, window, is_first = self._draw_uniform(rows, starts, batch_size)
            weights = torch.ones(batch_size)
        else:
            leaf = self._priorities.tree.sample(batch_size, self.generator)
            index = starts.index_of(leaf)
            window = self._window(starts, index)
            is_first = rows.take("is_first", window)
            weights = torch.from_numpy(self._priorities.weights(leaf, beta))
        known, returns, discount, steps = self._targets(rows, window, is_first)
        trained = slice(self.burn_in, None)
        if self.contiguous or self.n_step == 1:
            bootstrap = self._offsets[self.burn_in : self.burn_in + self.length] + np.maximum(steps[trained], 1)
        else:  # keep the two rows that matter, so that n costs no rows in the network
            pair = (np.stack([np.zeros_like(steps[0]), steps[0]]), np.arange(batch_size))
            window, known = window[pair], {name: x[pair] for name, x in known.items()}
            bootstrap = np.ones_like(steps)
        return Sample(
            segment=rows.segment(window, known),
            state=tuple(map(torch.from_numpy, starts.states_at(index))),
            returns=torch.from_numpy(returns[trained]),
            discount=torch.from_numpy(discount[trained]),
            bootstrap=torch.from_numpy(bootstrap),
            mask=torch.from_numpy(steps[trained] > 0),
            weights=weights,
            index=torch.from_numpy(index),
        )

    def _draw_uniform(self, rows: RowStore, starts: Starts, num: int) -> tuple[Index, Index, NDArray[np.bool_]]:
        """Starts that are ready, their rows, and `is_first` of those."""
        low, high = starts.first * self._num_columns, starts.ready * self._num_columns
        index = self.generator.integers(low, high, num)
        for attempt in range(MAX_REDRAWS + 1):
            window = self._window(starts, index)
            is_first = rows.take("is_first", window)
            if self.contiguous or not (unplayed := is_first[1]).any():
                break
            if attempt < MAX_REDRAWS - 1:
                index[unplayed] = self.generator.integers(low, high, np.count_nonzero(unplayed))
            else:  # almost nothing here was played: choose among what was
                playable = low + np.flatnonzero(self._playable(rows, starts, starts.first, starts.ready))
                index[unplayed] = self.generator.choice(playable, np.count_nonzero(unplayed))
        return index, window, is_first

    def _window(self, starts: Starts, index: Index) -> Index:
        """`[W, N]`: the places of the rows from each start on."""
        start, column = np.divmod(index, self._num_columns)
        places: Index = (starts.row_of(start) + self._offsets) % self._num_ring_rows * self._num_columns + column
        return places

    def update_priorities(self, index: Tensor, td_error: Tensor, mask: Tensor | None = None) -> None:
        """Give the drawn `index [N]` priorities from `td_error [N]` or `[L, N]`, of the rows where `mask` is True.

        Pieces that have been overwritten since they were drawn are passed over. Without prioritised replay: nothing.
        """
        if self._priorities is None or self._starts is None:
            return
        error = host(td_error.detach())
        error = error.reshape(-1, error.shape[-1])
        trained = np.ones_like(error, np.bool_) if mask is None else host(mask).reshape(error.shape)
        drawn = host(index)
        alive = drawn >= self._starts.first * self._num_columns
        self._priorities.update(self._starts.leaf_of(drawn), alive, error, trained)

    # Saving

    def state_dict(self) -> dict[str, Any]:
        """All of it: nested dicts of arrays and JSON values. The arrays are views: save them before the next `add`."""
        rows = None if self._rows is None else self._rows.state_dict(min(self._head + 1, self._num_ring_rows))
        starts = self._starts
        counts = [starts.first, starts.ready, starts.end] if starts else [0, 0, 0]
        return {
            "capacity": self.capacity,
            "num_rows": self._num_rows,
            "span": self._span,
            "start_period": starts.period if starts else 0,
            "counts": [self._head, *counts, self._num_sampleable],
            "rows": rows,
            "priorities": None if self._priorities is None else self._priorities.state_dict(),
            "generator": self.generator.bit_generator.state,
        } | (starts.state_dict() if starts else {"states": [], "start_row": None})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict` for a replay with the same settings; errors: `SettingError`."""
        if state["rows"] is not None:
            columns = state["rows"]["num_columns"]
            if self.capacity // columns != state["num_rows"]:
                raise SettingError(
                    f"agent.buffer_size: the replay holds {self.capacity} transitions, and the saved one held "
                    f"{state.get('capacity', state['num_rows'] * columns)}; resume with what it had"
                )
            rows, had_values = state["rows"], "q_best" in state["rows"]["arrays"]
            for setting, asked, had in (
                ("agent.prioritized", self.prioritized, state["priorities"] is not None),
                ("agent.compress_replay", self.compress, rows["compress"]),
                ("agent.initial_priority", _INITIAL[self.values_seen], _INITIAL[had_values]),
                ("frame_stack of the environment (env.atari.frame_stack)", self.frame_stack, rows["frame_stack"]),
            ):
                if asked != had:
                    asked, had = (str(x).lower() for x in (asked, had))  # true as in a file of settings
                    raise SettingError(f"{setting} is {asked}, and the saved replay had {had}; resume with what it had")
            if self._span > state.get("span", self._span):
                raise SettingError(
                    f"agent.burn_in + segment_length + n_step are {self._span + 1}, but samples of the saved replay "
                    f"were made for {state['span'] + 1} at most; resume with what the run had, or less"
                )
            self._starts = self._make_room(columns, state["start_period"])
            size = self._num_ring_rows * columns
            device = self._place_of(RowStore.picture_bytes(state["rows"]) * size)
            self._rows = RowStore.from_state_dict(self._num_ring_rows, state["rows"], device)
            self._starts.load_state_dict(state, state["counts"][1:4])
        if self._priorities is not None:
            self._priorities.load_state_dict(state["priorities"])
        self._head, *_, self._num_sampleable = state["counts"]
        self.generator.bit_generator.state = state["generator"]


__all__ = ["Replay", "ReplayBytes", "Sample"]
