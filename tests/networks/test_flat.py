"""Parameters as one vector."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from triathlon.networks.errors import SettingError
from triathlon.networks.flat import FlatParameters

X = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def loss(module: nn.Module) -> torch.Tensor:
    error: torch.Tensor = module(X) - 1.0
    return error.square().mean()


def test_values_and_gradients_are_those_of_the_module():
    plain, module = network(), network()
    flat = FlatParameters(module)
    torch.testing.assert_close(module(X), plain(X))
    for _ in range(2):  # gradients add up, as autograd's do
        loss(plain).backward()
        loss(module).backward()
    for theirs, ours in zip(plain.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    norm = nn.utils.clip_grad_norm_(plain.parameters(), 1e9)
    torch.testing.assert_close(flat.grad.norm(), norm)
    flat.zero_grad()
    assert not any(p.grad.any() for p in module.parameters())


def test_one_optimiser_over_the_vector_equals_one_over_the_parameters():
    plain, module = network(), network()
    flat = FlatParameters(module)
    theirs, ours = torch.optim.Adam(plain.parameters(), 0.1), torch.optim.Adam([flat.parameter], 0.1)
    for _ in range(5):
        theirs.zero_grad()
        loss(plain).backward()
        theirs.step()
        flat.zero_grad()
        loss(module).backward()
        ours.step()
    torch.testing.assert_close(module(X), plain(X))
    assert loss(module) < loss(network())


def test_state_dict_and_load_go_through_the_vector():
    module, other = network(), network()
    flat = FlatParameters(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2.0)
    module.load_state_dict(other.state_dict())
    torch.testing.assert_close(module(X), other(X))
    assert torch.equal(flat.data[:15], other.state_dict()["0.weight"].flatten())
    third = network()
    FlatParameters(third).load(flat.data)
    torch.testing.assert_close(third(X), other(X))
    flat.data.zero_()
    assert module(X).tolist() == [[0.0], [0.0]]


def test_a_copy_of_a_flat_module_is_its_own():
    module = network()
    flat = FlatParameters(module)
    target = copy.deepcopy(module)
    before = target(X)
    flat.data.zero_()
    torch.testing.assert_close(target(X), before)


def test_tied_parameters_stay_tied():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    flat = FlatParameters(module)
    assert module[1].weight is module[0].weight
    assert flat.data.count_nonzero() <= 9 + 3 + 3
    module(X).sum().backward()
    assert flat.grad[:9].abs().sum() > 0


def test_frozen_parameters_take_no_gradient():
    module = network()
    module[0].weight.requires_grad_(False)
    flat = FlatParameters(module)
    loss(module).backward()
    assert (flat.grad[:15] == 0).all()
    assert flat.grad.abs().sum() > 0


def test_parameters_of_several_types_are_refused():
    module = network()
    module[2].to(torch.float64)
    with pytest.raises(SettingError, match="float32 on cpu, float64 on cpu"):
        FlatParameters(module)
    with pytest.raises(SettingError, match="none"):
        FlatParameters(nn.Tanh())


@pytest.mark.parametrize("rnn", [nn.LSTM, nn.GRU])
def test_cudnn_need_not_say_that_the_weights_are_not_its_one_block(rnn):
    says = "RNN module weights are not part of single contiguous chunk of memory. This means they need to be compacted"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        FlatParameters(network())
        warnings.warn(says, stacklevel=1)
        assert [str(warning.message) for warning in seen] == [says]
        FlatParameters(nn.Sequential(rnn(3, 4)))
        warnings.warn(says, stacklevel=1)
        warnings.warn("something else", stacklevel=1)
        assert [str(warning.message) for warning in seen] == [says, "something else"]
