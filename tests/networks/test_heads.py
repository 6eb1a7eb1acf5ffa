"""Q-value heads, noisy layers and value heads, against worked-out numbers."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor, nn

from triathlon.networks.errors import SettingError
from triathlon.networks.heads import QHeadConfig, Quantiles, ValueHead, make_q_head
from triathlon.networks.noisy import NoisyLinear

FEATURES = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(0))
KINDS = ["expected", "c51", "qr", "iqn"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SMALL = {
    "expected": {},
    "c51": {"num_atoms": 11},
    "qr": {"num_quantiles": 8},
    "iqn": {"num_quantiles": 8, "num_cosines": 5},
}


def q_head(kind="expected", **settings):
    torch.manual_seed(0)
    return make_q_head(4, 6, QHeadConfig(kind=kind, **SMALL.get(kind, {}), **settings))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"kind": "qr", "v_min": -4.0},
            "head.v_min is -4.0, but nothing reads it with head.kind: qr; leave it out or set head.kind: c51",
        ),
        (
            {"num_quantiles": 8},
            "head.num_quantiles is 8, but nothing reads it with head.kind: expected; "
            "leave it out or set head.kind: qr or head.kind: iqn",
        ),
        ({"kind": "qr", "num_cosines": 5}, "leave it out or set head.kind: iqn"),
        ({"kind": "iqn", "num_atoms": 11}, "leave it out or set head.kind: c51"),
        ({"kind": "c51", "v_max": 11.0, "noisy_sigma": 0.1}, "head.noisy_sigma is 0.1, but nothing reads it with"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(settings, sentence):
    with pytest.raises(SettingError, match=re.escape(sentence)):
        make_q_head(4, 6, QHeadConfig(**settings))
    make_q_head(4, 6, QHeadConfig(kind=settings.get("kind", "expected")))


@pytest.mark.parametrize("hidden_size", [0, 7])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_q_head_gives_a_value_per_action_and_trains(kind, dueling, noisy, hidden_size):
    head = q_head(kind=kind, dueling=dueling, noisy=noisy, hidden_size=hidden_size)
    head.resample(generator())
    q_values = head.q_values(FEATURES)
    assert q_values.shape == (5, 3, 4)
    assert q_values.std() > 0
    torch.testing.assert_close(head.expectation(head(FEATURES)), q_values)
    q_values.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_illegal_actions_are_worth_minus_infinity(kind):
    head = q_head(kind=kind)
    legal = torch.tensor([True, False, True, False]).expand(5, 3, 4).clone()
    legal[0, 0] = False
    q_values, free = head.q_values(FEATURES, legal), head.q_values(FEATURES)
    assert (q_values[1:, :, [1, 3]] == -math.inf).all()
    torch.testing.assert_close(q_values[..., [0, 2]], free[..., [0, 2]])
    torch.testing.assert_close(q_values[0, 0], free[0, 0])  # nothing is legal: everything is


def test_dueling_adds_the_value_to_centred_advantages():
    head = q_head(dueling=True)
    with torch.no_grad():
        for stream in (head.advantage, head.value):
            stream.weight.zero_()
        head.advantage.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 6.0]))
        head.value.bias.fill_(10.0)
    assert head.q_values(FEATURES)[0, 0].tolist() == [8.0, 9.0, 10.0, 13.0]


def test_c51_gives_log_probabilities_over_its_support():
    head = q_head(kind="c51", v_min=-1.0, v_max=1.0)
    log_probs = head(FEATURES)
    assert log_probs.shape == (5, 3, 4, 11)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(5, 3, 4))
    torch.testing.assert_close(head.support, torch.linspace(-1, 1, 11))
    with torch.no_grad():
        head.advantage.weight.zero_()
        head.advantage.bias.copy_(torch.full((44,), -50.0))
        head.advantage.bias[10] = 50.0  # action 0: all at the highest atom
        head.advantage.bias[11] = 50.0  # action 1: all at the lowest
    torch.testing.assert_close(head.q_values(FEATURES)[0, 0], torch.tensor([1.0, -1.0, 0.0, 0.0]))


def test_qr_gives_quantiles_at_the_midpoints():
    values, taus = q_head(kind="qr")(FEATURES)
    assert values.shape == (5, 3, 4, 8)
    assert taus.tolist() == [0.0625, 0.1875, 0.3125, 0.4375, 0.5625, 0.6875, 0.8125, 0.9375]


def test_iqn_draws_fractions_with_the_generator_it_is_given():
    head = q_head(kind="iqn")
    output = head(FEATURES, generator())
    assert isinstance(output, Quantiles)
    assert output.values.shape == (5, 3, 4, 8)
    assert output.taus.shape == (5, 3, 8)
    assert 0 <= output.taus.min() < 0.1 < 0.9 < output.taus.max() <= 1
    torch.testing.assert_close(head(FEATURES, generator()).values, output.values)
    assert not torch.equal(head(FEATURES, generator(1)).taus, output.taus)
    assert head(FEATURES).taus.tolist() == q_head(kind="qr").taus.tolist()


def test_iqn_computes_the_formula_of_the_paper():
    head = q_head(kind="iqn")
    values, taus = head(FEATURES, generator())
    tau, feature = taus[2, 1, 3], FEATURES[2, 1]
    cosines = torch.stack([torch.cos(math.pi * i * tau) for i in range(1, 6)])
    phi = torch.relu(head.embedding.weight @ cosines + head.embedding.bias)
    torch.testing.assert_close(values[2, 1, :, 3], head.advantage(feature * phi))


def test_noisy_layer_computes_the_formula_of_the_paper():
    torch.manual_seed(0)
    layer = NoisyLinear(6, 3)
    x = FEATURES[0]
    plain = x @ layer.weight.T + layer.bias
    torch.testing.assert_close(layer(x), plain)  # no noise was drawn yet
    layer.resample(generator())
    drawn = generator()
    eps_in, eps_out = (torch.empty(n).normal_(generator=drawn) for n in (6, 3))
    f_in, f_out = (eps.sign() * eps.abs().sqrt() for eps in (eps_in, eps_out))
    weight = layer.weight + layer.weight_sigma * torch.outer(f_out, f_in)
    torch.testing.assert_close(layer(x), x @ weight.T + layer.bias + layer.bias_sigma * f_out)
    assert layer.weight_sigma[0, 0].item() == pytest.approx(0.5 / math.sqrt(6))
    torch.testing.assert_close(layer.eval()(x), plain)


def test_noise_is_part_of_a_checkpoint_and_differs_by_draw():
    head, twin = q_head(noisy=True), q_head(noisy=True)
    head.resample(generator(5))
    assert not torch.allclose(twin.q_values(FEATURES), head.q_values(FEATURES))
    twin.load_state_dict(head.state_dict())
    torch.testing.assert_close(twin.q_values(FEATURES), head.q_values(FEATURES))
    before = head.q_values(FEATURES)
    head.resample(generator(6))
    assert not torch.allclose(head.q_values(FEATURES), before)


def test_value_head_drops_the_last_axis():
    head = ValueHead(6)
    nn.init.constant_(head.linear.weight, 1.0)
    value: Tensor = head(FEATURES)
    torch.testing.assert_close(value, FEATURES.sum(-1))


def test_wrong_settings_are_named():
    with pytest.raises(SettingError, match="c51"):
        q_head(kind="c52")
    with pytest.raises(SettingError, match="v_min"):
        q_head(kind="c51", v_min=1.0, v_max=1.0)
