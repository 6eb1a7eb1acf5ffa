"""Learning rates step by step, and which weights they are for."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from triathlon.networks.errors import SettingError
from triathlon.networks.mlp import MLPConfig
from triathlon.networks.patches import PatchesConfig
from triathlon.networks.registry import make_backbone
from triathlon.networks.transformer import TransformerConfig
from triathlon.training.supervised.heads import ClassHead, Network
from triathlon.training.supervised.schedule import FitConfig, learning_rate, make_optimizer, set_learning_rate


def rates(config: FitConfig, num_steps: int) -> list[float]:
    return [learning_rate(config, step, num_steps) for step in range(num_steps)]


def test_warm_up_then_a_cosine_to_zero() -> None:
    config = FitConfig(learning_rate=1.0, warmup_steps=2)
    assert rates(config, 6) == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_warm_up_then_constant() -> None:
    config = FitConfig(learning_rate=3.0, warmup_steps=3, schedule="constant")
    assert rates(config, 5) == pytest.approx([1.0, 2.0, 3.0, 3.0, 3.0])


def test_a_run_shorter_than_its_warm_up_only_rises() -> None:
    assert rates(FitConfig(learning_rate=1.0, warmup_steps=4), 2) == [0.25, 0.5]


def network(frozen: bool = False) -> Network:
    config = MLPConfig(hidden_sizes=(4,), layer_norm=True)
    backbone = make_backbone(config, spaces.Box(-1, 1, (3,), np.float32))
    return Network(backbone.requires_grad_(not frozen), ClassHead(4, 2, "last", 0.0))


def test_matrices_decay_and_vectors_do_not_and_each_part_has_its_rate() -> None:
    optimizer = make_optimizer(network(), FitConfig(weight_decay=0.1, backbone_scale=0.5))
    set_learning_rate(optimizer, 2.0)
    found = [(g["lr"], g["weight_decay"], sorted(tuple(p.shape) for p in g["params"])) for g in optimizer.param_groups]
    assert found == [
        (2.0, 0.1, [(2, 4)]),
        (2.0, 0.0, [(2,)]),
        (1.0, 0.1, [(4, 3)]),
        (1.0, 0.0, [(4,), (4,), (4,)]),
    ]


def test_positions_and_distances_do_not_decay() -> None:
    transformer = TransformerConfig(encoder=MLPConfig(hidden_sizes=(4,)), width=4, num_layers=1, memory_length=3)
    patches = PatchesConfig(patch_size=2, width=4, num_layers=1, pooling="cls")
    for config, space, kept in (
        (transformer, spaces.Box(-1, 1, (3,), np.float32), ["layers.0.distance_bias"]),
        (patches, spaces.Box(0, 255, (4, 4), np.uint8), ["cls", "position"]),
    ):
        backbone = make_backbone(config, space)
        optimizer = make_optimizer(Network(backbone, ClassHead(4, 2, "last", 0.0)), FitConfig(weight_decay=0.1))
        free = {id(p) for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
        assert sorted(name for name, p in backbone.named_parameters() if p.dim() > 1 and id(p) in free) == kept


def test_a_frozen_backbone_is_not_optimised() -> None:
    optimizer = make_optimizer(network(frozen=True), FitConfig())
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == 4 * 2 + 2
    with pytest.raises(SettingError, match=r"fit\.backbone_scale is not read with freeze_backbone"):
        make_optimizer(network(frozen=True), FitConfig(backbone_scale=0.1))
