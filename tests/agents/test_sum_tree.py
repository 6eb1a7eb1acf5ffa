"""The sum tree against running sums of a plain array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.agents.sum_tree import SumTree


def test_find_literal() -> None:
    tree = SumTree(5)
    tree.set(np.array([0, 2, 3]), np.array([1.0, 2.0, 0.5]))
    # running sums: 1, 1, 3, 3.5, 3.5
    assert tree.find(np.array([0, 0.99, 1, 2.99, 3, 3.49])).tolist() == [0, 0, 2, 2, 3, 3]
    assert (tree.total, tree.smallest) == (3.5, 0.5)
    tree.set(np.array([3, 3]), np.array([7.0, 0.0]))  # the later one stands
    assert (tree.total, tree.smallest) == (3, 1)
    assert tree.get(np.array([3, 2])).tolist() == [0, 2]


def test_empty() -> None:
    tree = SumTree(3)
    assert (tree.total, tree.smallest) == (0, np.inf)


@given(st.sampled_from([1, 31, 32, 33, 1024, 1025, 5000]), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_against_an_array(capacity: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for _ in range(4):
        leaf = generator.integers(0, capacity, generator.integers(1, 200))
        priority = generator.random(len(leaf)) * (generator.random(len(leaf)) < 0.6)
        tree.set(leaf, priority)
        plain[leaf] = priority
    np.testing.assert_array_equal(tree.get(np.arange(capacity)), plain)
    if not plain.any():
        return
    assert tree.total == pytest.approx(plain.sum())
    assert tree.smallest == plain[plain > 0].min()
    middles = (plain.cumsum() - plain / 2)[plain > 0]
    assert tree.find(middles).tolist() == np.flatnonzero(plain).tolist()
    # even a prefix that rounding has carried to the total finds a leaf that may be drawn
    assert (plain[tree.find(np.full(3, tree.total))] > 0).all()
    again = SumTree(capacity)
    again.load_state_dict(tree.state_dict())
    drawn = [t.sample(50, np.random.default_rng(1)).tolist() for t in (tree, again)]
    assert drawn[0] == drawn[1]
    assert (plain[drawn[0]] > 0).all()


def test_samples_are_stratified_and_shuffled() -> None:
    tree = SumTree(100)
    tree.set(np.arange(100), np.repeat([1.0, 3.0], 50))  # total 200: each share of 2 is two leaves of 1, or 2/3 of one
    drawn = tree.sample(100, np.random.default_rng(0))
    assert (drawn < 50).sum() == 25 and (drawn >= 50).sum() == 75  # exactly, not only on average
    assert abs((drawn[:50] < 50).sum() - 12.5) < 9  # and either half is a fair minibatch
