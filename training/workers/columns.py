"""Segments as nested arrays: joined side by side, cut into parts, and made up where nobody played.

T rows in time, B columns, K stored memory states, P rows between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from triathlon.agents.segment import Segment
from triathlon.training.workers.stacks import fold, unfold
from triathlon.training.workers.stacks import shape as folded_shape

Columns: TypeAlias = dict[str, Any]  # the fields of a `Segment`, arrays for tensors: all that crosses a boundary


def of_segment(segment: Segment, frame_stack: int = 1) -> Columns:
    """A segment as arrays, which share its memory where it is on the host; stacks of frames are folded."""
    obs = _numpy(segment.obs)
    is_first = _numpy(segment.is_first)
    return {
        "obs": fold(obs, is_first) if frame_stack > 1 else obs,
        "is_folded": frame_stack > 1,
        "action": _numpy(segment.action),
        "reward": _numpy(segment.reward),
        "terminated": _numpy(segment.terminated),
        "is_first": is_first,
        "legal": _numpy(segment.legal),
        "next_sign": _numpy(segment.next_sign),
        "extras": _numpy(segment.extras),
        "state": [_numpy(s) for s in segment.state],
        "state_period": segment.state_period,
    }


def to_segment(columns: Columns) -> Segment:
    """What `join` gave, as a segment; tensors share the memory of the arrays."""
    others = ("state", "state_period", "is_folded")
    fields = {name: _tensors(value) for name, value in columns.items() if name not in others}
    state = tuple(torch.from_numpy(s) for s in columns["state"])
    return Segment(**fields, state=state, state_period=columns["state_period"])


def join(parts: Sequence[Columns], pin: bool = False) -> Columns:
    """Columns side by side, in memory of their own, unfolded; page-locked with `pin`, for a learner on a GPU.

    Where some have a `next_sign` and others none, it is 1 in the others, as everywhere in a game of one side.
    """

    def room(shapes: Sequence[tuple[int, ...]], like: NDArray[Any]) -> NDArray[Any]:
        shape = (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])
        if not pin:
            return np.empty(shape, like.dtype)  # numpy asks for large pages: a quarter of the time of torch.empty
        dtype = torch.from_numpy(np.empty(0, like.dtype)).dtype
        empty: NDArray[Any] = torch.empty(shape, dtype=dtype, pin_memory=True).numpy()
        return empty

    def side_by_side(*arrays: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate(arrays, 1, out=room([array.shape for array in arrays], arrays[0]))

    if any(part["next_sign"] is not None for part in parts):
        parts = [
            part if part["next_sign"] is not None else part | {"next_sign": np.ones_like(part["reward"])}
            for part in parts
        ]
    if not parts[0]["is_folded"]:
        joined: Columns = _map(side_by_side, *parts)
        return joined
    obs = room([folded_shape(part["obs"]) for part in parts], parts[0]["obs"]["newest"])
    first = 0
    for part in parts:
        num_columns = part["is_first"].shape[1]
        unfold(part["obs"], obs[:, first : first + num_columns])
        first += num_columns
    joined = _map(side_by_side, *(part | {"obs": None} for part in parts))
    return joined | {"obs": obs, "is_folded": False}


def part(columns: Columns, start: int, num_rows: int) -> Columns:
    """Rows `start … start + num_rows` (the last seen, not played) as views; `start` is where a state is stored."""
    period = columns["state_period"]

    def rows(array: NDArray[Any]) -> NDArray[Any]:
        return array[start : start + num_rows + 1]

    cut: Columns = _map(rows, columns | {"state": []})
    kept = slice(start // period, -(-(start + num_rows) // period))
    return cut | {"state": [s[kept] for s in columns["state"]]}


def unplayed(like: Columns) -> Columns:
    """Columns in which nothing was played: every row is a first one, so that none is valid to learn from.

    Observations are as in `like`, for whoever keeps statistics of them; bytes (pictures, which may be stacks that have
    to begin with an episode) are zeros.
    """

    def seen(array: NDArray[Any]) -> NDArray[Any]:
        return np.zeros_like(array) if array.dtype == np.uint8 else array

    nothing = {name: np.zeros_like(like[name]) for name in ("reward", "terminated")}
    return like | nothing | {"obs": _map(seen, like["obs"]), "is_first": np.ones_like(like["is_first"])}


def _map(function: Callable[..., NDArray[Any]], *trees: Any) -> Any:
    """`function` of the arrays that stand in the same place of trees built alike; what is no array is the first's."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: _map(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, list):
        return [_map(function, *items) for items in zip(*trees, strict=True)]
    return function(*trees) if isinstance(first, np.ndarray) else first


def _numpy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numpy(item) for key, item in value.items()}
    return None if value is None else value.numpy(force=True)


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return None if value is None else torch.from_numpy(value)


__all__ = ["Columns", "join", "of_segment", "part", "to_segment", "unplayed"]
