"""T rows, B columns. Literal numbers are worked out beside the test; properties are held against obvious loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triathlon.agents.returns import (
    categorical_projection,
    explained_variance,
    gae,
    lambda_returns,
    n_step_targets,
    quantile_huber_loss,
    value_rescale,
    value_unscale,
)

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


def test_gae_truncated_bootstraps_from_the_last_observation() -> None:
    # d4 = 8 + .5*60 - 50 = -12                      A4 = -12
    # d3 = 4 + .5*50 - 40 = -11                      A3 = -11 + .25*-12 = -14
    # row 2 is not valid                             A2 = 0
    # d1 = 2 + .5*30 - 20 = -3                       A1 = -3 + .25*0 = -3
    # d0 = 1 + .5*20 - 10 = 1                        A0 = 1 + .25*-3 = .25
    advantage = gae(REWARD, VALUE, TRUNCATED, IS_FIRST, GAMMA, LAMBDA)
    assert advantage.squeeze(1).tolist() == [0.25, -3, 0, -14, -12]


def test_gae_terminated_has_no_value_after_it() -> None:
    # d1 = 2 - 20 = -18, A1 = -18, A0 = 1 + .25*-18 = -3.5; the second episode is as before
    advantage = gae(REWARD, VALUE, TERMINATED, IS_FIRST, GAMMA, LAMBDA)
    assert advantage.squeeze(1).tolist() == [-3.5, -18, 0, -14, -12]


def test_lambda_returns_bootstrap_from_the_last_observation() -> None:
    # G4 = 8 + .5*60 = 38                            (row 5 is where the segment ends)
    # G3 = 4 + .5*(.5*50 + .5*38) = 26
    # G1 = 2 + .5*30 = 17                            (row 2 was not played: its return is its value, 30)
    # G0 = 1 + .5*(.5*20 + .5*17) = 10.25
    returns = lambda_returns(REWARD, VALUE[1:], TRUNCATED, IS_FIRST, GAMMA, LAMBDA)
    assert returns.squeeze(1).tolist() == [10.25, 17, 0, 26, 38]


def test_lambda_returns_terminated() -> None:
    # G1 = 2; G0 = 1 + .5*(.5*20 + .5*2) = 6.5
    returns = lambda_returns(REWARD, VALUE[1:], TERMINATED, IS_FIRST, GAMMA, LAMBDA)
    assert returns.squeeze(1).tolist() == [6.5, 2, 0, 26, 38]


# Two sides: the mover changes after rows 0, 3 and 4, and moves twice at row 1 (a pass).
SIGN = column(-1, 1, 1, -1, -1)


def test_gae_of_two_sides() -> None:
    # d4 = 8 - .5*60 - 50 = -72                      A4 = -72
    # d3 = 4 - .5*50 - 40 = -61                      A3 = -61 - .25*-72 = -43
    # d1 = 2 + .5*30 - 20 = -3                       A1 = -3
    # d0 = 1 - .5*20 - 10 = -19                      A0 = -19 - .25*-3 = -18.25
    advantage = gae(REWARD, VALUE, TRUNCATED, IS_FIRST, GAMMA, LAMBDA, SIGN)
    assert advantage.squeeze(1).tolist() == [-18.25, -3, 0, -43, -72]


def test_lambda_returns_of_two_sides() -> None:
    # G4 = 8 - .5*60 = -22        G3 = 4 - .5*(.5*50 + .5*-22) = -3
    # G1 = 2 + .5*30 = 17         G0 = 1 - .5*(.5*20 + .5*17) = -8.25
    returns = lambda_returns(REWARD, VALUE[1:], TRUNCATED, IS_FIRST, GAMMA, LAMBDA, SIGN)
    assert returns.squeeze(1).tolist() == [-8.25, 17, 0, -3, -22]


def test_n_step_of_two_sides() -> None:
    # row 0: 1 - .5*2 = 0, then the value of row 2 counts -.25; row 3: 4 - .5*8 = 0, and row 5 counts (-.5)(-.5)
    found = n_step_targets(REWARD.numpy(), TRUNCATED.numpy(), IS_FIRST.numpy(), GAMMA, 2, SIGN.numpy())
    returns, discount, steps = (x[:, 0].tolist() for x in found)
    assert returns == [0, 2, 0, 0]
    assert discount == [-0.25, 0.5, 1, 0.25]
    assert steps == [2, 1, 0, 2]


def test_lambda_returns_less_value_are_gae() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.randn(9, 4, generator=generator), torch.randn(10, 4, generator=generator)
    is_first = torch.rand(10, 4, generator=generator) < 0.3
    terminated = is_first.roll(-2, 0)[:9] & ~is_first[1:] & (torch.rand(9, 4, generator=generator) < 0.5)
    returns = lambda_returns(reward, value[1:], terminated, is_first, 0.9, 0.8)
    advantage = gae(reward, value, terminated, is_first, 0.9, 0.8)
    assert is_first[1:].any() and terminated.any()
    torch.testing.assert_close(torch.where(is_first[1:], 0, returns - value[:-1]), advantage)


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        # truncated: row 0 sums 1 + .5*2 and stops at row 2 after 2 steps; row 1 after 1; row 2 is its own value
        (TRUNCATED, {"returns": [2, 2, 0], "discount": [0.25, 0.5, 1], "steps": [2, 1, 0]}),
        (TERMINATED, {"returns": [2, 2, 0], "discount": [0, 0, 1], "steps": [2, 1, 0]}),
    ],
)
def test_n_step_stops_at_the_end_of_the_episode(terminated: Tensor, expected: dict[str, list[float]]) -> None:
    found = n_step_targets(REWARD.numpy(), terminated.numpy(), IS_FIRST.numpy(), GAMMA, 3)
    assert {name: x[:, 0].tolist() for name, x in zip(expected, found, strict=True)} == expected


def test_n_step_within_an_episode() -> None:
    # 4 + .5*8 = 8, bootstrap .25 two rows on
    returns, discount, steps = n_step_targets(
        REWARD.numpy()[3:], TRUNCATED.numpy()[3:], IS_FIRST.numpy()[3:], GAMMA, n_step=2
    )
    assert (returns.tolist(), discount.tolist(), steps.tolist()) == ([[8]], [[0.25]], [[2]])


@st.composite
def experience(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A stream of episodes of random length in each column, cut at random: reward, value, terminated, is_first."""
    num_rows, num_columns = draw(st.integers(1, 12)), draw(st.integers(1, 3))
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
    reward = generator.normal(size=(num_rows, num_columns)).astype(np.float32)
    value = generator.normal(size=(num_rows + 1, num_columns)).astype(np.float32)
    return reward, value, terminated[:-1], is_first


@given(experience(), st.floats(0, 1), st.floats(0, 1), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_against_loops(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], gamma: float, lambda_: float, n_step: int
) -> None:
    reward, value, terminated, is_first = rows
    num_rows, num_columns = reward.shape
    advantage, returns = np.zeros_like(reward), np.zeros_like(reward)
    for b in range(num_columns):
        for t in reversed(range(num_rows)):
            if is_first[t + 1, b]:
                continue
            next_value = 0.0 if terminated[t, b] else value[t + 1, b]
            going_on = t + 1 < num_rows and not is_first[t + 2, b]
            advantage[t, b] = reward[t, b] + gamma * next_value - value[t, b]
            returns[t, b] = reward[t, b] + gamma * next_value
            if going_on and not terminated[t, b]:
                advantage[t, b] += gamma * lambda_ * advantage[t + 1, b]
                returns[t, b] += gamma * lambda_ * (returns[t + 1, b] - next_value)
    tensors = [torch.from_numpy(x) for x in (reward, value, terminated, is_first)]
    found = gae(tensors[0], tensors[1], tensors[2], tensors[3], gamma, lambda_)
    np.testing.assert_allclose(found, advantage, rtol=1e-4, atol=1e-5)
    found = lambda_returns(tensors[0], tensors[1][1:], tensors[2], tensors[3], gamma, lambda_)
    np.testing.assert_allclose(found, returns, rtol=1e-4, atol=1e-5)
    if num_rows < n_step:
        return
    total, discount, steps = n_step_targets(reward, terminated, is_first, gamma, n_step)
    assert total.shape == (num_rows - n_step + 1, num_columns)
    assert (total.dtype, discount.dtype, steps.dtype) == (np.float32, np.float32, np.int64)
    for t in range(len(total)):
        for b in range(num_columns):
            j, g, factor = 0, 0.0, 1.0
            while j < n_step and not is_first[t + j + 1, b]:
                g += gamma**j * reward[t + j, b]
                factor *= gamma * (not terminated[t + j, b])
                j += 1
            assert steps[t, b] == j
            np.testing.assert_allclose([total[t, b], discount[t, b]], [g, factor], rtol=1e-4, atol=1e-5)


def test_value_rescale() -> None:
    # h(3) = sqrt(4) - 1 + .001*3 = 1.003; h(-8) = -(3 - 1) - .008 = -2.008
    assert value_rescale(torch.tensor([3.0, -8.0, 0.0])).tolist() == pytest.approx([1.003, -2.008, 0])
    x = torch.tensor([-1e4, -300, -1, -1e-3, 0, 1e-3, 0.5, 7, 1000])
    torch.testing.assert_close(value_unscale(value_rescale(x)), x, rtol=1e-4, atol=2e-7)


def test_categorical_projection() -> None:
    support = torch.tensor([-1.0, 0.0, 1.0])
    probs = torch.tensor([[0.2, 0.3, 0.5]] * 4)
    returns, discount = torch.tensor([0.0, 0.25, 5.0, 0.0]), torch.tensor([1.0, 0.5, 1.0, 0.0])
    # 1: nothing moves.
    # 2: atoms go to -.25, .25, .75: .2 -> (.05, .15, 0), .3 -> (0, .225, .075), .5 -> (0, .125, .375)
    # 3: all are beyond the last atom. 4: terminated with return 0: all on atom 0.
    expected = torch.tensor([[0.2, 0.3, 0.5], [0.05, 0.5, 0.45], [0, 0, 1], [0, 1, 0]])
    torch.testing.assert_close(categorical_projection(probs, returns, discount, support), expected)


def test_categorical_projection_keeps_the_mass_and_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    support = torch.linspace(-10, 10, 51)
    probs = torch.rand(20, 51, generator=generator).softmax(1)
    returns, discount = torch.randn(20, generator=generator), torch.rand(20, generator=generator) * 0.8
    projected = categorical_projection(probs, returns, discount, support)
    torch.testing.assert_close(projected.sum(1), torch.ones(20))
    mean = returns + discount * (probs * support).sum(1)  # within the support the projection is linear
    torch.testing.assert_close((projected * support).sum(1), mean, rtol=1e-4, atol=1e-5)


def test_quantile_huber_loss() -> None:
    predicted, taus = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]])
    target = torch.tensor([[0.5, 3.0]])
    # quantile 0 at .25: errors .5, 3 (both >= 0): .25 * (.125, 2.5) = .03125, .625, mean .328125
    # quantile 1 at .75: errors -.5, 2: |.75-1|*.125 = .03125, .75*1.5 = 1.125, mean .578125
    assert quantile_huber_loss(predicted, target, taus).tolist() == pytest.approx([0.90625])
    # kappa 0: .25*(.5 + 3)/2 + (.25*.5 + .75*2)/2 = .4375 + .8125
    assert quantile_huber_loss(predicted, target, taus, kappa=0).tolist() == pytest.approx([1.25])
    # kappa 2: Huber / 2 of .5, 3, -.5, 2 is .0625, 2, .0625, 1
    assert quantile_huber_loss(predicted, target, taus[0], kappa=2).tolist() == pytest.approx(
        [(0.25 * 0.0625 + 0.25 * 2 + 0.25 * 0.0625 + 0.75 * 1) / 2]
    )


def test_quantile_loss_is_least_at_the_quantiles_and_gives_the_target_no_gradient() -> None:
    target = torch.linspace(0, 1, 101).unsqueeze(0).requires_grad_()
    predicted = torch.full((1, 3), 0.5, requires_grad=True)
    taus = torch.tensor([[0.1, 0.5, 0.9]])
    optimizer = torch.optim.SGD([predicted], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        quantile_huber_loss(predicted, target, taus, kappa=0).sum().backward()
        optimizer.step()
    assert target.grad is None
    assert predicted.tolist()[0] == pytest.approx([0.1, 0.5, 0.9], abs=0.02)


def test_explained_variance() -> None:
    target = torch.tensor([1.0, 2.0, 3.0, 99.0])
    mask = torch.tensor([True, True, True, False])
    # errors of (1, 1, 3): 0, 1, 0: variance 2/9; of the target 2/3: 1 - 1/3
    assert explained_variance(torch.tensor([1.0, 1.0, 3.0, 0.0]), target, mask).item() == pytest.approx(2 / 3)
    assert explained_variance(target + 5, target, mask).item() == pytest.approx(1)
    assert math.isnan(explained_variance(target, torch.ones(4), mask).item())
