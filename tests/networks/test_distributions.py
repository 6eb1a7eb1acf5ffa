"""Action distributions against torch.distributions and against worked-out numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as reference

from triathlon.networks.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    mask_logits,
)
from triathlon.networks.errors import SettingError
from triathlon.networks.policy_heads import make_policy_head

FEATURES = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head(space, **settings):
    torch.manual_seed(0)
    return make_policy_head(space, 6, init_gain=1.0, **settings)


def test_categorical_numbers():
    distribution = Categorical(torch.tensor([0.0, math.log(3.0)]))  # probabilities 1/4, 3/4
    assert distribution.log_prob(torch.tensor(1)).item() == pytest.approx(-0.287682, abs=1e-5)
    assert distribution.entropy().item() == pytest.approx(0.562335, abs=1e-5)
    assert distribution.mode().item() == 1


def test_gaussian_numbers():
    distribution = DiagonalGaussian(torch.tensor([1.0, -1.0]), torch.tensor([0.0, math.log(2.0)]), (2,))
    # Two standard normals' densities at z = 1 and z = -1, the second stretched by 2.
    assert distribution.log_prob(torch.tensor([2.0, -3.0])).item() == pytest.approx(-3.531024, abs=1e-5)
    assert distribution.entropy().item() == pytest.approx(3.531024, abs=1e-5)
    assert distribution.mode().tolist() == [1.0, -1.0]


def test_bernoulli_numbers():
    distribution = Bernoulli(torch.tensor([0.0, math.log(3.0)]), (2,))  # probabilities of a 1: 1/2, 3/4
    assert distribution.log_prob(torch.tensor([1, 0])).item() == pytest.approx(math.log(0.5 * 0.25), abs=1e-5)
    assert distribution.entropy().item() == pytest.approx(0.693147 + 0.562335, abs=1e-5)
    assert distribution.mode().tolist() == [0, 1]


def test_discrete_head_agrees_with_torch():
    policy = head(spaces.Discrete(4))
    ours, theirs = policy(FEATURES), reference.Categorical(logits=policy.linear(FEATURES))
    action = ours.sample(generator())
    assert action.shape == (5, 3)
    assert action.dtype == torch.int64
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())


@pytest.mark.parametrize("std", ["free", "state"])
def test_box_head_agrees_with_torch(std):
    policy = head(spaces.Box(-1, 1, (2,)), std=std, log_std_init=-0.5)
    ours = policy(FEATURES)
    theirs = reference.Independent(reference.Normal(ours.mean, ours.log_std.exp().expand(5, 3, 2)), 1)
    action = ours.sample(generator())
    assert action.shape == (5, 3, 2)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert (ours.log_std == -0.5).all() == (std == "free")
    assert ours.log_std.mean().item() == pytest.approx(-0.5, abs=0.7)


def test_multi_discrete_head_agrees_with_torch():
    policy = head(spaces.MultiDiscrete([2, 4, 3]))
    ours, logits = policy(FEATURES), policy.linear(FEATURES)
    theirs = [reference.Categorical(logits=part) for part in logits.split([2, 4, 3], -1)]
    action = ours.sample(generator())
    assert action.shape == (5, 3, 3)
    torch.testing.assert_close(ours.log_prob(action), sum(d.log_prob(action[..., i]) for i, d in enumerate(theirs)))
    torch.testing.assert_close(ours.entropy(), sum(d.entropy() for d in theirs))
    assert ours.mode().tolist() == torch.stack([d.probs.argmax(-1) for d in theirs], -1).tolist()


def test_multi_binary_head_agrees_with_torch():
    policy = head(spaces.MultiBinary(3))
    ours, theirs = policy(FEATURES), reference.Bernoulli(logits=policy.linear(FEATURES))
    action = ours.sample(generator())
    assert action.shape == (5, 3, 3)
    torch.testing.assert_close(ours.log_prob(action), theirs.log_prob(action.float()).sum(-1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 2)),
        spaces.Box(-1, 1, ()),
        spaces.MultiBinary([2, 3]),
        spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
    ],
)
def test_actions_have_the_shape_of_their_space(space):
    distribution = head(space)(FEATURES)
    assert all(parameter.shape[:2] == (5, 3) for parameter in distribution.parameters().values())
    for action in (distribution.sample(generator()), distribution.mode()):
        assert action.shape == (5, 3, *space.shape)
        assert distribution.log_prob(action).shape == (5, 3)
    assert distribution.entropy().shape == (5, 3)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2), spaces.Box(-1, 1, (2,))]
)
def test_sampling_follows_the_probabilities(space):
    distribution = head(space)(FEATURES[:1, :1].expand(1, 40_000, 6))
    action = distribution.sample(generator())
    # The mean of -log p over samples is the entropy, to within five standard errors.
    log_prob = distribution.log_prob(action)
    assert (-log_prob.mean()).item() == pytest.approx(distribution.entropy()[0, 0].item(), abs=0.026)
    assert torch.equal(action, distribution.sample(generator()))
    assert not torch.equal(action, distribution.sample(generator(1)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("space", "settings"),
    [
        (spaces.Discrete(3), {}),
        (spaces.MultiDiscrete([2, 3]), {}),
        (spaces.MultiBinary([2, 3]), {}),
        (spaces.Box(-1, 1, (2, 1)), {"std": "free"}),
        (spaces.Box(-1, 1, (2, 1)), {"std": "state"}),
    ],
)
def test_parameters_make_the_distribution_again(space, settings, masked):
    policy, size = head(space, **settings), {"Discrete": 3, "MultiDiscrete": 5, "MultiBinary": 6, "Box": 2}
    legal = None
    if masked:
        legal = torch.rand(5, 3, size[type(space).__name__], generator=generator()) < 0.5
    seen = policy(FEATURES, legal)
    again = policy.distribution({name: x.clone() for name, x in seen.parameters().items()})
    action = seen.sample(generator())
    assert action.equal(again.sample(generator()))
    assert seen.log_prob(action).equal(again.log_prob(action))
    assert seen.entropy().equal(again.entropy())


def test_discrete_frequencies():
    probs = torch.tensor([0.1, 0.2, 0.7])
    action = Categorical(probs.log().expand(100_000, 3)).sample(generator())
    frequency = torch.bincount(action, minlength=3) / len(action)
    torch.testing.assert_close(frequency, probs, atol=0.008, rtol=0)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), num_actions=st.integers(2, 6), scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]))
def test_an_illegal_action_is_never_taken_and_everything_stays_finite(data, num_actions, scale):
    row = st.lists(st.booleans(), min_size=num_actions, max_size=num_actions)
    legal = torch.tensor([data.draw(row) for _ in range(4)])
    seed = data.draw(st.integers(0, 1000))
    logits = (torch.randn(64, 4, num_actions, generator=generator(seed)) * scale).requires_grad_()
    distribution = Categorical(logits, legal)
    allowed = legal | ~legal.any(-1, keepdim=True)
    for action in (distribution.sample(generator(seed)), distribution.mode()):
        assert allowed.expand(64, 4, -1).gather(-1, action.unsqueeze(-1)).all()
    entropy, log_prob = distribution.entropy(), distribution.log_prob(distribution.mode())
    assert entropy.isfinite().all()
    assert (entropy >= -1e-5).all()
    assert (entropy <= allowed.sum(-1).log() + 1e-4).all()
    (entropy.sum() + log_prob.sum()).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[~allowed.expand(64, 4, -1)] == 0).all()


def test_masked_probabilities_are_those_of_the_legal_actions_alone():
    logits = torch.tensor([1.0, 2.0, 3.0])
    distribution = Categorical(logits, torch.tensor([True, False, True]))
    theirs = reference.Categorical(logits=torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(distribution.log_prob(torch.tensor(2)), theirs.log_prob(torch.tensor(1)))
    torch.testing.assert_close(distribution.entropy(), theirs.entropy())
    assert mask_logits(logits, torch.zeros(3, dtype=torch.bool)).tolist() == [1.0, 2.0, 3.0]


def test_multi_discrete_masks_each_choice():
    policy = head(spaces.MultiDiscrete([2, 3]))
    legal = torch.tensor([False, True, False, False, False])  # first choice: only 1; second: nothing, so anything
    distribution = policy(FEATURES[:1, :1].expand(1, 500, 6), legal)
    action = distribution.sample(generator())
    assert set(action[..., 0].unique().tolist()) == {1}
    assert set(action[..., 1].unique().tolist()) == {0, 1, 2}
    free = reference.Categorical(logits=policy.linear(FEATURES[0, 0])[2:])
    torch.testing.assert_close(distribution.entropy()[0, 0], free.entropy())


def test_multi_binary_masks_bits():
    distribution = head(spaces.MultiBinary(2))(FEATURES, torch.tensor([False, True]))
    assert distribution.sample(generator())[..., 0].sum() == 0
    assert distribution.entropy().isfinite().all()
    only = reference.Bernoulli(logits=head(spaces.MultiBinary(2)).linear(FEATURES)[..., 1])
    torch.testing.assert_close(distribution.entropy(), only.entropy())


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Box(-1, 1, (2,))]
)
def test_every_parameter_of_a_head_gets_a_gradient(space):
    policy = head(space, std="state")
    distribution = policy(FEATURES)
    (distribution.log_prob(distribution.sample(generator())) + distribution.entropy()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.parameters())


def test_a_new_policy_is_near_uniform():
    distribution = make_policy_head(spaces.Discrete(4), 6)(FEATURES)
    assert distribution.entropy().min().item() > np.log(4) - 1e-3


def test_unknown_spaces_and_settings_are_named():
    with pytest.raises(SettingError, match="Tuple action space"):
        make_policy_head(spaces.Tuple([spaces.Discrete(2)]), 6)
    with pytest.raises(SettingError, match="did you mean 'state'"):
        make_policy_head(spaces.Box(-1, 1, (2,)), 6, std="stat")  # type: ignore[arg-type]
