"""The replay on rows that can be counted by hand; `test_replay_reference.py` has every combination of its settings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.agents.replay import Replay
from triathlon.agents.segment import Segment
from triathlon.networks.errors import SettingError

GAMMA = 0.9


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
    before = replay.state_dict()["priorities"]["priority"].copy()
    replay.update_priorities(old.index, torch.full((40,), 100.0))
    assert drawn(replay) == [3, 4, 5, 6, 7]
    np.testing.assert_array_equal(replay.state_dict()["priorities"]["priority"], before)


def test_to_another_device() -> None:
    replay = make(length=2, contiguous=True)
    segment = simple(0, [1, 0, 0, 0, 0])
    segment.state, segment.state_period = (torch.zeros(2, 1, 3),), 2
    replay.add(segment)
    sample = replay.sample(10)
    assert sample.to(torch.device("cpu")) is sample
    away = sample.to(torch.device("meta"))
    assert away.segment.reward.is_meta and away.state[0].is_meta and away.weights.is_meta and not away.index.is_meta


def test_bytes_of_a_row() -> None:
    replay, packed = make(), make(compress=True)
    segment = simple(0, [1, 0, 0, 0])
    segment.obs = {"number": segment.action.float(), "eyes": {"image": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)}}
    segment.legal = torch.ones(4, 1, 10, dtype=torch.bool)
    # number 4, image 64, action 8, reward 4, terminated 1, is_first 1, ten masks in 2 bytes; 100 rows and the last
    assert replay.expected_nbytes(segment)[:2] == (84 * 101, 84 * 101)
    # the image is found by 12 bytes, and if it cannot be compressed it is as long as it was
    assert packed.expected_nbytes(segment)[:2] == (32 * 101 + int(0.14 * 64 * 101), 96 * 101)
    for each in (replay, packed):
        each.add(segment)
        sample = each.sample(3).segment
        assert sample.obs["eyes"]["image"].dtype == torch.uint8 and not sample.obs["eyes"]["image"].any()
        assert sample.legal is not None and sample.legal.shape == (2, 3, 10)
    assert replay.nbytes == 84 * 101
    assert packed.nbytes - 32 * 101 < 4 * 20  # 64 zeros in a few bytes, four times


def test_rewards_are_scaled_when_they_are_drawn() -> None:
    """What was stored while rewards were small to the statistics is seen by those of now."""
    scale = [1.0]
    replay = make(n_step=2, scale_reward=lambda reward: reward * np.float32(scale[0]))
    replay.add(simple(0, [1, 0, 0]))
    for scale[0] in (1.0, 0.5):
        sample = replay.sample(1)
        assert sample.returns.item() == pytest.approx(scale[0] * (1 + 0.9 * 10))
        assert sample.segment.reward[0].item() == 1.0  # what was paid


def test_a_saved_replay_serves_samples_as_long_as_its_own_or_shorter() -> None:
    replay = make(n_step=3)
    replay.add(simple(0, [1, 0, 0, 0, 0]))
    make(n_step=2).load_state_dict(replay.state_dict())
    with pytest.raises(SettingError, match=r"n_step are 5, but .* made for 4 at most"):
        make(n_step=4).load_state_dict(replay.state_dict())


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
        replay.add(simple(0, [1, 0, 0]).map(lambda x: x.expand(-1, 2)))
