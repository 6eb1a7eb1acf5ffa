"""Stacks of frames on their way between processes: each frame once.

T rows in time, B columns, K frames of a stack, the newest last; n stacks that do not follow from the row before.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Folded: TypeAlias = dict[str, Array]


def fold(obs: Array, is_first: NDArray[np.bool_]) -> Folded:
    """`obs [T+1, B, K, *frame]` by its newest frames, and the older ones `[n, K-1, *frame]` where a stack begins.

    A stack begins in row 0 and where `is_first [T+1, B]`; any other is the one before, moved on by one frame.
    """
    begins = is_first.copy()
    begins[0] = True
    where = np.stack(np.nonzero(begins))
    return {"newest": np.ascontiguousarray(obs[:, :, -1]), "older": obs[where[0], where[1], :-1], "where": where}


def unfold(folded: Folded, into: Array) -> None:
    """Write the stacks to `into [T+1, B, K, *frame]`: inverse of `fold`."""
    newest, older = folded["newest"], folded["older"]
    num_rows, num_frames = into.shape[0], into.shape[2]
    for age in range(min(num_frames, num_rows)):
        into[age:, :, num_frames - 1 - age] = newest[: num_rows - age]
    for frames, row, column in zip(older, *folded["where"], strict=True):
        for passed in range(min(num_frames - 1, num_rows - row)):
            into[row + passed, column, : num_frames - 1 - passed] = frames[passed:]


def shape(folded: Folded) -> tuple[int, ...]:
    """What `unfold` fills."""
    rows, columns, *frame = folded["newest"].shape
    return rows, columns, folded["older"].shape[1] + 1, *frame


__all__ = ["Folded", "fold", "shape", "unfold"]
