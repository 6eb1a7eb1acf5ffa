"""V-trace by hand, against its definition written as a double sum, and in PPO. T rows, B columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triathlon.agents.returns import gae, lambda_returns, vtrace

Practise = Callable[..., Any]

GAMMA, LAMBDA = 0.5, 0.5


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def flags(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool).unsqueeze(1)


# Six rows: episode one is rows 0-2 (row 2 its last observation), episode two begins at row 3 and goes on past the end.
REWARD = column(1, 2, 0, 4, 8)
VALUE = column(10, 20, 30, 40, 50, 60)
IS_FIRST = flags(1, 0, 0, 1, 0, 0)
TRUNCATED, TERMINATED = flags(0, 0, 0, 0, 0), flags(0, 1, 0, 0, 0)
SIGN = column(-1, 1, 1, -1, -1)  # the mover changes after rows 0, 3 and 4, and moves twice at row 1
LOG_RATIO = column(2, 0.5, 7, 4, 0.25).log()


@pytest.mark.parametrize(
    ("terminated", "sign", "rho_clip", "c_clip", "targets", "advantage", "rho"),
    [
        # Errors d: 1, -3, (not valid), -11, -12. rho and c: 1, .5, -, 1, .25; c is halved by lambda.
        # x4 = .25*-12 = -3, x3 = -11 + .5*.5*-3 = -11.75, x1 = .5*-3 = -1.5, x0 = 1 + .5*.5*-1.5 = .625
        # a3 = -11 + .25*-3 = -11.75, a0 = 1 + .25*-1.5 = .625
        (TRUNCATED, None, 1, 1, [10.625, 18.5, 30, 28.25, 47], [0.625, -3, 0, -11.75, -12], [1, 0.5, 0, 1, 0.25]),
        # rho 2, .5, -, 2, .25: x3 = -22 + .25*-3 = -22.75, x0 = 2 + .25*-1.5 = 1.625; the advantages as before
        (TRUNCATED, None, 2, 1, [11.625, 18.5, 30, 17.25, 47], [0.625, -3, 0, -11.75, -12], [2, 0.5, 0, 2, 0.25]),
        # c .5, .5, -, .5, .25: x3 = -11 + .5*.25*-3 = -11.375, x0 = 1 + .125*-1.5 = .8125; the advantages as before
        (TRUNCATED, None, 1, 0.5, [10.8125, 18.5, 30, 28.625, 47], [0.625, -3, 0, -11.75, -12], [1, 0.5, 0, 1, 0.25]),
        # d1 = 2 - 20 = -18: x1 = -9, x0 = 1 + .25*-9 = -1.25
        (TERMINATED, None, 1, 1, [8.75, 11, 30, 28.25, 47], [-1.25, -18, 0, -11.75, -12], [1, 0.5, 0, 1, 0.25]),
        # d: -19, -3, -, -61, -72. x4 = -18, x3 = -61 - .25*-18 = -56.5, x1 = -1.5, x0 = -19 - .25*-1.5 = -18.625
        (TRUNCATED, SIGN, 1, 1, [-8.625, 18.5, 30, -16.5, 32], [-18.625, -3, 0, -56.5, -72], [1, 0.5, 0, 1, 0.25]),
    ],
    ids=["clipped", "rho clipped at 2", "c clipped at a half", "terminated", "two sides"],
)
def test_by_hand(
    terminated: Tensor,
    sign: Tensor | None,
    rho_clip: float,
    c_clip: float,
    targets: list[float],
    advantage: list[float],
    rho: list[float],
) -> None:
    found = vtrace(LOG_RATIO, REWARD, VALUE, terminated, IS_FIRST, GAMMA, LAMBDA, rho_clip, c_clip, sign)
    assert found.targets.squeeze(1).tolist() == pytest.approx(targets)
    assert found.advantage.squeeze(1).tolist() == pytest.approx(advantage)
    assert found.rho.squeeze(1).tolist() == pytest.approx(rho)


@pytest.mark.parametrize("terminated", [TRUNCATED, TERMINATED])
@pytest.mark.parametrize("sign", [None, SIGN])
def test_on_policy_it_is_the_lambda_return_and_gae(terminated: Tensor, sign: Tensor | None) -> None:
    found = vtrace(torch.zeros(5, 1), REWARD, VALUE, terminated, IS_FIRST, GAMMA, LAMBDA, next_sign=sign)
    valid = ~IS_FIRST[1:]
    returns = lambda_returns(REWARD, VALUE[1:], terminated, IS_FIRST, GAMMA, LAMBDA, sign)
    assert found.advantage.tolist() == gae(REWARD, VALUE, terminated, IS_FIRST, GAMMA, LAMBDA, sign).tolist()
    assert found.targets[valid].tolist() == returns[valid].tolist()


def test_with_lambda_1_the_advantage_is_that_of_the_paper() -> None:
    """`r[s] + gamma * v[s+1] - V[s]` (section 4.2) of rows whose successor was played."""
    found = vtrace(LOG_RATIO, REWARD, VALUE, TRUNCATED, IS_FIRST, GAMMA, 1.0)
    for s in (0, 3):
        expected = REWARD[s] + GAMMA * found.targets[s + 1] - VALUE[s]
        assert found.advantage[s].item() == pytest.approx(expected.item())


@st.composite
def experience(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """A stream of episodes of random length in each column, cut at random."""
    num_rows, num_columns = draw(st.integers(1, 10)), draw(st.integers(1, 3))
    terminated = np.zeros((num_rows + 1, num_columns), bool)
    is_first = np.zeros((num_rows + 1, num_columns), bool)
    for b in range(num_columns):
        row = draw(st.integers(-4, 1))
        while row <= num_rows:
            if row >= 0:
                is_first[row, b] = True
            last_observation = row + draw(st.integers(1, 6))
            if draw(st.booleans()) and 0 <= last_observation - 1 <= num_rows:
                terminated[last_observation - 1, b] = True
            row = last_observation + 1
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    reward, log_ratio = generator.normal(size=(2, num_rows, num_columns)).astype(np.float32)
    value = generator.normal(size=(num_rows + 1, num_columns)).astype(np.float32)
    sign = generator.choice(np.float32([1, -1]), (num_rows, num_columns))
    return log_ratio, reward, value, terminated[:-1], is_first, sign


@given(experience(), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 3), st.floats(0.1, 3))
@settings(deadline=None, max_examples=60)
def test_against_the_sum_that_defines_it(
    rows: tuple[np.ndarray, ...], gamma: float, lambda_: float, rho_clip: float, c_clip: float
) -> None:
    """Equation 1: `v[s] = V[s] + sum over t >= s of (product over s <= i < t of gamma c[i]) rho[t] d[t]`."""
    log_ratio, reward, value, terminated, is_first, sign = rows
    num_rows, num_columns = reward.shape
    ratio = np.exp(log_ratio)
    targets = value[:-1].copy()
    for b in range(num_columns):
        for s in range(num_rows):
            factor = 1.0
            for t in range(s, num_rows):
                if is_first[t + 1, b]:
                    break
                discount = 0.0 if terminated[t, b] else gamma * sign[t, b]
                delta = reward[t, b] + discount * value[t + 1, b] - value[t, b]
                targets[s, b] += factor * min(rho_clip, ratio[t, b]) * delta
                factor *= discount * lambda_ * min(c_clip, ratio[t, b])
    tensors = [torch.from_numpy(x) for x in (log_ratio, reward, value, terminated, is_first)]
    found = vtrace(*tensors, gamma, lambda_, rho_clip, c_clip, next_sign=torch.from_numpy(sign))
    np.testing.assert_allclose(found.targets, targets, rtol=1e-4, atol=1e-5)
    played = ~is_first[1:]
    np.testing.assert_allclose(found.rho, np.where(played, np.minimum(rho_clip, ratio), 0), rtol=1e-5)
    assert not found.advantage[~torch.from_numpy(played)].any()
