"""Segments as arrays: joining, cutting, filling up, and sending to another process."""

from __future__ import annotations

import threading
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from triathlon.agents.segment import Segment
from triathlon.training.workers import columns, wire


def segment(num_columns: int, first: float, num_rows: int = 4, sides: bool = False) -> Segment:
    """Column i of row t holds `first + i + 10 t`; a memory is stored before every other row."""
    numbers = first + torch.arange(num_columns) + 10.0 * torch.arange(num_rows + 1)[:, None]
    return Segment(
        obs={"near": numbers[..., None], "far": {"high": numbers.long()}},
        action=numbers.long(),
        reward=numbers,
        terminated=torch.zeros(numbers.shape, dtype=torch.bool),
        is_first=numbers == first,
        next_sign=-torch.ones(numbers.shape) if sides else None,
        extras={"logits": numbers[..., None].expand(-1, -1, 3)},
        state=(numbers[:num_rows:2, :, None],),
        state_period=2,
    )


def test_columns_are_joined_side_by_side() -> None:
    joined = columns.to_segment(
        columns.join([columns.of_segment(segment(2, 0.0)), columns.of_segment(segment(1, 5.0))])
    )
    assert joined.reward.tolist() == [[0, 1, 5], [10, 11, 15], [20, 21, 25], [30, 31, 35], [40, 41, 45]]
    assert joined.obs["far"]["high"][1].tolist() == [10, 11, 15]
    assert joined.state[0][..., 0].tolist() == [[0, 1, 5], [20, 21, 25]]
    assert joined.extras["logits"].shape == (5, 3, 3)
    assert joined.is_first[0].tolist() == [True, False, True]
    assert joined.legal is None and joined.next_sign is None and joined.state_period == 2


def test_joined_columns_have_memory_of_their_own() -> None:
    """What Ray shares is read-only, and some learners scale rewards where they stand."""
    part = columns.of_segment(segment(2, 0.0))
    part["reward"].setflags(write=False)
    joined = columns.to_segment(columns.join([part]))
    joined.reward += 1.0
    assert part["reward"][0].tolist() == [0.0, 1.0]


def test_who_plays_for_one_side_only_has_the_sign_one() -> None:
    sides = [columns.of_segment(segment(1, 0.0, sides=True)), columns.of_segment(segment(1, 0.0))]
    assert columns.to_segment(columns.join(sides)).next_sign[0].tolist() == [-1.0, 1.0]


def test_parts_follow_one_another() -> None:
    whole = columns.of_segment(segment(2, 0.0))
    first, second = (columns.to_segment(columns.part(whole, start, 2)) for start in (0, 2))
    assert first.reward[:, 0].tolist() == [0, 10, 20]
    assert second.reward[:, 0].tolist() == [20, 30, 40]
    assert [part.state[0][0, 0].item() for part in (first, second)] == [0, 20]
    assert first.num_steps == 4


def test_nothing_can_be_learned_from_unplayed_columns() -> None:
    empty = columns.to_segment(columns.unplayed(columns.of_segment(segment(2, 3.0))))
    assert empty.num_steps == 0
    assert empty.reward.abs().sum() == 0
    assert empty.obs["near"][0, 0, 0] == 3.0  # real ones, for statistics of observations


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(2, 4), st.data())
def test_stacks_are_sent_frame_by_frame_and_put_together_again(
    num_rows: int, num_columns: int, num_frames: int, data: st.DataObject
) -> None:
    """Frames are numbered; an episode begins with zeros, or its first frame repeated, wherever it is drawn to."""
    firsts = data.draw(arrays.arrays(np.bool_, (num_rows + 1, num_columns)))
    repeats = data.draw(arrays.arrays(np.bool_, (num_rows + 1, num_columns)))
    obs = np.zeros((num_rows + 1, num_columns, num_frames, 2, 1), np.uint8)
    stack = np.arange(100, 100 + num_columns * num_frames).reshape(num_columns, num_frames)  # played before
    for t in range(num_rows + 1):
        for column in range(num_columns):
            frame = 1 + t * num_columns + column
            older = stack[column, 1:]
            if firsts[t, column]:
                older = np.full(num_frames - 1, frame if repeats[t, column] else 0)
            stack[column] = [*older, frame]
            obs[t, column] = stack[column][:, None, None]
    played = segment(num_columns, 0.0, num_rows)
    played.obs, played.is_first = torch.from_numpy(obs), torch.from_numpy(firsts)
    sent = columns.of_segment(played, frame_stack=num_frames)
    twice = columns.to_segment(columns.join([sent, sent]))
    assert np.array_equal(twice.obs.numpy(), np.concatenate([obs, obs], 1))


def test_unplayed_stacks_are_black() -> None:
    played = segment(2, 0.0)
    played.obs = torch.full((5, 2, 3, 2, 2), 7, dtype=torch.uint8)
    joined = columns.to_segment(columns.join([columns.unplayed(columns.of_segment(played, frame_stack=3))]))
    assert joined.obs.shape == (5, 2, 3, 2, 2) and not joined.obs.any()


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**130), 2**130),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    arrays.arrays(
        st.sampled_from([np.uint8, np.bool_, np.int64, np.float32]), arrays.array_shapes(min_dims=0, min_side=0)
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_what_is_sent_arrives(value: Any) -> None:
    assert same(over_a_pipe(value), value)


def test_what_could_run_code_is_not_sent() -> None:
    ours, _ = Pipe()
    for value in (print, {1: 2}, np.array([object()])):
        with pytest.raises(TypeError):
            wire.send(ours, value)


def over_a_pipe(value: Any) -> Any:
    ours, theirs = Pipe()
    sender = threading.Thread(target=wire.send, args=(theirs, value))
    sender.start()
    arrived = wire.receive(ours)
    sender.join()
    return arrived


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
