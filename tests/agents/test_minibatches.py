"""Cutting rollouts into training segments. T rows, B columns, S rows of a segment."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triathlon.agents.minibatches import cut, fold, segment_length, shuffled, unfold
from triathlon.agents.segment import Segment
from triathlon.networks.errors import SettingError


def rollout(num_rows: int, num_columns: int, period: int) -> Segment:
    """Row t of column b holds the number 100 t + b everywhere; so does the state that stood before it."""
    number = 100 * torch.arange(num_rows + 1).unsqueeze(1) + torch.arange(num_columns)
    return Segment(
        obs={"number": number.float().unsqueeze(-1)},
        action=number,
        reward=number.float(),
        terminated=number < 0,
        is_first=number % 7 == 3,
        state=(number[:-1:period].float().unsqueeze(-1),),
        state_period=period,
    )


@given(chunks=st.integers(1, 5), length=st.integers(1, 5), num_columns=st.integers(1, 4))
def test_fold_and_unfold_are_inverse_and_segments_are_stretches(chunks: int, length: int, num_columns: int) -> None:
    x = torch.randn(chunks * length, num_columns, 2)
    folded = fold(x, length)
    assert folded.shape == (length, chunks * num_columns, 2)
    assert unfold(folded, num_columns).equal(x)
    for k in range(chunks):
        assert folded[:, k * num_columns : (k + 1) * num_columns].equal(x[k * length : (k + 1) * length])


@given(chunks=st.integers(1, 4), length=st.integers(1, 4), num_columns=st.integers(1, 3))
def test_cut_keeps_rows_and_states_together(chunks: int, length: int, num_columns: int) -> None:
    segment = rollout(chunks * length, num_columns, length)
    rows = cut(segment, length)
    assert rows.num_segments == chunks * num_columns
    assert rows.state[0].squeeze(-1).equal(rows.action[0].float())  # each state is that before its first row
    assert rows.obs["number"].squeeze(-1).equal(rows.action.float())
    assert unfold(rows.mask, num_columns).bool().equal(segment.valid)
    assert unfold(rows.is_first, num_columns).equal(segment.is_first[:-1])


@given(num_minibatches=st.integers(1, 30), seed=st.integers(0, 3))
def test_every_segment_is_dealt_once(num_minibatches: int, seed: int) -> None:
    rows = cut(rollout(8, 3, 2), 2)
    rows.targets = {"returns": rows.action.float()}
    dealt = list(shuffled(rows, num_minibatches, torch.Generator().manual_seed(seed)))
    assert len(dealt) == min(num_minibatches, 12)
    assert {part.num_segments for part in dealt} <= {12 // len(dealt), -(-12 // len(dealt))}
    for part in dealt:
        assert part.state[0].squeeze(-1).equal(part.action[0].float())
        assert part.targets["returns"].equal(part.action.float())
    numbers = torch.cat([part.action for part in dealt], 1)
    assert sorted(numbers.flatten().tolist()) == sorted(rows.action.flatten().tolist())


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(SettingError, match=r"agent.segment_length: 3 does not divide the 8 rows"):
        cut(rollout(8, 1, 1), 3)


def test_default_lengths() -> None:
    assert [segment_length(None, n, remembers=True) for n in (128, 20, 17, 7)] == [16, 10, 1, 7]
    assert segment_length(None, 128, remembers=False) == 1
