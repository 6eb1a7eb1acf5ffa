"""The gradient step against torch's own Adam."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from triathlon.agents.gradient_step import GradientStep


def loss(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    error = (network(x) - y).square().mean()
    return error, error.detach().view(1)


@pytest.mark.parametrize("max_grad_norm", [0.5, 1e9])
def test_twenty_steps_are_those_of_torch(max_grad_norm: float) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 2))
    theirs = copy.deepcopy(ours)
    step = GradientStep(ours, loss, 1e-2, 1e-5, max_grad_norm, compile=False, draws_or_remembers=False)
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-2, eps=1e-5)
    for i in range(20):
        step.learning_rate = adam.param_groups[0]["lr"] = 1e-2 / (i + 1)
        x, y = torch.randn(5, 3), 3 * torch.randn(5, 2)
        numbers, norm = step(x, y)
        adam.zero_grad()
        expected, _ = loss(theirs, x, y)
        expected.backward()
        expected_norm = nn.utils.clip_grad_norm_(theirs.parameters(), max_grad_norm)
        adam.step()
        torch.testing.assert_close(numbers[0], expected.detach())
        torch.testing.assert_close(norm, expected_norm)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_it_goes_on_from_what_it_saved() -> None:
    torch.manual_seed(0)
    first = nn.Linear(3, 2)
    step = GradientStep(first, loss, 1e-2, 1e-5, 1.0, compile=False, draws_or_remembers=False)
    batches = [(torch.randn(4, 3), torch.randn(4, 2)) for _ in range(6)]
    for batch in batches[:3]:
        step(*batch)
    second = copy.deepcopy(first)
    other = GradientStep(second, loss, 1e-2, 1e-5, 1.0, compile=False, draws_or_remembers=False)
    other.load_state_dict(step.state_dict())
    for batch in batches[3:]:
        step(*batch)
        other(*batch)
    assert first.weight.equal(second.weight)


@pytest.mark.parametrize("as_function", [False, True])
def test_parts_that_learn_slower_or_not_at_all_are_groups_of_torch(as_function: bool) -> None:
    """`as_function`: the way of a compiled step, which takes gradients of a function of the parameters."""
    torch.manual_seed(0)
    first = nn.Linear(3, 7)
    ours = nn.Sequential(first, nn.Tanh(), nn.Linear(7, 5), nn.Linear(5, 2))
    theirs = copy.deepcopy(ours)
    step = GradientStep(ours, loss, 1e-2, 1e-5, 0.5, compile=False, draws_or_remembers=False)
    step.scale_rate(first, 0.0)
    step.scale_rate(ours[2], 0.1)
    if as_function:
        step._run = lambda *batch: step._compiled_step(step._whole_step, *batch)
    theirs[0].requires_grad_(False)
    groups = [{"params": theirs[2].parameters(), "lr": 1e-3}, {"params": theirs[3].parameters(), "lr": 1e-2}]
    adam = torch.optim.Adam(groups, eps=1e-5)
    frozen = first.weight.clone()
    for _ in range(10):
        x, y = torch.randn(5, 3), 3 * torch.randn(5, 2)
        _, norm = step(x, y)
        adam.zero_grad()
        loss(theirs, x, y)[0].backward()
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs.parameters(), 0.5))
        adam.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert first.weight.equal(frozen)
