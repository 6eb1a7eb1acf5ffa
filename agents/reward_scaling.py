"""Rewards as the learner sees them; the environment's own returns stay what they are.

T rows in time, B columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.ranks import ALONE, Ranks
from triathlon.agents.segment import Segment


class RewardScaler:
    """Divides rewards by the running standard deviation of the discounted return and clips them.

    What is kept to be learned from later is kept as it was paid, and scaled by the statistics of then.

    The centre is left alone, so the sign of a reward and the best policy stay as they are. (Engstrom et al. 2020,
    "Implementation Matters in Deep RL", section 3, "reward scaling"; the rule of Stable-Baselines3's VecNormalize.)
    """

    def __init__(
        self, num_columns: int, gamma: float, ranks: Ranks = ALONE, clip: float = 10.0, epsilon: float = 1e-8
    ) -> None:
        self._ranks = ranks
        self.gamma, self.clip, self.epsilon = gamma, clip, epsilon
        self._discounted = np.zeros(num_columns)
        self._mean, self._var, self._count = 0.0, 1.0, 1e-4

    def __call__(self, reward: Tensor, is_first: Tensor) -> Tensor:
        """Take in `reward [T, B]` of rows with `is_first [T+1, B]`; returns them scaled `[T, B]`."""
        self.take_in(reward, is_first)
        return torch.from_numpy(self.scale(reward.cpu().numpy())).to(reward.device)

    def scaled(self, segment: Segment) -> Segment:
        """Take in the rewards of a segment `[T+1, B]` on the host; returns it with its T rows' rewards scaled."""
        reward = self(segment.reward[:-1], segment.is_first)
        return replace(segment, reward=torch.cat([reward, segment.reward[-1:]]))

    def take_in(self, reward: Tensor, is_first: Tensor) -> None:
        """Add the discounted returns up to `reward [T, B]`, of rows with `is_first [T+1, B]`, to the statistics."""
        raw, first = reward.cpu().numpy().astype(np.float64), is_first.cpu().numpy()
        returns = np.empty_like(raw)
        for t in range(raw.shape[0]):
            self._discounted = np.where(first[t], 0.0, self._discounted) * self.gamma + raw[t]
            returns[t] = self._discounted
        self._merge(returns[~first[1:]])

    def scale(self, reward: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rewards of any shape by the statistics so far."""
        deviation = np.float32(np.sqrt(self._var + self.epsilon))
        scaled: NDArray[np.float32] = np.clip(reward / deviation, -self.clip, self.clip, dtype=np.float32)
        return scaled

    def _merge(self, sample: np.ndarray) -> None:
        """Chan, Golub and LeVeque's parallel update of mean and variance, by the samples of all processes in turn."""
        of_all = self._ranks.gather(sample.size, *((sample.mean(), sample.var()) if sample.size else (0.0, 0.0)))
        for size, mean, var in zip(*of_all, strict=True):
            if not size:
                continue
            delta, total = mean - self._mean, self._count + size
            square = self._var * self._count + var * size
            self._var = (square + delta**2 * self._count * size / total) / total
            self._mean += delta * size / total
            self._count = total

    def state_dict(self) -> dict[str, Any]:
        """The statistics and the returns of the episodes under way."""
        return {"discounted": self._discounted, "mean": self._mean, "var": self._var, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._discounted = np.asarray(state["discounted"])
        self._mean, self._var, self._count = state["mean"], state["var"], state["count"]
