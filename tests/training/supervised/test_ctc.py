"""Connectionist temporal classification against all paths, one by one. T rows, K tokens with the blank (0)."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from triathlon.training.supervised.sounds.ctc import (
    beam_search,
    collapse,
    ctc_loss,
    edit_distance,
    error_rate,
    greedy,
    rows_needed,
)

# At each of two rows the blank has 0.6 and token 1 has 0.4. The likeliest path says nothing (0.36), but the three paths
# that say token 1 have 0.64 together.
TWO_ROWS = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()


def all_texts(log_probability: Tensor) -> dict[tuple[int, ...], float]:
    """The probability of every text, as the sum over all K^T paths."""
    rows = log_probability.double().exp().tolist()
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(len(rows[0])), repeat=len(rows)):
        found[tuple(collapse(path))] += math.prod(row[k] for row, k in zip(rows, path, strict=True))
    return found


@st.composite
def distributions(draw: st.DrawFn) -> Tensor:
    num_rows, num_tokens = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    logits = torch.randn(num_rows, num_tokens, generator=torch.Generator().manual_seed(draw(st.integers(0, 10**6))))
    return (2 * logits).log_softmax(-1)


def test_repetitions_are_one_token_and_blanks_none() -> None:
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0, 0]) == [1, 1, 2]
    assert collapse([0, 0]) == []


def test_the_likeliest_path_does_not_say_the_likeliest_text() -> None:
    assert greedy(TWO_ROWS) == []
    text, log_probability = beam_search(TWO_ROWS, 4)
    assert text == [1]
    assert math.exp(log_probability) == pytest.approx(0.64)
    assert beam_search(TWO_ROWS, 1)[0] == []  # token 1 was dropped after the first row


def test_a_token_twice_needs_a_blank_between() -> None:
    rows = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.1, 0.9]])
    text, log_probability = beam_search(rows.log(), 8)
    assert text == [1, 1]
    assert math.exp(log_probability) == pytest.approx(0.9 * 0.8 * 0.9)
    assert rows_needed([1, 1]) == 3 and rows_needed([1, 2]) == 2 and rows_needed([]) == 0


@given(distributions())
def test_a_beam_that_drops_nothing_finds_the_likeliest_of_all_texts(log_probability: Tensor) -> None:
    truth = all_texts(log_probability)
    assert sum(truth.values()) == pytest.approx(1.0)
    text, found = beam_search(log_probability, 10_000)
    assert math.exp(found) == pytest.approx(max(truth.values()))
    assert truth[tuple(text)] == pytest.approx(max(truth.values()))


@given(distributions(), st.integers(1, 6))
def test_a_beam_that_drops_some_never_claims_too_much(log_probability: Tensor, size: int) -> None:
    truth = all_texts(log_probability)
    text, found = beam_search(log_probability, size)
    assert math.exp(found) <= truth[tuple(text)] + 1e-9


@given(distributions())
def test_the_greedy_text_is_that_of_the_likeliest_path(log_probability: Tensor) -> None:
    rows = log_probability.tolist()
    paths = itertools.product(range(len(rows[0])), repeat=len(rows))
    best = max(paths, key=lambda path: sum(row[k] for row, k in zip(rows, path, strict=True)))
    assert greedy(log_probability) == collapse(best)


@given(distributions(), st.data())
def test_the_loss_is_that_of_all_paths_that_say_the_text(log_probability: Tensor, data: st.DataObject) -> None:
    truth = {text: p for text, p in all_texts(log_probability).items() if text}
    texts = data.draw(st.lists(st.sampled_from(sorted(truth)), min_size=1, max_size=3))
    target = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
    for row, text in zip(target, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    num_rows = len(log_probability)
    filler = torch.full((2, log_probability.shape[1]), -3.0)  # rows after the end, which must not count
    logits = torch.cat([log_probability, filler]).unsqueeze(1).expand(-1, len(texts), -1)
    loss = ctc_loss(logits, torch.full((len(texts),), num_rows), target)
    expected = sum(-math.log(truth[text]) / len(text) for text in texts) / len(texts)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("kitten", "sitting", 3), ("abc", "", 3), ("", "ab", 2), ("saturday", "sunday", 3), ("ab", "ba", 2)],
)
def test_edits_are_counted(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance


@given(st.text("ab", max_size=5), st.text("ab", max_size=5), st.text("ab", max_size=5))
def test_a_detour_costs_no_fewer_edits(a: str, b: str, c: str) -> None:
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_error_rates_are_per_word_that_was_said() -> None:
    said, heard = ["one two three", "four"], ["one three", "four five"]
    words = error_rate([text.split() for text in said], [text.split() for text in heard])
    assert words == pytest.approx(2 / 4)
    assert error_rate(said, heard) == pytest.approx((4 + 5) / (13 + 4))
    assert error_rate([["one"]], [["one", "two", "three"]]) == 2.0
