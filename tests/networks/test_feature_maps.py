"""Maps of features: the picture backbones give them before flattening, each cell where it says that it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.networks import config_class, make_backbone
from triathlon.networks.images import MapShape, PictureBackbone, compute_pictures_in

SPACE = spaces.Box(0, 255, (45, 50, 3), np.uint8)
OBS = torch.randint(0, 256, (2, 3, 45, 50, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
EXPECTED: dict[str, tuple[dict[str, Any], list[MapShape]]] = {
    "cnn": ({}, [MapShape(32, 10, 11, 4, 3.5), MapShape(64, 4, 4, 8, 9.5), MapShape(64, 2, 2, 8, 17.5)]),
    "impala": ({}, [MapShape(16, 23, 25, 2, 0.0), MapShape(32, 12, 13, 4, 0.0), MapShape(32, 6, 7, 8, 0.0)]),
    "patches": ({"width": 32, "patch_size": 8}, [MapShape(32, 6, 7, 8, 3.5)]),
    "resnet": ({"channels": 8, "num_blocks": 1}, [MapShape(8, 45, 50, 1, 0.0)]),
}


def picture_backbone(kind: str, **changes: Any) -> PictureBackbone:
    torch.manual_seed(0)
    network = make_backbone(config_class(kind)(**EXPECTED[kind][0] | changes), SPACE)
    assert isinstance(network, PictureBackbone)
    return network


@pytest.mark.parametrize("kind", EXPECTED)
def test_maps_have_the_shapes_that_are_said(kind: str) -> None:
    network = picture_backbone(kind)
    assert list(network.map_shapes) == EXPECTED[kind][1]
    maps = network.feature_maps(OBS)
    assert [tuple(m.shape) for m in maps] == [(6, s.channels, s.height, s.width) for s in network.map_shapes]


@pytest.mark.parametrize("kind", ["cnn", "impala"])
def test_without_a_last_layer_the_features_are_the_last_map(kind: str) -> None:
    network = picture_backbone(kind, features=0)
    assert torch.equal(network(OBS)[0].flatten(0, 1), network.feature_maps(OBS)[-1].flatten(1))


def test_the_features_of_a_vision_transformer_are_the_mean_of_its_map() -> None:
    network = picture_backbone("patches")
    torch.testing.assert_close(network(OBS)[0].flatten(0, 1), network.feature_maps(OBS)[0].mean((2, 3)))
    with_token = picture_backbone("patches", pooling="cls")
    assert with_token.feature_maps(OBS)[0].shape == (6, 32, 6, 7)


@pytest.mark.parametrize("kind", ["cnn", "impala"])
def test_a_cell_looks_at_the_pixel_that_it_lies_on(kind: str) -> None:
    """What moves a cell lies evenly around its pixel: the middle of the pixels that its value has a gradient at."""
    network = picture_backbone(kind)
    pictures = torch.rand(64, 3, 45, 50, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for shape, cells in zip(network.map_shapes, network.encode_maps(pictures), strict=True):
        row, column = shape.height // 2, shape.width // 2
        (gradient,) = torch.autograd.grad(cells[:, :, row, column].sum(), pictures, retain_graph=True)
        reached = gradient.abs().sum((0, 1)) > 0
        for side, cell, pixels in ((45, row, reached.any(1)), (50, column, reached.any(0))):
            seen = pixels.nonzero().flatten()
            whole = bool(seen[0] > 0 and seen[-1] < side - 1)  # not cut by the picture's edge
            assert whole or shape != network.map_shapes[0]
            if whole:
                assert (seen[0] + seen[-1]) / 2 == pytest.approx(shape.start + cell * shape.stride, abs=0.5)


@pytest.mark.parametrize("kind", EXPECTED)
def test_maps_in_bfloat16_are_nearly_the_same(kind: str) -> None:
    network = picture_backbone(kind)
    exact = network.feature_maps(OBS)
    compute_pictures_in(network, torch.bfloat16)
    for a, b in zip(exact, network.feature_maps(OBS), strict=True):
        assert b.dtype is torch.float32
        assert 1e-5 < (a - b).abs().max() / a.abs().max() < 0.1


def test_who_keeps_no_maps_says_so() -> None:
    assert not hasattr(make_backbone(config_class("mlp")(), SPACE), "map_shapes")
    assert PictureBackbone.map_shapes == ()
    with pytest.raises(NotImplementedError, match="must define encode_maps"):
        PictureBackbone().encode_maps(torch.zeros(1, 1, 4, 4))
