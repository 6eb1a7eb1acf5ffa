"""Boxes against literal numbers and slow, plain references."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triathlon.training.supervised.pictures.boxes import (
    Found,
    area,
    average_precision,
    generalised_iou,
    iou,
    mean_average_precision,
    non_maximum_suppression,
    pairwise_iou,
)

Box = tuple[float, float, float, float]

A: Box = (0, 0, 4, 4)
CASES: list[tuple[Box, float, float]] = [  # IoU and GIoU with A
    (A, 1.0, 1.0),
    ((2, 0, 6, 4), 8 / 24, 8 / 24),
    ((2, 2, 6, 6), 4 / 28, 4 / 28 - 8 / 36),
    ((1, 1, 3, 3), 0.25, 0.25),
    ((6, 0, 8, 4), 0.0, -8 / 32),
    ((4, 4, 4, 4), 0.0, 0.0),
]


def plain_iou(a: Box, b: Box) -> float:
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either else 0.0


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, 8)), draw(st.integers(0, 8))
    return left, top, left + draw(st.integers(0, 6)), top + draw(st.integers(0, 6))


@pytest.mark.parametrize(("other", "expected", "generalised"), CASES)
def test_agreement_in_numbers(other: Box, expected: float, generalised: float) -> None:
    a, b = torch.tensor([A, other], dtype=torch.float64)
    assert float(iou(a, b)) == pytest.approx(expected)
    assert float(generalised_iou(a, b)) == pytest.approx(generalised)
    assert float(generalised_iou(b, a)) == pytest.approx(generalised)


def test_a_box_inside_out_has_no_area() -> None:
    assert area(torch.tensor([[3.0, 0, 1, 2], [0, 0, 2, 3]])).tolist() == [0.0, 6.0]


def test_far_boxes_are_drawn_together() -> None:
    """Boxes that do not touch have no gradient of their IoU, but of their generalised IoU."""
    near = torch.tensor([6.0, 0, 8, 4], requires_grad=True)
    generalised_iou(near, torch.tensor(A, dtype=torch.float32)).backward()
    assert near.grad is not None and float(near.grad[0]) < 0  # its left side wants to go left


@given(st.lists(boxes(), min_size=1, max_size=6), st.lists(boxes(), min_size=1, max_size=6))
def test_all_pairs_agree_as_a_loop_says(a: list[Box], b: list[Box]) -> None:
    table = pairwise_iou(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    assert table.shape == (len(a), len(b))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            assert float(table[i, j]) == pytest.approx(plain_iou(first, second))


# --- non-maximum suppression ------------------------------------------------------------------------------------------

Scored = list[tuple[Box, int, int]]  # boxes, scores in tenths, classes
SCORED = st.lists(st.tuples(boxes(), st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=12)


def plain_suppression(found: Scored, threshold: float) -> list[bool]:
    kept: list[int] = []
    for i in sorted(range(len(found)), key=lambda i: -found[i][1]):
        if all(found[j][2] != found[i][2] or plain_iou(found[j][0], found[i][0]) <= threshold for j in kept):
            kept.append(i)
    return [i in kept for i in range(len(found))]


def suppress(found: Scored, threshold: float) -> list[bool]:
    box, score, kind = (torch.tensor([each[i] for each in found], dtype=torch.float64) for i in range(3))
    kept: list[bool] = non_maximum_suppression(box, score, kind, threshold).tolist()
    return kept


def test_of_boxes_in_a_row_every_second_is_kept() -> None:
    """The second falls to the first, so the third, which only the second overlaps, stays; the fifth likewise."""
    row: Scored = [((3 * i, 0, 3 * i + 5, 2), 9 - i, 0) for i in range(5)]  # neighbours: 2 of 8
    assert suppress(row, 0.2) == [True, False, True, False, True]
    assert suppress(row, 0.3) == [True] * 5
    assert suppress([(box, score, i % 2) for i, (box, score, _) in enumerate(row)], 0.2) == [True] * 5


@given(SCORED, st.sampled_from([0.0, 0.1, 0.3, 0.55, 0.9]))
@settings(max_examples=200)
def test_suppression_is_the_loop(found: Scored, threshold: float) -> None:
    assert suppress(found, threshold) == plain_suppression(found, threshold)


@given(st.lists(SCORED.filter(lambda found: len(found) >= 3), min_size=2, max_size=3))
def test_pictures_side_by_side_are_suppressed_each_for_itself(pictures: list[Scored]) -> None:
    cut = [found[:3] for found in pictures]
    box, score, kind = (
        torch.tensor([[row[i] for row in found] for found in cut], dtype=torch.float64) for i in range(3)
    )
    assert non_maximum_suppression(box, score, kind, 0.3).tolist() == [plain_suppression(found, 0.3) for found in cut]


# --- average precision ------------------------------------------------------------------------------------------------

Row = tuple[int, Box, int]  # picture, box, score in tenths


def of(rows: list[Row], classes: list[int] | None = None) -> Found:
    return Found(
        torch.tensor([row[0] for row in rows], dtype=torch.long),
        torch.tensor([row[1] for row in rows], dtype=torch.float64).reshape(-1, 4),
        torch.tensor(classes or [0] * len(rows), dtype=torch.long),
        torch.tensor([row[2] for row in rows], dtype=torch.float64),
    )


def plain_average_precision(found: list[Row], truth: list[Row], threshold: float) -> float:
    """The rules of Pascal VOC 2010, box by box, and the area under the curve in steps of recall."""
    taken: set[int] = set()
    points: list[tuple[float, float]] = []  # recall, precision
    for number, (picture, box, _) in enumerate(sorted(found, key=lambda row: -row[2]), start=1):
        mine = [i for i, row in enumerate(truth) if row[0] == picture]
        best = max(mine, key=lambda i: plain_iou(box, truth[i][1]), default=None)
        if best is not None and best not in taken and plain_iou(box, truth[best][1]) >= threshold:
            taken.add(best)
        points.append((len(taken) / len(truth), len(taken) / number))
    return sum(
        max((precision for recall, precision in points if recall >= k / len(truth)), default=0.0) / len(truth)
        for k in range(1, len(truth) + 1)
    )


FAR: Box = (20, 20, 24, 24)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(0, A, 9), (0, FAR, 8), (1, A, 7)], 1.0),
        ([], 0.0),
        ([(2, A, 9)], 0.0),  # in the wrong picture
        ([(0, A, 9), (0, A, 8)], 1 / 3),  # the second says the same again
        ([(0, (9, 9, 10, 10), 9), (0, A, 8)], 0.5 / 3),
        ([(0, A, 9), (0, (9, 9, 10, 10), 8), (1, A, 7)], (1 + 2 / 3) / 3),
        ([(0, (0, 0, 4, 2), 9)], 1 / 3),  # IoU 0.5 is enough
        ([(0, (0, 0, 4, 1.9), 9)], 0.0),
    ],
)
def test_average_precision_in_numbers(found: list[Row], expected: float) -> None:
    truth: list[Row] = [(0, A, 0), (0, FAR, 0), (1, A, 0)]
    assert average_precision(of(found), of(truth)) == pytest.approx(expected)
    assert plain_average_precision(found, truth, 0.5) == pytest.approx(expected)


ROWS = st.lists(st.tuples(st.integers(0, 2), boxes(), st.integers(0, 9)), max_size=10)


@given(ROWS, ROWS.filter(bool), st.sampled_from([0.25, 0.5, 0.75]))
@settings(max_examples=200)
def test_average_precision_is_the_plain_one(found: list[Row], truth: list[Row], threshold: float) -> None:
    score = average_precision(of(found), of(truth), threshold)
    assert score == pytest.approx(plain_average_precision(found, truth, threshold))


def test_the_mean_is_over_classes_that_are_there() -> None:
    truth = of([(0, A, 0), (0, FAR, 0)], [0, 2])
    assert mean_average_precision(of([(0, A, 9), (0, FAR, 9)], [0, 1]), truth, 4) == 0.5
    assert mean_average_precision(of([(0, A, 9), (0, FAR, 9)], [0, 2]), truth, 4) == 1.0
    assert math.isnan(mean_average_precision(truth, of([]), 4))
    assert math.isnan(average_precision(truth, of([])))
