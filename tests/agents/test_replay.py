"""The replay against a plain list of all rows ever seen.

Every observation carries a number that no other has, so that a sample tells which rows it is made of.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.agents.replay import Replay, Sample
from triathlon.agents.segment import Segment
from triathlon.networks.errors import SettingError

GAMMA = 0.9
NUM_ACTIONS = 10


@dataclass
class World:
    """Plays random episodes in B columns and remembers every row; `rows[-1]` is seen but not yet played."""

    num_columns: int
    generator: np.random.Generator
    end_rate: float = 0.3
    rows: list[dict[str, np.ndarray]] = field(default_factory=list)
    num_seen: int = 0

    def __post_init__(self) -> None:
        self.done = np.ones(self.num_columns, bool)
        self.see()

    def see(self) -> None:
        """Append the next row; its reward and `terminated` come true when it is played."""
        size = self.num_columns
        number = self.num_seen + np.arange(size)
        self.num_seen += size
        row = {"number": number, "is_first": self.done, "legal": self.generator.random((size, NUM_ACTIONS)) < 0.5}
        row |= {"action": self.generator.integers(0, 9, (size, 2)), "reward": np.zeros(size, np.float32)}
        row |= {"terminated": np.zeros(size, bool), "state": self.generator.random((size, 2)).astype(np.float32)}
        self.rows.append(row)

    def play(self) -> None:
        row = self.rows[-1]
        was_last = row.get("ended", np.zeros(self.num_columns, bool))
        ends = ~was_last & (self.generator.random(self.num_columns) < self.end_rate)
        row["terminated"] = ends & (self.generator.random(self.num_columns) < 0.5)
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
        number = torch.from_numpy(rows["number"])
        image = torch.stack([number % 251, number // 251], -1).to(torch.uint8).unsqueeze(-1)
        tensor = {n: torch.from_numpy(x) for n, x in rows.items()}
        return Segment(
            obs={"vector": number.float().unsqueeze(-1), "eyes": {"image": image}},
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


def simple(first: int, is_first: list[int], terminated: list[int] | None = None) -> Segment:
    """One column; rows are numbered from `first` on, the reward of row t is 10 ** t."""
    number = torch.arange(first, first + len(is_first))
    rows = {"is_first": torch.tensor(is_first, dtype=torch.bool), "action": number, "obs": number.float()}
    rows["terminated"] = torch.tensor(terminated or [0] * len(is_first), dtype=torch.bool)
    rows["reward"] = 10.0**number
    return Segment(**{name: x.unsqueeze(1) for name, x in rows.items()})


def drawn(replay: Replay, num: int = 200) -> list[int]:
    """The rows that can be drawn as starts."""
    return sorted({int(row) for row in replay.sample(num).segment.obs[0]})


def test_transitions() -> None:
    replay = make()
    # rows 0-2 are one episode, whose last action terminated it; 3, 4 the next, still going on
    replay.add(simple(0, [1, 0, 0, 1, 0], [0, 1, 0, 0, 0]))
    assert (len(replay), replay.num_sampleable) == (4, 3)
    assert drawn(replay) == [0, 1, 3]
    sample = replay.sample(64)
    for i, row in enumerate(sample.segment.obs[0].tolist()):
        assert sample.segment.obs[1, i] == row + 1
        assert sample.segment.action[0, i] == row
        assert sample.returns[0, i] == 10**row
        assert sample.discount[0, i] == pytest.approx(0 if row == 1 else 0.9)
    assert sample.bootstrap.unique().tolist() == [1] and sample.mask.all() and sample.weights.unique().tolist() == [1]
    # the row that was only seen is played now; nothing is stored twice
    replay.add(simple(4, [0, 0, 0]))
    assert (len(replay), replay.num_sampleable, drawn(replay)) == (6, 5, [0, 1, 3, 4, 5])


def test_three_step_returns_stop_at_the_end_of_the_episode() -> None:
    replay = make(n_step=3)
    replay.add(simple(0, [1, 0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0]))
    # row 4 is the last observation, of a truncated episode; row 6 does not see three rows ahead yet
    expected = {0: (111, 0.729, 3), 1: (1110, 0.729, 4), 2: (1100, 0.81, 4), 3: (1000, 0.9, 4), 5: (11100000, 0.729, 8)}
    assert drawn(replay) == list(expected) and replay.num_sampleable == 5
    sample = replay.sample(64)
    for i, row in enumerate(sample.segment.obs[0].int().tolist()):
        returns, discount, bootstrap = expected[row]
        # 10 + .9*100 + .81*1000 and so on
        exact = sum(0.9**k * 10 ** (row + k) for k in range(bootstrap - row))
        assert len(str(returns).rstrip("0")) == bootstrap - row
        assert sample.returns[0, i].item() == pytest.approx(exact)
        assert sample.discount[0, i].item() == pytest.approx(discount)
        assert sample.segment.obs[1, i] == bootstrap and sample.bootstrap[0, i] == 1


def test_sequences_mask_what_was_not_played() -> None:
    replay = make(n_step=2, length=3, burn_in=1, contiguous=True)
    replay.add(simple(0, [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0]))
    assert replay.num_sampleable == 1
    sample = replay.sample(2)
    assert sample.segment.obs[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert sample.segment.is_first[:, 1].tolist() == [True, False, False, True, False, False]
    # trained are rows 1-3: row 1 terminated, 2 is the last observation, 3 is 10^3 + .9*10^4
    assert sample.mask[:, 0].tolist() == [True, False, True]
    assert sample.returns[:, 0].tolist() == [10, 0, 10_000]
    assert sample.discount[:, 0].tolist() == pytest.approx([0, 1, 0.81])
    assert sample.bootstrap[:, 0].tolist() == [2, 3, 5]  # that of the masked row is of no use, but it is a row


def test_oldest_rows_are_overwritten() -> None:
    replay = make(capacity=4)
    replay.add(simple(0, [1, 0, 0, 0]))
    assert drawn(replay) == [0, 1, 2]
    replay.add(simple(3, [0, 0, 0, 0]))
    assert (len(replay), drawn(replay)) == (4, [2, 3, 4, 5])


def test_reset_between_segments_loses_one_transition() -> None:
    replay = make(prioritized=True)
    replay.add(simple(0, [1, 0, 0]))
    assert drawn(replay) == [0, 1]
    replay.add(simple(12, [1, 0, 0]))
    assert drawn(replay) == [0, 12, 13] and replay.num_sampleable == 3


def test_newest_transition_keeps_its_priority_if_the_episode_goes_on_and_loses_it_if_not() -> None:
    replay = make(prioritized=True, priority_exponent=1.0)
    replay.add(simple(0, [1, 0, 0]))
    sample = replay.sample(20)
    replay.update_priorities(sample.index, torch.where(sample.segment.obs[0] == 1, 0.25, 1.0))
    replay.add(simple(2, [0, 0]))
    rows = replay.sample(900).segment.obs[0].int()
    assert [int((rows == row).sum()) for row in range(3)] == [400, 100, 400]
    late = replay.sample(20)
    replay.add(simple(13, [1, 0, 0]))  # row 3 was replaced, so nobody knows what the action of row 2 led to
    replay.update_priorities(late.index, torch.ones(20))
    assert drawn(replay) == [0, 1, 13, 14]


def test_states_are_thinned_out() -> None:
    replay = make(length=1, state_period=4, contiguous=True)
    for first in range(0, 12, 3):  # states come before rows 0, 2, 3, 5, 6, 8, 9, 11
        segment = simple(first, [int(first == 0), 0, 0, 0])
        segment.state, segment.state_period = (torch.tensor([[first], [first + 2]]).float(),), 2
        replay.add(segment)
    assert drawn(replay) == [0, 5, 9]
    sample = replay.sample(20)
    assert torch.equal(sample.state[0], sample.segment.obs[0])


def test_where_few_rows_were_played_they_are_still_drawn_evenly() -> None:
    replay = make(capacity=2000)
    is_first = [1] * 1000 + [0, 0] + [1] * 600 + [0]
    replay.add(simple(0, is_first))
    assert replay.num_sampleable == 3
    counts = Counter(int(row) for row in replay.sample(3000).segment.action[0])
    assert sorted(counts) == [999, 1000, 1601]
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_uniform() -> None:
    replay = make(capacity=64)
    world = World(2, np.random.default_rng(1))
    for _ in range(20):
        replay.add(world.segment(7, None))
    counts = Counter(replay.sample(20_000).segment.obs["vector"][0, :, 0].int().tolist())  # type: ignore[index]
    mean = 20_000 / replay.num_sampleable
    assert len(counts) == replay.num_sampleable
    chi_square = sum((count - mean) ** 2 / mean for count in counts.values())
    assert chi_square < replay.num_sampleable + 4 * (2 * replay.num_sampleable) ** 0.5


def test_priorities() -> None:
    replay = make(prioritized=True, priority_exponent=0.5)
    replay.add(simple(0, [1, 0, 0, 0]))
    sample = replay.sample(60)
    errors = {0: 1.0, 1: -4.0, 2: 9.0}  # priorities 1, 2, 3
    td_error = torch.tensor([errors[row] for row in sample.segment.obs[0].int().tolist()])
    replay.update_priorities(sample.index, td_error)
    sample = replay.sample(600, beta=0.5)
    rows = sample.segment.obs[0].int()
    assert [int((rows == row).sum()) for row in range(3)] == [100, 200, 300]
    # (1/2)^.5, (1/3)^.5: rarer is heavier, the rarest 1
    weights = [sample.weights[rows == row].unique() for row in range(3)]
    assert [w[0].item() for w in weights] == pytest.approx([1, 0.7071, 0.5774], abs=1e-4)
    replay.add(simple(3, [0, 0]))  # enters with the greatest priority, 3
    rows = replay.sample(900).segment.obs[0].int()
    assert [int((rows == row).sum()) for row in range(4)] == [100, 200, 300, 300]


def test_priority_of_a_sequence_and_of_what_was_overwritten() -> None:
    replay = make(capacity=6, prioritized=True, priority_exponent=1.0, length=2, contiguous=True)
    replay.add(simple(0, [1, 0, 0, 0]))  # starts 0 and 1
    sample = replay.sample(40)
    is_zero: Any = sample.segment.obs[0] == 0
    td_error = torch.where(is_zero, torch.tensor([[4.0], [2.0]]), torch.tensor([[1.0], [7.0]]))
    # .9*4 + .1*3 = 3.9; of the second only the first row counts: 1
    mask = torch.stack([torch.ones_like(is_zero), is_zero])
    replay.update_priorities(sample.index, td_error, mask)
    assert replay.sample(490).weights.unique().tolist() == pytest.approx([1 / 3.9, 1], rel=1e-4)
    old = replay.sample(40)
    for first in (3, 6):
        replay.add(simple(first, [0, 0, 0, 0]))
    before = replay.state_dict()["tree"]["priority"].copy()
    replay.update_priorities(old.index, torch.full((40,), 100.0))
    assert drawn(replay) == [3, 4, 5, 6, 7]
    np.testing.assert_array_equal(replay.state_dict()["tree"]["priority"], before)


def test_to_another_device() -> None:
    replay = make(length=2, contiguous=True)
    world = World(2, np.random.default_rng(1))
    replay.add(world.segment(10, 2))
    sample = replay.sample(10)
    assert sample.to(torch.device("cpu")) is sample
    away = sample.to(torch.device("meta"))
    assert away.segment.reward.is_meta and away.state[0].is_meta and away.weights.is_meta and not away.index.is_meta


def test_uint8_stays_and_masks_are_packed() -> None:
    replay = make(capacity=100)
    replay.add(World(4, np.random.default_rng(0)).segment(3, None))
    # number 4 + image 2 + action 2*8 + reward 4 + terminated 1 + is_first 1 + ten masks in 2 bytes, 25 + 1 rows of 4
    assert replay.nbytes == 30 * 26 * 4
    sample = replay.sample(3)
    assert sample.segment.obs["eyes"]["image"].dtype == torch.uint8  # type: ignore[index]
    assert sample.segment.legal is not None and sample.segment.legal.shape == (2, 3, NUM_ACTIONS)


@pytest.mark.parametrize(
    ("options", "num_rows", "message"),
    [
        ({"capacity": 8}, 9, "fewer than the 9 added at once: raise capacity to 9"),
        ({"capacity": 8, "n_step": 10}, 4, "burn_in . length . n_step - 1 = 10: raise capacity to 10"),
    ],
)
def test_too_small(options: dict[str, Any], num_rows: int, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make(**options).add(simple(0, [1] + [0] * num_rows))


def test_wrong_use() -> None:
    with pytest.raises(SettingError, match="length 4 with burn_in 0 needs contiguous=True"):
        make(length=4)
    replay = make(n_step=3)
    replay.add(simple(0, [1, 0, 0]))
    with pytest.raises(ValueError, match="nothing to draw yet: it holds 2 transitions"):
        replay.sample(1)
    with pytest.raises(SettingError, match="holds 1 columns; a segment of 2 was added"):
        replay.add(World(2, np.random.default_rng(0)).segment(3, None))


class Reference:
    """What may be drawn, and what a sample must say, from the list of all rows."""

    def __init__(self, world: World, replay: Replay) -> None:
        self.world, self.replay = world, replay
        self.states: set[int] = set()
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
        chosen = []
        for i in range(len(sample.index)):
            seen = [places[int(number)] for number in segment.obs["vector"][:, i, 0]]  # type: ignore[index]
            t, b = seen[0]
            assert (t, b) in starts
            chosen.append((t, b))
            for k, (row, column) in enumerate(seen):
                assert column == b
                for name in ("action", "reward", "terminated", "is_first", "legal"):
                    assert getattr(segment, name)[k, i].tolist() == rows[row][name][b].tolist()
                low, high = segment.obs["eyes"]["image"][k, i, :, 0].tolist()  # type: ignore[index]
                assert low + 251 * high == rows[row]["number"][b]
            if self.states:
                np.testing.assert_array_equal(sample.state[0][i], rows[t]["state"][b])
            if replay.contiguous:
                assert [row for row, _ in seen] == list(range(t, t + replay.burn_in + replay.length + replay.n_step))
            for j in range(replay.length):
                row = t + replay.burn_in + j
                total, discount, steps = 0.0, 1.0, 0
                while steps < replay.n_step and not rows[row + steps + 1]["is_first"][b]:
                    total += GAMMA**steps * rows[row + steps]["reward"][b]
                    discount *= GAMMA * (not rows[row + steps]["terminated"][b])
                    steps += 1
                assert sample.mask[j, i] == (steps > 0)
                assert sample.returns[j, i].item() == pytest.approx(total, rel=1e-4, abs=1e-5)
                assert sample.discount[j, i].item() == pytest.approx(discount, rel=1e-5)
                assert seen[int(sample.bootstrap[j, i])][0] == row + max(steps, 1)
        return chosen


@given(
    seed=st.integers(0, 10_000),
    num_columns=st.integers(1, 3),
    n_step=st.integers(1, 4),
    shape=st.sampled_from([None, (1, 0), (3, 0), (2, 3)]),
    state_period=st.sampled_from([None, 1, 2, 3]),
    thinned=st.sampled_from([1, 5]),
    prioritized=st.booleans(),
    end_rate=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
)
@settings(deadline=None, max_examples=40)
def test_against_a_list_of_rows(
    seed: int,
    num_columns: int,
    n_step: int,
    shape: tuple[int, int] | None,
    state_period: int | None,
    thinned: int,
    prioritized: bool,
    end_rate: float,
) -> None:
    generator = np.random.default_rng(seed)
    world = World(num_columns, generator, end_rate)
    length, burn_in = shape or (1, 0)
    state_period = state_period if shape else None
    capacity = int(generator.integers(14, 40)) * num_columns + int(generator.integers(num_columns))
    options = {
        "n_step": n_step,
        "length": length,
        "burn_in": burn_in,
        "state_period": thinned,
        "prioritized": prioritized,
    }
    replay = make(capacity, seed, **options, priority_exponent=1.0, contiguous=shape is not None)
    reference = Reference(world, replay)
    greatest, start_period = 1.0, 0
    old: tuple[Sample, list[tuple[int, int]]] | None = None
    for _ in range(12):
        if generator.random() < 0.2 and len(world.rows) > 1:
            world.reset()
        begin = len(world.rows) - 1
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
            sample, chosen = old
            td_error = torch.from_numpy(generator.random((length, len(chosen))) * 3)
            td_error = td_error[:, [chosen.index(key) for key in chosen]]  # what was drawn twice has one error
            replay.update_priorities(sample.index, td_error, sample.mask)
            for i, key in enumerate(chosen):
                if key in reference.priorities:
                    known = td_error[:, i][sample.mask[:, i]]
                    size = float(0.9 * known.max() + 0.1 * known.mean()) if len(known) else 0.0
                    reference.priorities[key] = size + 1e-6
            greatest = max([greatest, *(reference.priorities[key] for key in chosen if key in reference.priorities)])
        sample = replay.sample(int(generator.integers(1, 30)), beta=1.0)
        chosen = reference.check(sample, starts)
        old = sample, chosen
        if prioritized:
            priority = np.array([reference.priorities[key] for key in chosen])
            np.testing.assert_allclose(sample.weights / sample.weights[0], priority[0] / priority, rtol=1e-3)
            smallest = min(reference.priorities.values())
            np.testing.assert_allclose(sample.weights[0], smallest / priority[0], rtol=1e-3)


@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize(("shape", "state_period"), [(None, None), ((3, 2), 2), ((2, 0), None)])
@pytest.mark.parametrize("num_adds", [0, 1, 9])
def test_resume(prioritized: bool, shape: tuple[int, int] | None, state_period: int | None, num_adds: int) -> None:
    length, burn_in = shape or (1, 0)
    options = {"n_step": 2, "length": length, "burn_in": burn_in, "prioritized": prioritized}
    replay, again = (make(60, seed, contiguous=shape is not None, **options) for seed in (1, 2))
    world = World(2, np.random.default_rng(3))
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
        assert torch.equal(samples[0].segment.obs["vector"], samples[1].segment.obs["vector"])  # type: ignore[index]
        assert all(map(torch.equal, samples[0].state, samples[1].state))


def test_resume_with_other_settings() -> None:
    replay = make(60)
    replay.add(World(2, np.random.default_rng(3)).segment(8, None))
    with pytest.raises(SettingError, match="capacity 50 is not that of the saved replay, 60"):
        make(50).load_state_dict(replay.state_dict())
    with pytest.raises(SettingError, match="prioritized=True is not what the saved replay had"):
        make(60, prioritized=True).load_state_dict(replay.state_dict())
