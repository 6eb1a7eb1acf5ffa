"""Pictures in bfloat16: nearly the same features, in float32, from float32 weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from triathlon.networks import config_class, make_backbone
from triathlon.networks.cnn import CNN, CNNConfig
from triathlon.networks.images import compute_pictures_in, weights_rounded_once

SPACE = spaces.Box(0, 255, (4, 36, 36), np.uint8)
OBS = torch.randint(0, 256, (3, 2, 4, 36, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, dict[str, Any]] = {
    "cnn": {},
    "impala": {"channels": (8, 8)},
    "patches": {"width": 32, "num_layers": 1},
    "lstm": {"encoder": config_class("cnn")(), "hidden_size": 16},
}


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_nearly_the_same(kind: str) -> None:
    torch.manual_seed(0)
    network = make_backbone(config_class(kind)(**KINDS[kind]), SPACE)
    exact, _ = network(OBS)
    compute_pictures_in(network, torch.bfloat16)
    rounded, state = network(OBS)
    assert rounded.dtype is torch.float32
    assert all(s.dtype is torch.float32 for s in state)
    difference = (rounded - exact).abs().max() / exact.abs().max()
    assert 1e-5 < difference < 0.05  # rounded it was
    rounded.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.dtype is torch.float32
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", [*KINDS, "normed"])
def test_rounding_weights_once_changes_no_bit(kind: str) -> None:
    torch.manual_seed(0)
    settings = {"layer_norm": True} if kind == "normed" else KINDS[kind]
    network = make_backbone(config_class("cnn" if kind == "normed" else kind)(**settings), SPACE)
    with weights_rounded_once(network):  # nothing is rounded in float32
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    compute_pictures_in(network, torch.bfloat16)
    before = {name: (parameter.data_ptr(), parameter.clone()) for name, parameter in network.named_parameters()}
    with torch.inference_mode():
        expected, _ = network(OBS)
    with weights_rounded_once(network), torch.inference_mode():
        assert torch.bfloat16 in {parameter.dtype for parameter in network.parameters()}
        for _ in range(2):
            assert torch.equal(network(OBS)[0], expected)
    for name, parameter in network.named_parameters():
        assert parameter.data_ptr() == before[name][0] and torch.equal(parameter, before[name][1])
    network(OBS)[0].square().mean().backward()  # and it learns
    assert all(
        parameter.grad is not None and parameter.grad.dtype is torch.float32 for parameter in network.parameters()
    )


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_cnn_does_what_torch_does(layer_norm: bool) -> None:
    """The same numbers from torch's own modules, on pictures laid out as they come."""
    torch.manual_seed(0)
    network = CNN(SPACE, CNNConfig(features=8, layer_norm=layer_norm))
    x, norms = OBS.flatten(0, 1) / 255, list(network.norms)
    assert len(norms) == (4 if layer_norm else 0)
    for convolution in network.convolutions:
        assert isinstance(convolution, nn.Conv2d)
        x = nn.functional.conv2d(x, convolution.weight, convolution.bias, convolution.stride[0])
        x = nn.functional.layer_norm(x, x.shape[1:]) if layer_norm else x
        x = torch.relu(x)
    assert network.linear is not None
    x = network.linear(x.flatten(1))
    x = nn.functional.layer_norm(x, (8,)) if layer_norm else x
    torch.testing.assert_close(network(OBS)[0].flatten(0, 1), torch.relu(x), atol=1e-5, rtol=1e-4)


def test_channels_last_changes_nothing_but_the_layout() -> None:
    torch.manual_seed(0)
    first = CNN(SPACE, CNNConfig(channels_last=False))
    last = CNN(SPACE, CNNConfig(channels_last=True))
    last.load_state_dict(first.state_dict())
    assert last.read(OBS).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(OBS)[0], first(OBS)[0])
