"""The replay against a plain list of all rows ever seen, in every combination of its settings.

Every observation carries a number that no other has, so that a sample tells which rows it is made of.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.agents import picture_store
from triathlon.agents.replay import Replay, Sample
from triathlon.agents.segment import Segment

GAMMA = 0.9
NUM_ACTIONS = 10


@pytest.fixture(autouse=True, scope="module")
def _small_slabs() -> Iterator[None]:
    """So that compressed pictures go through many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_store, "SLAB_BYTES", 300)
        yield


@dataclass
class World:
    """Plays random episodes in B columns and remembers every row; `rows[-1]` is seen but not yet played.

    Episodes end by termination or by a time limit; lives are lost (terminated) in the middle of one. With `num_frames`
    an observation is a stack of pictures, which begins an episode with zeros or with its first picture repeated.
    """

    num_columns: int
    generator: np.random.Generator
    end_rate: float = 0.3
    num_frames: int = 1
    starts_first: bool = True  # else the very first row is in the middle of an episode
    rows: list[dict[str, np.ndarray]] = field(default_factory=list)
    num_seen: int = 0

    def __post_init__(self) -> None:
        self.done = np.full(self.num_columns, self.starts_first)
        self.stack = self.generator.integers(0, 256, (self.num_columns, self.num_frames, 8, 9), np.uint8)
        self.see()

    def see(self) -> None:
        """Append the next row; its reward and `terminated` come true when it is played."""
        size = self.num_columns
        number = self.num_seen + np.arange(size)
        self.num_seen += size
        row = {"number": number, "is_first": self.done, "legal": self.generator.random((size, NUM_ACTIONS)) < 0.5}
        row |= {"action": self.generator.integers(0, 9, (size, 2)), "reward": np.zeros(size, np.float32)}
        row |= {"terminated": np.zeros(size, bool), "state": self.generator.random((size, 2)).astype(np.float32)}
        picture = self.generator.integers(0, 256, (size, 8, 9), np.uint8)  # noise, or a picture that can be compressed
        picture[self.generator.random(size) < 0.5] = 0
        picture[:, 0, 0], picture[:, 0, 1] = number % 251, number // 251
        padding = np.where(self.generator.random((size, 1, 1, 1)) < 0.5, 0, picture[:, None])
        before = np.where(self.done[:, None, None, None], padding, self.stack[:, 1:])
        self.stack = row["stack"] = np.concatenate([before, picture[:, None]], 1)
        self.rows.append(row)

    def play(self) -> None:
        row = self.rows[-1]
        was_last = row.get("ended", np.zeros(self.num_columns, bool))
        ends = ~was_last & (self.generator.random(self.num_columns) < self.end_rate)
        row["terminated"] = ends & (self.generator.random(self.num_columns) < 0.5)
        row["terminated"] |= ~was_last & (self.generator.random(self.num_columns) < 0.1)  # a life
        row["reward"] = np.where(was_last, 0, self.generator.normal(size=self.num_columns)).astype(np.float32)
        self.done = was_last
        self.see()
        self.rows[-1]["ended"] = ends

    def reset(self) -> None:
        """Begin new episodes everywhere: the row that was seen last is never played."""
        self.rows.pop()
        self.done = np.ones(self.num_columns, bool)
        self.see()

    def segment(self, num_rows: int, state_period: int | None) -> Segment:
        begin = len(self.rows) - 1
        for _ in range(num_rows):
            self.play()
        rows = {n: np.stack([row[n] for row in self.rows[begin:]]) for n in self.rows[0]}
        tensor = {n: torch.from_numpy(x) for n, x in rows.items()}
        number = tensor["number"].float().unsqueeze(-1)
        return Segment(
            obs=tensor["stack"]
            if self.num_frames > 1
            else {"vector": number, "eyes": {"picture": tensor["stack"][:, :, 0]}},
            action=tensor["action"],
            reward=tensor["reward"],
            terminated=tensor["terminated"],
            is_first=tensor["is_first"],
            legal=tensor["legal"],
            state=() if state_period is None else (tensor["state"][:-1:state_period],),
            state_period=state_period or 1,
        )


def make(capacity: int = 100, seed: int = 0, **options: Any) -> Replay:
    options.setdefault("contiguous", False)
    return Replay(capacity, GAMMA, generator=np.random.default_rng(seed), **options)


class Reference:
    """What may be drawn, and what a sample must say, from the list of all rows."""

    def __init__(self, world: World, replay: Replay) -> None:
        self.world, self.replay = world, replay
        self.states: set[int] = set()  # rows whose memory state may be stored
        self.priorities: dict[tuple[int, int], float] = {}

    def starts(self, state_period: int | None) -> set[tuple[int, int]]:
        replay, rows = self.replay, self.world.rows
        head = len(rows) - 1
        oldest = max(0, head - replay.capacity // self.world.num_columns)
        span = replay.burn_in + replay.length + replay.n_step - 1
        return {
            (row, b)
            for row in range(oldest, head - span + 1)
            for b in range(self.world.num_columns)
            if (row in self.states or state_period is None) and (replay.contiguous or not rows[row + 1]["is_first"][b])
        }

    def check(self, sample: Sample, starts: set[tuple[int, int]]) -> list[tuple[int, int]]:
        replay, rows, segment = self.replay, self.world.rows, sample.segment
        places = {int(row["number"][b]): (t, b) for t, row in enumerate(rows) for b in range(self.world.num_columns)}
        stacks = segment.obs if self.world.num_frames > 1 else segment.obs["eyes"]["picture"].unsqueeze(2)
        numbers = stacks[:, :, -1, 0, 0].long() + 251 * stacks[:, :, -1, 0, 1].long()
        if self.world.num_frames == 1:
            assert torch.equal(segment.obs["vector"][..., 0].long(), numbers)
        chosen = []
        for i in range(len(sample.index)):
            seen = [places[int(number)] for number in numbers[:, i]]
            t, b = seen[0]
            assert (t, b) in starts
            chosen.append((t, b))
            for k, (row, column) in enumerate(seen):
                assert column == b
                for name in ("action", "reward", "terminated", "is_first", "legal"):
                    assert getattr(segment, name)[k, i].tolist() == rows[row][name][b].tolist()
                np.testing.assert_array_equal(stacks[k, i], rows[row]["stack"][b])
            if self.states:
                np.testing.assert_array_equal(sample.state[0][i], rows[t]["state"][b])
            if replay.contiguous:
                assert [row for row, _ in seen] == list(range(t, t + replay.burn_in + replay.length + replay.n_step))
            for j in range(replay.length):
                row = t + replay.burn_in + j
                total, discount, steps = 0.0, 1.0, 0
                while steps < replay.n_step and not rows[row + steps + 1]["is_first"][b]:
                    total += discount * rows[row + steps]["reward"][b]
                    discount *= GAMMA * (not rows[row + steps]["terminated"][b])
                    steps += 1
                assert sample.mask[j, i] == (steps > 0)
                assert sample.returns[j, i].item() == pytest.approx(total, rel=1e-4, abs=1e-5)
                assert sample.discount[j, i].item() == pytest.approx(discount, rel=1e-5)
                assert seen[int(sample.bootstrap[j, i])][0] == row + max(steps, 1)
        return chosen

    def learn(self, sample: Sample, chosen: list[tuple[int, int]], greatest: float) -> float:
        """Give random priorities to what was drawn, here and in the replay; returns the greatest ever given."""
        td_error = torch.from_numpy(self.world.generator.random((self.replay.length, len(chosen))) * 3)
        td_error = td_error[:, [chosen.index(key) for key in chosen]]  # what was drawn twice has one error
        self.replay.update_priorities(sample.index, td_error, sample.mask)
        for i, key in enumerate(chosen):
            if key in self.priorities:
                known = td_error[:, i][sample.mask[:, i]]
                size = float(0.9 * known.max() + 0.1 * known.mean()) if len(known) else 0.0
                self.priorities[key] = size + 1e-6
        return max([greatest, *(self.priorities[key] for key in chosen if key in self.priorities)])


@given(
    seed=st.integers(0, 10_000),
    num_columns=st.integers(1, 3),
    n_step=st.integers(1, 4),
    shape=st.sampled_from([None, (1, 0), (3, 0), (2, 3)]),
    state_period=st.sampled_from([None, 1, 2, 3]),
    thinned=st.sampled_from([1, 5]),
    prioritized=st.booleans(),
    end_rate=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    num_frames=st.integers(1, 4),
    compress=st.booleans(),
    starts_first=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_against_a_list_of_rows(
    seed: int,
    num_columns: int,
    n_step: int,
    shape: tuple[int, int] | None,
    state_period: int | None,
    thinned: int,
    prioritized: bool,
    end_rate: float,
    num_frames: int,
    compress: bool,
    starts_first: bool,
) -> None:
    generator = np.random.default_rng(seed)
    world = World(num_columns, generator, end_rate, num_frames, starts_first)
    length, burn_in = shape or (1, 0)
    state_period = state_period if shape else None
    capacity = int(generator.integers(14, 40)) * num_columns + int(generator.integers(num_columns))
    options: dict[str, Any] = {"n_step": n_step, "length": length, "burn_in": burn_in, "contiguous": shape is not None}
    options |= {"state_period": thinned, "prioritized": prioritized, "priority_exponent": 1.0}
    options |= {"frame_stack": num_frames, "compress": compress}
    reference = Reference(world, make(capacity, seed, **options))
    greatest, start_period = 1.0, 0
    old: tuple[Sample, list[tuple[int, int]]] | None = None
    for _ in range(14):
        if generator.random() < 0.2 and len(world.rows) > 1:
            world.reset()
        if generator.random() < 0.2:  # the run was killed and goes on
            state = copy.deepcopy(reference.replay.state_dict())
            reference.replay = make(capacity, seed + 1, **options)
            reference.replay.load_state_dict(state)
        replay, begin = reference.replay, len(world.rows) - 1
        num_rows = int(generator.integers(1, 12))
        replay.add(world.segment(num_rows, state_period))
        if state_period:
            start_period = start_period or max(thinned, min(state_period, num_rows))
            for row in range(begin, begin + num_rows, state_period):
                if row - max(reference.states, default=-start_period) >= start_period:
                    reference.states.add(row)
        starts = reference.starts(state_period)
        assert replay.num_sampleable == len(starts)
        reference.priorities = {key: reference.priorities.get(key, greatest) for key in starts}
        if not replay.num_sampleable:
            continue
        if old is not None and prioritized and generator.random() < 0.5:  # priorities that come late
            greatest = reference.learn(*old, greatest)
        sample = replay.sample(int(generator.integers(1, 30)), beta=1.0)
        chosen = reference.check(sample, starts)
        old = sample, chosen
        if prioritized:
            priority = np.array([reference.priorities[key] for key in chosen])
            np.testing.assert_allclose(sample.weights / sample.weights[0], priority[0] / priority, rtol=1e-3)
            smallest = min(reference.priorities.values())
            np.testing.assert_allclose(sample.weights[0], smallest / priority[0], rtol=1e-3)


def test_uniform() -> None:
    replay = make(capacity=64)
    world = World(2, np.random.default_rng(1))
    for _ in range(20):
        replay.add(world.segment(7, None))
    counts = Counter(replay.sample(20_000).segment.obs["vector"][0, :, 0].int().tolist())
    mean = 20_000 / replay.num_sampleable
    assert len(counts) == replay.num_sampleable
    chi_square = sum((count - mean) ** 2 / mean for count in counts.values())
    assert chi_square < replay.num_sampleable + 4 * (2 * replay.num_sampleable) ** 0.5


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize(("shape", "state_period"), [(None, None), ((3, 2), 2), ((2, 0), None)])
@pytest.mark.parametrize("num_adds", [0, 1, 9])
@pytest.mark.parametrize("compress", [False, True])
def test_resume_draws_the_same(
    prioritized: bool, shape: tuple[int, int] | None, state_period: int | None, num_adds: int, compress: bool
) -> None:
    length, burn_in = shape or (1, 0)
    options: dict[str, Any] = {"n_step": 2, "length": length, "burn_in": burn_in, "prioritized": prioritized}
    options |= {"compress": compress, "frame_stack": 3 if compress else 1}
    replay, again = (make(60, seed, contiguous=shape is not None, **options) for seed in (1, 2))
    world = World(2, np.random.default_rng(3), num_frames=options["frame_stack"])
    for _ in range(num_adds):
        replay.add(world.segment(8, state_period))
        if replay.num_sampleable:
            sample = replay.sample(8)
            replay.update_priorities(sample.index, sample.returns, sample.mask)
    state = replay.state_dict()
    arrays_apart = json.dumps(state, default=lambda x: {"shape": x.shape} if isinstance(x, np.ndarray) else x.error)
    assert "bit_generator" in arrays_apart
    again.load_state_dict(state)
    for _ in range(6):
        segment = world.segment(7, state_period)
        samples = []
        for each in (replay, again):
            each.add(segment)
            sample = each.sample(9)
            each.update_priorities(sample.index, sample.returns + 1, sample.mask)
            samples.append(sample)
        for name in ("returns", "discount", "bootstrap", "mask", "weights", "index"):
            assert torch.equal(getattr(samples[0], name), getattr(samples[1], name)), name
        assert torch.equal(*(each.segment.action for each in samples))
        assert all(map(torch.equal, samples[0].state, samples[1].state))
