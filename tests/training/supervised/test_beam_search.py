"""Beam search against looking at everything there is, and against numbers worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triathlon.networks.backbone import State
from triathlon.training.supervised.texts.beam_search import beam_search, length_penalty

END, NUM_TOKENS, MAX_LENGTH = 2, 3, 4


def test_the_length_penalty_is_the_papers() -> None:
    assert length_penalty(1, 0.6).item() == 1.0
    assert length_penalty(7, 0.6).item() == pytest.approx(1.515717)  # 2 ** 0.6
    assert length_penalty(13, 1.0).item() == pytest.approx(3.0)
    assert length_penalty(9, 0.0).item() == 1.0


def made_up(seed: int, batch_size: int) -> Tensor:
    """Log-probabilities `[B, 3 ** 4, V]` of what follows each history, which is numbered in base 3."""
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(batch_size, NUM_TOKENS**MAX_LENGTH, NUM_TOKENS, generator=generator)).log_softmax(-1)


def search(table: Tensor, beam_size: int, alpha: float) -> list[tuple[list[int], float]]:
    """A search whose memory is the sentence, the history and how long it is: every beam must keep its own."""

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        sentence, history, length = state
        history = torch.where(length > 0, history * NUM_TOKENS + tokens, history)
        return table[sentence, history * (NUM_TOKENS ** (MAX_LENGTH - 1 - length))], (sentence, history, length + 1)

    size = len(table)
    state = (torch.arange(size), torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long))
    found = beam_search(step, state, END, END, size, beam_size, torch.full((size,), MAX_LENGTH), alpha)
    return [(one.tokens, one.score) for one in found]


def everything(table: Tensor, alpha: float) -> tuple[list[int], float]:
    """The best of all sequences of one sentence."""
    best: tuple[list[int], float] = ([], -math.inf)
    for length in range(1, MAX_LENGTH + 1):
        for tokens in itertools.product(range(NUM_TOKENS), repeat=length):
            if END in tokens[:-1] or (tokens[-1] != END and length < MAX_LENGTH):
                continue
            history, score = 0, 0.0
            for place, token in enumerate(tokens):
                score += table[history * NUM_TOKENS ** (MAX_LENGTH - 1 - place), token].item()
                history = history * NUM_TOKENS + token
            score /= ((5 + length) / 6) ** alpha
            if score > best[1]:
                best = (list(tokens), score)
    return best


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.6, 2.0]))
def test_with_beams_enough_nothing_is_missed(seed: int, alpha: float) -> None:
    table = made_up(seed, 3)
    for sentence, (tokens, score) in enumerate(search(table, 40, alpha)):
        expected = everything(table[sentence], alpha)
        assert tokens == expected[0]
        assert score == pytest.approx(expected[1], rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_one_beam_takes_the_likeliest_token_each_time(seed: int) -> None:
    table = made_up(seed, 2)
    for sentence, (tokens, _) in enumerate(search(table, 1, 0.6)):
        history, expected = 0, []
        for place in range(MAX_LENGTH):
            expected.append(int(table[sentence, history * NUM_TOKENS ** (MAX_LENGTH - 1 - place)].argmax()))
            history = history * NUM_TOKENS + expected[-1]
            if expected[-1] == END:
                break
        assert tokens == expected


def test_two_beams_find_what_a_greedy_choice_walks_past() -> None:
    # A token of 0.6 is followed by two of 0.5 each, one of 0.4 by the end with 0.9: 0.6 * 0.5 = 0.3 < 0.4 * 0.9 = 0.36.
    after = {(): [0.6, 0.4, 0.0], (0,): [0.25, 0.25, 0.5], (1,): [0.05, 0.05, 0.9]}

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        (length,) = state
        rows = [after[()] if n == 0 else after.get((int(t),), [0, 0, 1.0]) for t, n in zip(tokens, length, strict=True)]
        return torch.tensor(rows).log(), (length + 1,)

    def found(beam_size: int) -> tuple[list[int], float]:
        (one,) = beam_search(step, (torch.zeros(1, dtype=torch.long),), END, END, 1, beam_size, torch.tensor([4]), 0.0)
        return one.tokens, one.score

    assert found(1) == ([0, END], pytest.approx(math.log(0.30)))
    assert found(2) == ([1, END], pytest.approx(math.log(0.36)))


def test_a_length_penalty_chooses_the_longer_one() -> None:
    # The end at once has 0.5; two tokens and the end have 0.5 * 0.8 * 0.8 = 0.32.
    rows = {0: [0.5, 0.0, 0.5], 1: [0.8, 0.1, 0.1], 2: [0.1, 0.1, 0.8]}

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        (length,) = state
        return torch.tensor([rows[int(n)] for n in length]).log(), (length + 1,)

    def found(alpha: float) -> tuple[list[int], float]:
        (one,) = beam_search(step, (torch.zeros(1, dtype=torch.long),), END, END, 1, 3, torch.tensor([3]), alpha)
        return one.tokens, one.score

    assert found(0.0) == ([END], pytest.approx(-0.693147))
    # log 0.32 = -1.139434, (8 / 6) ** 2 = 1.777778
    assert found(2.0) == ([0, 0, END], pytest.approx(-0.640932, rel=1e-5))


def test_each_sentence_is_cut_off_after_a_length_of_its_own() -> None:
    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        return torch.tensor([[0.9, 0.09, 0.01]]).log().expand(len(tokens), 3), state

    found = beam_search(step, (torch.zeros(2, 1),), END, END, 2, 2, torch.tensor([3, 1]), 0.0)
    assert [one.tokens for one in found] == [[0, 0, 0], [0]]
    assert found[0].score == pytest.approx(3 * math.log(0.9))
