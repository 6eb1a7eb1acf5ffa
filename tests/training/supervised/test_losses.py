"""Losses and measures against numbers worked out by hand, and against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from triathlon.training.supervised.losses import accuracy, auroc, balancing_weights, confusion, cross_entropy, macro_f1

LOGITS = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]]))
TARGET = torch.tensor([0, 1])


def test_cross_entropy_is_minus_the_mean_log_probability() -> None:
    expected = -(math.log(0.7) + math.log(0.25)) / 2
    assert cross_entropy(LOGITS, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    first = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    second = -(0.1 * math.log(0.25) + 0.8 * math.log(0.25) + 0.1 * math.log(0.5))
    assert cross_entropy(LOGITS, TARGET, smoothing=0.3).item() == pytest.approx((first + second) / 2, abs=1e-6)


def test_weights_count_in_the_sum_and_in_what_it_is_divided_by() -> None:
    expected = -(1 * math.log(0.7) + 3 * math.log(0.25)) / 4
    weights = torch.tensor([1.0, 3.0, 9.0])
    assert cross_entropy(LOGITS, TARGET, weights=weights).item() == pytest.approx(expected, abs=1e-6)


def test_rows_that_are_padding_do_not_count() -> None:
    valid = torch.tensor([[True, False]])
    assert cross_entropy(LOGITS[None], TARGET[None], valid=valid).item() == pytest.approx(-math.log(0.7), abs=1e-6)


def test_balancing_weights() -> None:
    weights = balancing_weights(np.array([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([4 / 9, 0.0, 4 / 3])


def test_measures_of_a_small_table() -> None:
    table = confusion(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 3)
    assert table.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert accuracy(table) == 0.6
    assert macro_f1(table) == pytest.approx((2 / 4 + 4 / 6) / 2)  # the third class is absent


def test_auroc_of_a_few_scores() -> None:
    # Of the 2 x 3 pairs the positive is higher in 4 and ties in 1.
    score, positive = np.array([0.9, 0.4, 0.4, 0.1, 0.5]), np.array([True, True, False, False, False])
    assert auroc(score, positive) == pytest.approx(4.5 / 6)
    assert math.isnan(auroc(score, np.ones(5, bool)))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_measures_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    target, guess = np.array(pairs).T
    table = confusion(target, guess, 4)
    assert table.tolist() == confusion_matrix(target, guess, labels=range(4)).tolist()
    assert accuracy(table) == pytest.approx(accuracy_score(target, guess))
    assert macro_f1(table) == pytest.approx(f1_score(target, guess, average="macro"))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_auroc_agrees_with_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    score, positive = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    if positive.any() and not positive.all():
        assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))
