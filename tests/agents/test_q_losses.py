"""Goals and losses of every Q-head against numbers worked out by hand. L rows, N samples, A actions."""

from __future__ import annotations

import math

import pytest
import torch

from triathlon.agents.q_losses import chosen, q_goal, q_loss, rows_at
from triathlon.networks.heads import QHeadConfig, Quantiles, make_q_head

HEAD = make_q_head(2, 1, QHeadConfig())
ACTION = torch.tensor([[1, 0]])  # [L, N] = [1, 2]
RETURNS, DISCOUNT = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.9, 0.0]])


def test_expected_values() -> None:
    goal = q_goal(HEAD, torch.tensor([[[5.0, 3.0], [7.0, 8.0]]]), ACTION, RETURNS, DISCOUNT)
    torch.testing.assert_close(goal, torch.tensor([[1 + 0.9 * 3, 2.0]]))
    predicted = torch.tensor([[[0.0, 3.4], [5.0, 0.0]]])
    loss, error = q_loss(HEAD, predicted, ACTION, goal, huber=False)
    torch.testing.assert_close(error, torch.tensor([[0.3, -3.0]]))
    torch.testing.assert_close(loss, torch.tensor([[0.09, 9.0]]))
    loss, _ = q_loss(HEAD, predicted, ACTION, goal, huber=True)
    torch.testing.assert_close(loss, torch.tensor([[0.045, 2.5]]))  # 0.5 * 0.3², 3 - 0.5


def test_value_rescaling() -> None:
    """h(1 + 0.9 h⁻¹(x)) with h(3) = √4 - 1 + 0.003 = 1.003, so that x = 1.003 stands for a value of 3."""
    output = torch.tensor([[[0.0, 1.003], [4.0, 0.0]]])
    goal = q_goal(HEAD, output, ACTION, RETURNS, DISCOUNT, rescale=True)
    expected = [math.sqrt(3.7 + 1) - 1 + 0.0037, math.sqrt(3.0) - 1 + 0.002]
    torch.testing.assert_close(goal, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_c51() -> None:
    head = make_q_head(2, 1, QHeadConfig(kind="c51", num_atoms=3, v_min=0.0, v_max=2.0))
    output = torch.tensor([[[[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]]).log()
    returns, discount = torch.tensor([[0.5, 1.25]]), torch.tensor([[0.5, 0.0]])
    goal = q_goal(head, output, ACTION, returns, discount)
    # Atoms 0 and 1 of action 1 move to 0.5 and 1, half a mass each; the ended episode's mass all lands on 1.25.
    torch.testing.assert_close(goal, torch.tensor([[[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]]]))
    predicted = torch.tensor([[[[0.1, 0.1, 0.8], [0.25, 0.5, 0.25]], [[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]]).log()
    loss, error = q_loss(head, predicted, ACTION, goal, huber=True)
    expected = [0.25 * math.log(4) + 0.75 * math.log(2), math.log(4)]
    torch.testing.assert_close(loss, torch.tensor([expected]))
    assert error.equal(loss)


@pytest.mark.parametrize("kind", ["qr", "iqn"])
def test_quantiles(kind: str) -> None:
    head = make_q_head(1, 1, QHeadConfig(kind=kind, num_quantiles=2))  # type: ignore[arg-type]
    taus = torch.tensor([0.25, 0.75]) if kind == "qr" else torch.tensor([[[0.25, 0.75]]])
    action, returns, discount = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1), torch.full((1, 1), 0.5)
    goal = q_goal(head, Quantiles(torch.tensor([[[[2.0, 4.0]]]]), taus), action, returns, discount)
    torch.testing.assert_close(goal, torch.tensor([[[2.0, 3.0]]]))
    loss, error = q_loss(head, Quantiles(torch.tensor([[[[2.5, 5.0]]]]), taus), action, goal, huber=True)
    # Errors from 2.5: -0.5, 0.5 (Huber 0.125 each), weights |0.25 - 1|, 0.25; from 5: -3, -2 (2.5, 1.5), weights 0.25.
    expected = (0.75 * 0.125 + 0.25 * 0.125) / 2 + 0.25 * (2.5 + 1.5) / 2
    torch.testing.assert_close(loss, torch.tensor([[expected]]))
    torch.testing.assert_close(error, torch.tensor([[2.5 - 3.75]]))


def test_errors_carry_no_gradient_and_only_the_chosen_action_does() -> None:
    output = torch.zeros(1, 2, 2, requires_grad=True)
    loss, error = q_loss(HEAD, output, ACTION, torch.tensor([[1.0, -2.0]]), huber=False)
    loss.sum().backward()
    assert not error.requires_grad
    torch.testing.assert_close(output.grad, torch.tensor([[[0.0, -2.0], [4.0, 0.0]]]))


def test_choosing() -> None:
    output = torch.arange(24.0).view(2, 3, 2, 2)
    action = torch.tensor([[0, 1, 0], [1, 0, 1]])
    assert chosen(output, action)[..., 0].tolist() == [[0, 6, 8], [14, 16, 22]]
    assert chosen(output[..., 0], action).tolist() == [[0, 6, 8], [14, 16, 22]]
    x = torch.arange(12.0).view(4, 3)
    assert rows_at(x.unsqueeze(-1), torch.tensor([[0, 3, 1], [2, 2, 2]])).squeeze(-1).tolist() == [
        [0, 10, 5],
        [6, 7, 8],
    ]
