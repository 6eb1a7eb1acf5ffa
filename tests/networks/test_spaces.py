"""How observations of a space are read, and how weights begin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from triathlon.networks.images import ImageReader
from triathlon.networks.initialization import orthogonal
from triathlon.networks.spaces import flat_reader, image_layout, image_size, pixel_scale


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((84, 84), (1, 84, 84, True)),
        ((4, 84, 84), (4, 84, 84, True)),
        ((84, 84, 3), (3, 84, 84, False)),
        ((8, 8, 119), (119, 8, 8, False)),
        ((119, 8, 8), (119, 8, 8, True)),
        ((210, 160, 3), (3, 210, 160, False)),
        ((3, 210, 160), (3, 210, 160, True)),
        ((6, 7, 2), (2, 6, 7, False)),
        ((3, 3, 3), (3, 3, 3, True)),
        ((3, 5, 3), (3, 5, 3, True)),
        ((4, 96, 96, 3), (12, 96, 96, False)),
    ],
)
def test_where_the_channels_are(shape, expected):
    assert image_layout(shape) == expected


def test_the_layout_can_be_said():
    assert image_layout((3, 3, 8), "channels_first") == (3, 3, 8, True)
    assert image_layout((3, 3, 8), "channels_last") == (8, 3, 3, False)


def test_which_boxes_are_pictures():
    assert image_size(spaces.Box(-1, 1, (4,))) is None
    assert image_size(spaces.Box(-1, 1, (20, 20))) is None
    assert image_size(spaces.Box(0, 255, (20, 30), np.uint8)) == (20, 30)
    assert image_size(spaces.Box(0, 1, (10, 10, 4))) == (10, 10)
    assert image_size(spaces.Discrete(3)) is None


def test_pixels_are_scaled_by_what_the_space_says():
    assert pixel_scale(spaces.Box(0, 255, (8, 8), np.uint8)) == 1 / 255
    assert pixel_scale(spaces.Box(0, 15, (8, 8), np.uint8)) == 1 / 15
    assert pixel_scale(spaces.Box(0, 1, (8, 8), np.uint8)) == 1
    assert pixel_scale(spaces.Box(0, 1, (8, 8), np.float64)) == 1
    assert pixel_scale(spaces.Box(0, 255, (8, 8), np.float32)) == 1


def test_a_pixel_arrives_where_it_belongs():
    read = ImageReader(spaces.Box(0, 255, (9, 7, 2), np.uint8), "auto", False, "cnn")
    obs = torch.zeros(3, 2, 9, 7, 2, dtype=torch.uint8)
    obs[2, 1, 4, 6, 1] = 51
    picture = read(obs)
    assert picture.shape == (6, 2, 9, 7)
    assert picture.nonzero().tolist() == [[5, 1, 4, 6]]
    assert picture.max().item() == pytest.approx(0.2)


def test_a_stack_of_pictures_keeps_frames_and_channels_apart():
    read = ImageReader(spaces.Box(0, 255, (4, 9, 9, 3), np.uint8), "auto", True, "cnn")
    obs = torch.zeros(1, 1, 4, 9, 9, 3, dtype=torch.uint8)
    obs[0, 0, 2, 5, 6, 1] = 255
    picture = read(obs)
    assert picture.is_contiguous(memory_format=torch.channels_last)
    assert picture.nonzero().tolist() == [[0, 2 * 3 + 1, 5, 6]]


@pytest.mark.parametrize(
    ("space", "obs", "expected"),
    [
        (spaces.Discrete(4, start=2), [[3]], [0, 1, 0, 0]),
        (spaces.MultiDiscrete([2, 3]), [[[1, 2]]], [0, 1, 0, 0, 1]),
        (spaces.MultiDiscrete([2, 3], start=[5, -1]), [[[5, 0]]], [1, 0, 0, 1, 0]),
        (spaces.Box(0, 5, (2, 2), np.int64), [[[[1, 2], [3, 4]]]], [1, 2, 3, 4]),
    ],
)
def test_flattened_observations(space, obs, expected):
    read, size = flat_reader(space, "mlp")
    assert read is not None
    assert read(torch.tensor(obs)).flatten().tolist() == expected
    assert size == len(expected)


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_orthogonal_weights_and_zero_biases(gain):
    layer = orthogonal(nn.Linear(8, 5), gain)
    torch.testing.assert_close(layer.weight @ layer.weight.T, gain**2 * torch.eye(5), atol=1e-5, rtol=1e-4)
    assert (layer.bias == 0).all()
    for name, matrix in orthogonal(nn.LSTM(3, 4), 1.0).named_parameters():
        if "weight_hh" in name:
            for gate in matrix.chunk(4):
                torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-5, rtol=1e-4)
