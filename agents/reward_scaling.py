"""Rewards as the learner sees them; the environment's own returns stay what they are.

T rows in time, B columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class RewardScaler:
    """Divides rewards by the running standard deviation of the discounted return and clips them.

    The centre is left alone, so the sign of a reward and the best policy stay as they are. (Engstrom et al. 2020,
    "Implementation Matters in Deep RL", section 3, "reward scaling"; the rule of Stable-Baselines3's VecNormalize.)
    """

    def __init__(self, num_columns: int, gamma: float, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        self.gamma, self.clip, self.epsilon = gamma, clip, epsilon
        self._discounted = np.zeros(num_columns)
        self._mean, self._var, self._count = 0.0, 1.0, 1e-4

    def __call__(self, reward: Tensor, is_first: Tensor) -> Tensor:
        """Take `reward [T, B]` of rows with `is_first [T+1, B]` into the statistics; returns them scaled `[T, B]`."""
        raw, first = reward.cpu().numpy().astype(np.float64), is_first.cpu().numpy()
        returns = np.empty_like(raw)
        for t in range(raw.shape[0]):
            self._discounted = np.where(first[t], 0.0, self._discounted) * self.gamma + raw[t]
            returns[t] = self._discounted
        self._merge(returns[~first[1:]])
        scaled = np.clip(raw / np.sqrt(self._var + self.epsilon), -self.clip, self.clip)
        return torch.from_numpy(scaled.astype(np.float32)).to(reward.device)

    def _merge(self, sample: np.ndarray) -> None:
        """Chan, Golub and LeVeque's parallel update of mean and variance."""
        if not sample.size:
            return
        delta, total = float(sample.mean()) - self._mean, self._count + sample.size
        square = self._var * self._count + float(sample.var()) * sample.size
        self._var = (square + delta**2 * self._count * sample.size / total) / total
        self._mean += delta * sample.size / total
        self._count = total

    def state_dict(self) -> dict[str, Any]:
        """The statistics and the returns of the episodes under way."""
        return {"discounted": self._discounted, "mean": self._mean, "var": self._var, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._discounted = np.asarray(state["discounted"])
        self._mean, self._var, self._count = state["mean"], state["var"], state["count"]
