"""Batches, splits, pooling and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triathlon.training.supervised.examples import Examples, parts
from triathlon.training.supervised.heads import ClassHead, drop, pool
from triathlon.training.supervised.pictures.augmentation import erase, flip, shift


def sentences() -> Examples:
    obs = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 0, 0], [7, 8, 9, 10]])
    return Examples(obs, np.array([0, 1, 0, 1]), np.array([3, 1, 2, 4]))


def test_a_batch_has_time_first_and_is_cut_to_its_longest() -> None:
    batch = sentences().batch(np.array([2, 0]))
    assert batch.obs.tolist() == [[5, 1], [6, 2], [0, 3]]
    assert batch.length is not None and batch.length.tolist() == [2, 3]
    assert batch.target.tolist() == [0, 0]


def test_measuring_sees_all_once_and_in_order() -> None:
    assert [batch.target.tolist() for batch in sentences().in_order(3)] == [[0, 1, 0], [1]]


@given(st.integers(1, 40), st.integers(1, 50))
def test_an_epoch_is_whole_batches_of_different_examples(num: int, batch_size: int) -> None:
    examples = Examples(np.zeros((num, 1, 2)), np.zeros(num))
    order = examples.order(batch_size, np.random.default_rng(0))
    seen = np.concatenate(order)
    assert {len(indices) for indices in order} == {min(num, batch_size)}
    assert len(set(seen.tolist())) == len(seen)
    assert num - len(seen) < min(num, batch_size)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 9))
def test_an_epoch_has_every_example_of_any_length_once_at_most(lengths: list[int], size: int, seed: int) -> None:
    examples = Examples(np.zeros((len(lengths), 9)), np.zeros(len(lengths)), np.array(lengths))
    order = examples.order(size, np.random.default_rng(seed))
    size = min(size, len(lengths))
    assert all(len(batch) == size for batch in order) and len(order) == len(lengths) // size
    assert len(np.unique(np.concatenate(order))) == len(order) * size
    assert np.array_equal(order, examples.order(size, np.random.default_rng(seed)))


def test_batches_of_similar_length_have_little_padding() -> None:
    length = np.random.default_rng(0).integers(1, 101, 640)
    lengthy = Examples(np.zeros((640, 100)), np.zeros(640), length)
    shuffled = Examples(np.zeros((640, 100)), np.zeros(640))  # which knows no lengths
    padding, batches = [], []
    for examples in (lengthy, shuffled):
        order = examples.order(16, np.random.default_rng(1))
        assert sorted(np.concatenate(order)) == list(range(640))
        padding.append(sum(int((length[batch].max() - length[batch]).sum()) for batch in order))
        batches.append([batch.tolist() for batch in order])
    assert padding[0] < 0.25 * padding[1]
    assert lengthy.batch(np.array(batches[0][0])).obs.shape[0] == length[batches[0][0]].max()
    longest = [int(length[batch].max()) for batch in batches[0]]
    assert longest != sorted(longest)  # the batches come in any order
    again = [set(batch) for batch in lengthy.order(16, np.random.default_rng(2))]
    assert not any(set(batch) in again for batch in batches[0])  # another epoch has other batches


@given(st.integers(2, 200), st.floats(0.01, 0.9))
def test_parts_share_nothing_and_leave_nothing(num: int, share: float) -> None:
    first, second = parts(num, share)
    assert sorted([*first, *second]) == list(range(num))
    assert len(second) == max(1, round(share * num))


@given(st.integers(5, 200))
def test_every_example_is_in_the_second_part_of_one_fold(num: int) -> None:
    folds = [parts(num, 0.2, fold) for fold in range(5)]
    assert sorted(i for _, second in folds for i in second) == list(range(num))
    assert all(sorted([*first, *second]) == list(range(num)) and len(second) for first, second in folds)


@pytest.mark.parametrize("num", [2, 3, 4])
def test_few_examples_leave_no_fold_empty(num: int) -> None:
    for first, second in (parts(num, 0.2, fold) for fold in range(5)):
        assert len(second) == 1 and sorted([*first, *second]) == list(range(num))


def test_pooling_reads_only_rows_that_are_no_padding() -> None:
    features = torch.tensor([[[1.0], [2.0]], [[3.0], [9.0]], [[8.0], [9.0]]])  # [T=3, B=2, D=1]
    length = torch.tensor([3, 1])
    assert pool(features, length, "last").tolist() == [[8.0], [2.0]]
    assert pool(features, length, "mean").tolist() == [[4.0], [2.0]]
    assert pool(features, length, "max").tolist() == [[8.0], [2.0]]
    assert pool(features, None, "last").tolist() == [[8.0], [9.0]]
    assert pool(features, None, "mean").flatten().tolist() == pytest.approx([4.0, 20 / 3])
    assert pool(features, None, "max").tolist() == [[8.0], [9.0]]


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_padding_changes_no_answer(pooling: str) -> None:
    head = ClassHead(2, 3, pooling, 0.5)
    features = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0))
    length = torch.tensor([5, 2, 3, 1])
    other = features.clone()
    for column, rows in enumerate(length.tolist()):
        other[rows:, column] = 100.0
    assert torch.equal(head(features, length, None), head(other, length, None))


def test_dropout_keeps_the_mean_and_needs_a_generator() -> None:
    x = torch.ones(20_000)
    dropped = drop(x, 0.25, torch.Generator().manual_seed(0))
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert drop(x, 0.25, None) is x


def test_a_shift_moves_whole_pictures_and_brings_in_zeros() -> None:
    picture = np.zeros((50, 5, 5), np.uint8)
    picture[:, 2, 2] = 7
    moved = shift(picture, 2, np.random.default_rng(0))
    places = {tuple(np.argwhere(p)[0]) for p in moved}
    assert (moved.sum((1, 2)) == 7).all()
    assert len(places) > 12 and {r for r, _ in places} == {c for _, c in places} == {0, 1, 2, 3, 4}


def test_a_shift_beyond_the_edge_loses_what_leaves() -> None:
    colours = np.ones((30, 3, 3, 2), np.uint8)
    moved = shift(colours, 1, np.random.default_rng(0))
    assert moved.shape == colours.shape
    assert set(moved.sum((1, 2, 3)).tolist()) == {2 * 9, 2 * 6, 2 * 4}


def test_a_flip_mirrors_about_half() -> None:
    pictures = np.tile(np.array([[1, 2, 3], [4, 5, 6]], np.uint8), (100, 1, 1))
    flipped = flip(pictures, np.random.default_rng(0))
    mirrored = [p.tolist() == [[3, 2, 1], [6, 5, 4]] for p in flipped]
    assert 30 < sum(mirrored) < 70
    assert all(p.tolist() == [[1, 2, 3], [4, 5, 6]] for p, m in zip(flipped, mirrored, strict=True) if not m)


def test_what_is_erased_is_one_rectangle_and_nothing_else_changes() -> None:
    pictures = np.zeros((400, 20, 30, 3), np.uint8)
    erased = erase(pictures, 0.25, np.random.default_rng(0))
    assert not pictures.any()
    changed = (erased != 0).any(-1)  # noise is 0 in all three channels once in 16 million pixels
    found = changed[changed.any((1, 2))]
    assert 70 < len(found) < 130
    for picture in found:
        (top, left), (bottom, right) = np.argwhere(picture).min(0), np.argwhere(picture).max(0)
        assert picture[top : bottom + 1, left : right + 1].all()
    covered = found.mean((1, 2))
    assert 0.01 < covered.min() < 0.05 and 0.35 < covered.max() < 0.43  # sides are rounded
    assert 120 < erased[changed].mean() < 135


def test_erasing_with_certainty_leaves_no_picture_as_it_was() -> None:
    pictures = np.full((50, 6, 6), 7, np.uint8)
    assert (erase(pictures, 1.0, np.random.default_rng(0)) != 7).any((1, 2)).all()
    assert np.array_equal(erase(pictures, 0.0, np.random.default_rng(0)), pictures)
