"""How good a few runs are, and how sure one can be of it. N scores (runs or episodes), M tasks.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", sections 4.1 and 4.3.
Written out because importing scipy.stats takes longer than a short evaluation; the tests hold it to scipy's results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and interquartile mean of scores, each with its confidence interval `(low, high)`."""

    num_scores: int
    mean: float
    mean_interval: tuple[float, float]
    iqm: float
    iqm_interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.mean_interval
        return f"{self.mean:.1f} (95 % interval {low:.1f} to {high:.1f}), interquartile mean {self.iqm:.1f}"


def summarize(
    scores: ArrayLike, rng: np.random.Generator, confidence: float = 0.95, num_resamples: int = 2_000
) -> Summary:
    """Summarise scores `[N]` of one task or `[N, M]` of M tasks by percentile bootstrap, resampling within each task.

    Raises:
        ValueError: there are no scores.
    """
    values = np.asarray(scores, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size:
        raise ValueError(f"scores should be [N] or [N, M] and not empty, found shape {list(np.shape(scores))}")
    num_scores, num_tasks = values.shape
    means, iqms = np.empty(num_resamples), np.empty(num_resamples)
    for i in range(num_resamples):
        drawn = np.take_along_axis(values, rng.integers(num_scores, size=(num_scores, num_tasks)), axis=0)
        means[i], iqms[i] = drawn.mean(), interquartile_mean(drawn)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    return Summary(
        num_scores=num_scores,
        mean=float(values.mean()),
        mean_interval=_interval(means, tails),
        iqm=interquartile_mean(values),
        iqm_interval=_interval(iqms, tails),
    )


def interquartile_mean(scores: ArrayLike) -> float:
    """The mean of the middle half of all scores, of which a quarter (rounded down) is left out at each end."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=None)
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


def _interval(resamples: NDArray[np.float64], tails: list[float]) -> tuple[float, float]:
    low, high = np.percentile(resamples, tails)
    return float(low), float(high)
