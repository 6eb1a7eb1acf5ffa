"""Segmentation: the head's geometry, its loss and measure, a whole run, and a person's own photo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image

from triathlon.networks import config_class, make_backbone
from triathlon.networks.errors import SettingError
from triathlon.networks.images import MapShape, PictureBackbone
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import Fit, fit
from triathlon.training.supervised.network import load_checkpoint, make_network, restore_network
from triathlon.training.supervised.pictures.map_head import MapHead, Place, grid
from triathlon.training.supervised.pictures.overlays import class_colour, paint
from triathlon.training.supervised.pictures.segmentation import dice_loss, iou_of
from triathlon.training.supervised.registry import make_task

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
SMALL = {"kind": "cnn", "channels": [16, 32], "kernel_sizes": [4, 3], "strides": [2, 2], "features": 0}
BACKBONES: dict[str, dict[str, Any]] = {
    "cnn": SMALL,
    "impala": {"channels": [8, 8], "features": 0},
    "patches": {"patch_size": 8, "width": 32, "num_layers": 1},
    "resnet": {"channels": 8, "num_blocks": 1, "features": 0},
}


def on(drawn: Path, **settings: Any) -> dict[str, Any]:
    """A task on the objects and photos that tests draw."""
    task = {"kind": "segmentation", "source": str(drawn / "objects"), "photos": str(drawn / "photos")}
    sizes = {"size": 36, "smallest": 12, "largest": 24, "most_objects": 2, "num_examples": 160}
    return {**task, **sizes, "head_channels": 16, **settings}


# --- the head ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_map_that_says_where_it_is_says_so_on_the_grid(kind: str) -> None:
    """Cells that hold their own place keep it when they are put on the grid, as far as the map reaches."""
    space = spaces.Box(0, 255, (45, 50, 3), np.uint8)
    backbone = make_backbone(config_class(kind)(**{k: v for k, v in BACKBONES[kind].items() if k != "kind"}), space)
    assert isinstance(backbone, PictureBackbone)
    target = grid(45, 50, 4)
    assert target == MapShape(0, 12, 13, 4, 1.5)
    for shape in backbone.map_shapes:
        rows = shape.start + shape.stride * torch.arange(shape.height)
        columns = shape.start + shape.stride * torch.arange(shape.width)
        placed = Place(shape, target)(torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None])
        wanted = 1.5 + 4 * torch.arange(12), 1.5 + 4 * torch.arange(13)
        torch.testing.assert_close(placed[0, 0, :, 0], wanted[0].clamp(rows[0], rows[-1]))
        torch.testing.assert_close(placed[0, 1, 0], wanted[1].clamp(columns[0], columns[-1]))


def test_a_map_that_lies_on_the_grid_is_left_as_it_is() -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert Place(grid(16, 16, 4), grid(16, 16, 4))(x) is x


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_maps_of_any_stride_are_answered_on_the_grid(stride: int) -> None:
    shape = grid(30, 20, stride)
    shape = MapShape(5, shape.height, shape.width, shape.stride, shape.start)
    torch.manual_seed(0)
    head = MapHead((shape, shape), grid(30, 20, 4), 6, 7, 0.0)
    maps = [torch.rand(2, 5, shape.height, shape.width) for _ in range(2)]
    answer = head(maps, None)
    assert answer.shape == (2, 7, 8, 5)
    answer.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())


# --- loss and measure -------------------------------------------------------------------------------------------------


def test_dice_in_numbers() -> None:
    target = torch.tensor([[[0, 0], [0, 1]]])
    sure = torch.zeros(1, 3, 2, 2).scatter_(1, target[:, None], 40.0)
    assert float(dice_loss(sure, target)) == pytest.approx(0.0, abs=1e-6)
    even = torch.zeros(1, 3, 2, 2)  # a third everywhere: 2 * 1 / (4/3 + 3) and 2 * (1/3) / (4/3 + 1); class 2 is absent
    assert float(dice_loss(even, target)) == pytest.approx(1 - (6 / 13 + 2 / 7) / 2)


def test_iou_in_numbers() -> None:
    each = iou_of(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert each[:2].tolist() == [6 / 9, 3 / 6] and math.isnan(each[2])


def test_classes_are_painted_in_their_colours() -> None:
    grey = np.full((2, 2, 3), 100, np.uint8)
    painted = paint(grey, np.array([[0, 1], [3, 0]]), strength=1.0)
    assert painted[0, 0].tolist() == [100, 100, 100]
    assert tuple(painted[0, 1]) == class_colour(0) and tuple(painted[1, 0]) == class_colour(2)
    colours = [np.array(class_colour(k)) for k in range(8)]
    assert min(np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]) > 40


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_small_network_learns_and_paints_a_photo(drawn: Path, tmp_path: Path) -> None:
    settings = {"num_epochs": 20, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 10, "evaluation_period": 200}
    experiment = from_mapping({**QUIET, "task": on(drawn, most_objects=1), "backbone": SMALL, "fit": settings})
    result = fit(experiment, tmp_path)
    assert result.test is not None
    metrics = result.test.metrics
    assert metrics["miou"] > 0.3
    assert 0.15 < metrics["miou_trivial"] < 0.25  # a quarter of how much of the pictures is photo
    assert result.test.pictures["samples"].shape == (6 * 146, 6 * 146, 3)
    assert "| wedge | 0." in result.test.texts["iou"]

    state = load_checkpoint(result.checkpoint, experiment)
    task = make_task(experiment.task, state["facts"])  # as `triathlon predict` does: without the data
    network = make_network(experiment, task, torch.device("cpu")).eval()
    restore_network(network, state, result.checkpoint)
    obs = make_task(experiment.task).splits.test.batch(np.arange(40)).obs
    with torch.no_grad():
        masks = network(obs)[0].argmax(1).numpy()
        chosen = int((masks > 0).sum((1, 2)).argmax())
        Image.fromarray(obs[0, chosen].numpy()).save(tmp_path / "mine.png")
        (line,) = task.predict(network, [tmp_path / "mine.png"], torch.device("cpu"))
        with pytest.raises(RunError, match="there is no file"):
            list(task.predict(network, [tmp_path / "none.png"], torch.device("cpu")))
    assert line.endswith(f"painted in {tmp_path / 'mine.segmented.png'}")
    kind, share = np.bincount(masks[chosen].ravel(), minlength=4)[1:].argmax(), np.bincount(masks[chosen].ravel())
    assert f"mine.png: {task.facts['classes'][kind]} {100 * share[kind + 1] / 36**2:.1f} %" in line
    painted = np.asarray(Image.open(tmp_path / "mine.segmented.png"))
    assert masks[chosen].any() and np.array_equal(painted, paint(obs[0, chosen].numpy(), masks[chosen]))


def test_a_photo_of_any_size_is_painted_in_its_own(drawn: Path, tmp_path: Path) -> None:
    run = Fit(from_mapping({**QUIET, "task": on(drawn), "backbone": SMALL}), tmp_path / "run")
    run.close()
    Image.new("RGB", (108, 72), (110, 110, 110)).save(tmp_path / "mine.jpg")
    with torch.no_grad():
        list(run.task.predict(run.network.eval(), [tmp_path / "mine.jpg"], torch.device("cpu")))
    assert Image.open(tmp_path / "mine.segmented.png").size == (108, 72)


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_picture_backbone_takes_a_step(kind: str, drawn: Path, tmp_path: Path) -> None:
    backbone = {"kind": kind, **BACKBONES[kind]}
    run = Fit(from_mapping({**QUIET, "task": on(drawn), "backbone": backbone, "fit": {"batch_size": 8}}), tmp_path)
    run._step()
    for name, parameter in run.network.backbone.named_parameters():
        used = not name.startswith(("linear", "reduce"))  # what makes features of the last map
        assert (parameter in run.optimizer.state) == used, name
    run.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"backbone": {"kind": "mlp"}},
            "segmentation needs one that keeps a map of the picture, and MLP keeps none",
        ),
        ({"backbone": {"kind": "lstm"}}, "and LSTM keeps none"),
        ({"task": {"largest": 30}}, "turned objects of more than 25 do not fit into pictures of 36"),
        ({"task": {"smallest": 25}}, r"smallest is 25, more than largest \(24\)"),
        ({"task": {"clases": ["ball"]}}, "did you mean 'classes'"),
    ],
)
def test_what_is_wrong_is_one_sentence(change: dict[str, Any], sentence: str, drawn: Path, tmp_path: Path) -> None:
    task = on(drawn, **change.get("task", {}))
    with pytest.raises((RunError, SettingError), match=sentence):
        Fit(from_mapping({**QUIET, "task": task, "backbone": change.get("backbone", SMALL)}), tmp_path)
