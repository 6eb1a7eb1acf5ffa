"""Stacked pictures taken apart into frames, one a row, and put together again.

T rows of a written segment, B columns, W rows of N samples that are read, K frames of a stack, the newest last.
A *place* is `row * B + column` in a ring of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.errors import SettingError
from triathlon.networks.transfer import send

Array = NDArray[Any]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]


class FrameStacks:
    """Observations `[K, *frame]` of which each is the one before, moved on by one frame.

    In the first observation of an episode, the frames before the first are either zeros (ALE, Stable-Baselines3) or the
    first again (Gymnasium's `FrameStackObservation`). Which one is noted, so that nothing is lost.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self.newest: Array | None = None  # [B, K, *frame]: the stacks of the row that was written last

    def split(self, obs: Array, is_first: Bools) -> tuple[Array, Bools]:
        """The newest frames of `obs [T+1, B, K, *frame]`, and where those before a first one repeat it.

        Row 0 is the row that was written last, or starts an episode, or is the very first row.
        Raises `SettingError` where a stack does not follow from the one before it.
        """
        earlier, frames = obs[:, :, :-1], obs[:, :, -1]
        repeats, wrong = np.zeros_like(is_first), np.zeros_like(is_first)
        wrong[1:] = _differ(earlier[1:], obs[:-1, :, 1:])
        if self.newest is not None:
            wrong[0] = _differ(earlier[0][None], self.newest[None, :, :-1])[0]
        first = np.nonzero(is_first)
        repeats[first] = ~_differ(earlier[first][None], frames[first][None, :, None])[0]
        wrong[first] = ~repeats[first] & earlier[first].any(axis=tuple(range(1, earlier.ndim - 1)))
        if wrong.any():
            t, column = np.argwhere(wrong)[0]
            what = "does not go on from the one before"
            if is_first[t, column]:
                what = "starts an episode neither with zeros nor with one frame repeated"
            raise SettingError(
                f"frame_stack of the environment is {self.num_frames}, but its stack of frames at row {t}, column "
                f"{column} {what}; only an environment whose stacks do should have a frame_stack"
            )
        self.newest = obs[-1].copy()
        return frames, repeats

    def join(self, places: Index, num_columns: int, num_places: int, take: Callable[[str, Index], Any]) -> Any:
        """The stacks `[W, N, K, *frame]` at `places [W, N]` of a ring of `num_places`, read by `take(name, places)`.

        They are what `take` gives: an array, or a tensor that stays on its device.
        """
        back = np.arange(1 - self.num_frames, 1) * num_columns
        ring = (places[..., None] + back) % num_places  # [W, N, K]
        first = take("is_first", ring)
        beyond = np.logical_or.accumulate(first[..., :0:-1], -1)[..., ::-1]  # [W, N, K-1]: before the episode began
        if not beyond.any():
            return take("obs", ring)
        steps = first[..., ::-1].argmax(-1)  # since the episode began, where it did so within the stack
        start = (places - steps * num_columns) % num_places
        ring[..., :-1] = np.where(beyond, start[..., None], ring[..., :-1])
        stacks = take("obs", ring)
        blank = beyond & ~take("repeats", start)[..., None]
        if isinstance(stacks, Tensor):
            mask = send(torch.from_numpy(blank), stacks.device)
            stacks[:, :, :-1].masked_fill_(mask.view(*mask.shape, *[1] * (stacks.dim() - 3)), 0)
        else:
            stacks[:, :, :-1][blank] = 0
        return stacks


def _differ(a: Array, b: Array) -> Bools:
    """`[T, B]`: where two arrays `[T, B, ...]` are not the same throughout."""
    unequal = a != b
    differ: Bools = unequal.reshape(*unequal.shape[:2], prod(unequal.shape[2:])).any(-1)
    return differ


__all__ = ["FrameStacks"]
