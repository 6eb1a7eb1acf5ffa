"""The statistics agree with scipy, with worked numbers, and with what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triathlon.training.statistics import interquartile_mean, summarize

SCORES = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e3, 1e3))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_interquartile_mean_of_worked_numbers() -> None:
    assert interquartile_mean([1000, 2, 3, -50]) == 2.5
    assert interquartile_mean([1, 2, 3, 4, 5, 6, 7, 800]) == 4.5
    assert interquartile_mean([5]) == 5
    assert interquartile_mean([1, 2, 6]) == 3  # a quarter of three is nobody


@given(SCORES)
def test_interquartile_mean_is_the_trimmed_mean(scores: np.ndarray) -> None:
    assert interquartile_mean(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25), abs=1e-9)


def test_intervals_agree_with_scipy() -> None:
    scores = np.random.default_rng(1).gamma(2.0, 50.0, 40)
    found = summarize(scores, rng(), num_resamples=4000)
    expected = scipy.stats.bootstrap((scores,), np.mean, n_resamples=4000, method="percentile", rng=rng(2))
    assert found.mean == pytest.approx(scores.mean())
    assert found.mean_interval == pytest.approx(tuple(expected.confidence_interval), rel=0.02)
    assert found.iqm_interval[0] < found.iqm < found.iqm_interval[1]


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(3).normal(10.0, 2.0, (120, 30))
    intervals = [summarize(scores, rng(4), num_resamples=200).mean_interval for scores in draws]
    covered = np.mean([low <= 10.0 <= high for low, high in intervals])
    assert 0.88 <= covered <= 0.98


def test_resampling_stays_within_each_task() -> None:
    scores = np.array([[0.0, 100.0], [0.0, 100.0], [0.0, 100.0]])  # no task varies, though the tasks differ
    found = summarize(scores, rng())
    assert found.mean == 50
    assert found.mean_interval == (50, 50)
    assert summarize(scores.ravel(), rng()).mean_interval[0] < 50  # as one task they would vary


def test_equal_scores_leave_no_doubt() -> None:
    found = summarize([500.0] * 100, rng())
    assert (found.mean, found.mean_interval, found.iqm, found.iqm_interval) == (500, (500, 500), 500, (500, 500))
    assert str(found) == "500.0 (95 % interval 500.0 to 500.0), interquartile mean 500.0"


def test_the_same_generator_gives_the_same_interval() -> None:
    scores = np.random.default_rng(7).normal(size=20)
    assert summarize(scores, rng(5)) == summarize(scores, rng(5))
    assert summarize(scores, rng(5)) != summarize(scores, rng(6))
    narrow, wide = summarize(scores, rng(5), confidence=0.5), summarize(scores, rng(5))
    assert wide.mean_interval[0] < narrow.mean_interval[0]
    assert narrow.mean_interval[1] < wide.mean_interval[1]


@pytest.mark.parametrize("scores", [[], [[]], np.zeros((2, 2, 2))])
def test_nothing_to_summarise(scores: object) -> None:
    with pytest.raises(ValueError, match="scores should be"):
        summarize(scores, rng())
