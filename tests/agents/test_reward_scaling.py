"""Reward scaling against the rule of VecNormalize, written one number at a time. T rows, B columns."""

from __future__ import annotations

import numpy as np
import torch

from triathlon.agents.reward_scaling import RewardScaler

GAMMA = 0.9


def test_the_deviation_is_that_of_all_discounted_returns_so_far() -> None:
    rng = np.random.default_rng(0)
    scaler, seen, discounted = RewardScaler(3, GAMMA), [], [0.0] * 3
    is_first = np.zeros((25, 3), bool)
    is_first[[0, 6, 12, 13, 24]] = [[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    reward = rng.normal(2.0, 5.0, (24, 3)).astype(np.float32)
    reward[is_first[1:]] = 0.0  # the last observation of an episode earns nothing
    for start, stop in ((0, 8), (8, 9), (9, 24)):
        rows = torch.from_numpy(reward[start:stop]), torch.from_numpy(is_first[start : stop + 1])
        scaled = scaler(*rows)
        for t in range(start, stop):
            for b in range(3):
                discounted[b] = (0.0 if is_first[t, b] else discounted[b]) * GAMMA + reward[t, b]
                if not is_first[t + 1, b]:
                    seen.append(discounted[b])
        # VecNormalize begins with a mean of 0 and a variance of 1 that count as 1e-4 samples.
        mean = sum(seen) / (len(seen) + 1e-4)
        square = (sum(x**2 for x in seen) + 1e-4) / (len(seen) + 1e-4)
        expected = reward[start:stop] / np.sqrt(square - mean**2 + 1e-8)
        np.testing.assert_allclose(scaled.numpy(), np.clip(expected, -10, 10), rtol=1e-5)
        assert ((scaled > 0) == (rows[0] > 0)).all()


def test_scaled_rewards_are_clipped_and_the_state_comes_back() -> None:
    scaler = RewardScaler(1, GAMMA)
    steady = torch.full((50, 1), 0.1)
    scaler(steady, torch.zeros(51, 1, dtype=torch.bool))
    other = RewardScaler(1, GAMMA)
    other.load_state_dict(scaler.state_dict())
    spike = torch.tensor([[1e6], [-0.01]])
    assert scaler(spike, torch.zeros(3, 1, dtype=torch.bool)).equal(other(spike, torch.zeros(3, 1, dtype=torch.bool)))
    assert RewardScaler(1, GAMMA)(torch.tensor([[1e9], [1.0]]), torch.zeros(3, 1, dtype=torch.bool)).abs().max() <= 10
