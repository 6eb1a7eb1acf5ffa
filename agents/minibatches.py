"""Cutting a rollout into training segments and dealing them out in shuffled minibatches (on-policy learners).

T rows, B columns, S rows of a training segment, K = T / S, N = K · B training segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs, State, map_obs
from triathlon.networks.errors import SettingError
from triathlon.networks.transfer import send


@dataclass(slots=True)
class Rows:
    """What an on-policy learner trains on: tensors `[S, N, ...]` and the memory `[N, ...]` before row 0."""

    obs: Obs
    is_first: Tensor
    action: Tensor
    legal: Tensor | None
    targets: dict[str, Tensor]
    mask: Tensor
    state: State

    @property
    def num_segments(self) -> int:
        """N."""
        return self.mask.shape[1]

    def select(self, index: Tensor | slice) -> Rows:
        """The training segments at `index`: a gather for a tensor, views for a slice."""

        def take(x: Tensor) -> Tensor:
            return x[:, index] if isinstance(index, slice) else x.index_select(1, index)

        return Rows(
            obs=map_obs(take, self.obs),
            is_first=take(self.is_first),
            action=take(self.action),
            legal=None if self.legal is None else take(self.legal),
            targets={name: take(x) for name, x in self.targets.items()},
            mask=take(self.mask),
            state=tuple(s[index] for s in self.state),
        )


def cut(segment: Segment, length: int) -> Rows:
    """Cut the T played rows of a segment into training segments of `length` rows; their targets are still to come.

    Raises:
        SettingError: T is not a multiple of `length`.
    """
    check_divides(length, segment.num_rows)

    def folded(x: Tensor) -> Tensor:
        return fold(x[: segment.num_rows], length)

    return Rows(
        obs=map_obs(folded, segment.obs),
        is_first=folded(segment.is_first),
        action=folded(segment.action),
        legal=None if segment.legal is None else folded(segment.legal),
        targets={},
        mask=folded(segment.valid.to(torch.float32)),
        state=tuple(s.flatten(0, 1) for s in segment.state),
    )


def fold(x: Tensor, length: int) -> Tensor:
    """`[T, B, …]` to `[S, K · B, …]`, S = `length`: training segments side by side, the last ones in time last."""
    chunks, num_columns = x.shape[0] // length, x.shape[1]
    rows = x.reshape(chunks, length, *x.shape[1:])
    return rows.transpose(0, 1).reshape(length, chunks * num_columns, *x.shape[2:])


def unfold(x: Tensor, num_columns: int) -> Tensor:
    """Inverse of `fold`: `[S, K · B, …]` to `[T, B, …]`."""
    rows: Tensor = x.unflatten(1, (-1, num_columns)).transpose(0, 1)
    return rows.reshape(-1, num_columns, *x.shape[2:])


def shuffled(rows: Rows, num_minibatches: int, generator: torch.Generator) -> Iterator[Rows]:
    """Deal all training segments once, in random order, in `num_minibatches` parts of (nearly) equal size.

    One gather an epoch, then views: fewer and larger copies than a gather for each minibatch. There are never more
    minibatches than training segments, so none is empty.
    """
    num_minibatches = min(num_minibatches, rows.num_segments)
    order = torch.randperm(rows.num_segments, generator=generator, device=generator.device)
    dealt = rows.select(send(order, rows.mask.device))
    for part in range(num_minibatches):
        start, stop = (rows.num_segments * p // num_minibatches for p in (part, part + 1))
        yield dealt.select(slice(start, stop))


def segment_length(wanted: int | None, num_steps: int, remembers: bool) -> int:
    """Rows of a training segment: as wanted; else 1 without a memory, the most up to 16 that divide a rollout with one.

    Raises:
        SettingError: the wanted length does not divide the `num_steps` rows of a rollout.
    """
    if wanted is None:
        return max(s for s in range(1, 17) if num_steps % s == 0) if remembers else 1
    check_divides(wanted, num_steps)
    return wanted


def check_divides(length: int, num_steps: int) -> None:
    """Raises SettingError where a rollout of `num_steps` rows cannot be cut into segments of `length`."""
    if num_steps % length:
        raise SettingError(
            f"agent.segment_length: {length} does not divide the {num_steps} rows of a rollout (agent.num_steps)"
        )
