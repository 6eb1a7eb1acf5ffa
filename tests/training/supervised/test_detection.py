"""Detection: which cell answers for what, its losses, a whole run, and a person's own photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from triathlon.networks.images import MapShape
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import Fit, fit
from triathlon.training.supervised.network import load_checkpoint, make_network, restore_network
from triathlon.training.supervised.pictures.detection import BoxHead, assign, focal_loss
from triathlon.training.supervised.pictures.overlays import class_colour, frame
from triathlon.training.supervised.registry import make_task

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
SMALL = {"kind": "cnn", "channels": [16, 32], "kernel_sizes": [4, 3], "strides": [2, 2], "features": 0}


def on(drawn: Path, **settings: Any) -> dict[str, Any]:
    """A task on the objects and photos that tests draw."""
    task = {"kind": "detection", "source": str(drawn / "objects"), "photos": str(drawn / "photos")}
    sizes = {"size": 36, "smallest": 12, "largest": 24, "most_objects": 2, "num_examples": 320}
    return {**task, **sizes, "head_channels": 16, **settings}


# --- targets and losses -----------------------------------------------------------------------------------------------

NOBODY = [-1.0] * 5


def test_cells_near_the_middle_of_a_box_answer_for_it() -> None:
    """Cells of 4 pixels over 16 x 8: middles at 2, 6, 10, 14 and 2, 6."""
    rows, columns = torch.meshgrid(torch.tensor([2.0, 6]), torch.tensor([2.0, 6, 10, 14]), indexing="ij")
    centres = torch.stack([columns, rows], -1).flatten(0, 1)
    wide = [0.0, 0, 16, 8, 1]  # its middle is (8, 4): all within 6 pixels but the four corners, which are at it exactly
    small = [5.0, 1, 8, 4, 0]  # only the cell at (6, 2)
    which = assign(centres, torch.tensor([[wide, NOBODY], [wide, small], [NOBODY, small], [NOBODY, NOBODY]]))
    assert which.tolist() == [
        [-1, 0, 0, -1, -1, 0, 0, -1],
        [-1, 1, 0, -1, -1, 0, 0, -1],  # of two the smaller
        [-1, 1, -1, -1, -1, -1, -1, -1],
        [-1] * 8,
    ]


def test_a_focus_of_none_is_cross_entropy() -> None:
    logits = torch.tensor([-2.0, 0.0, 3.0, 1.0])
    wanted = torch.tensor([0.0, 1, 1, 0])
    plain = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    torch.testing.assert_close(focal_loss(logits, wanted, 0.0, balance=0.5), plain / 2)
    # -log(1/2) of a positive that is unsure: 0.25 * 0.5^2 * 0.6931
    assert float(focal_loss(logits, wanted, 2.0)[1]) == pytest.approx(0.25 * 0.25 * 0.693147, rel=1e-5)


def test_at_the_start_boxes_stand_around_their_cells_and_nothing_is_likely() -> None:
    torch.manual_seed(0)
    head = BoxHead((MapShape(3, 8, 8, 4, 1.5),), 32, 5, 8, 0.0)
    logits, boxes = head([torch.rand(2, 3, 8, 8)], None)
    assert logits.shape == (2, 64, 5) and boxes.shape == (2, 64, 4)
    assert float(logits.detach().sigmoid().mean()) == pytest.approx(0.01, rel=0.1)
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2
    torch.testing.assert_close(
        middles[0, [0, 1, 8, 63]], torch.tensor([[2.0, 2], [6, 2], [2, 6], [30, 30]]), atol=0.5, rtol=0
    )
    torch.testing.assert_close(boxes[..., 2] - boxes[..., 0], torch.full((2, 64), 8 * np.e).float(), atol=0.8, rtol=0)


def test_frames_are_drawn_inside_their_boxes() -> None:
    framed = frame(np.zeros((20, 30, 3), np.uint8), np.array([[5.0, 4, 15, 12]]), np.array([2]))
    rows, columns = (np.flatnonzero(framed.any(axis)) for axis in ((1, 2), (0, 2)))
    assert (columns[0], rows[0], columns[-1], rows[-1]) == (5, 4, 14, 11)
    assert tuple(framed[4, 5]) == class_colour(2) and not framed[8, 10].any()


# --- runs -------------------------------------------------------------------------------------------------------------


def test_the_truth_as_an_answer_is_perfect(drawn: Path, tmp_path: Path) -> None:
    """A head that says what is there, at the cells that are to say it, has no loss of boxes and a score of 1."""
    run = Fit(from_mapping({**QUIET, "task": on(drawn), "backbone": SMALL}), tmp_path)
    run.close()
    task, head = run.task, run.network.head
    assert isinstance(head, BoxHead)
    answers: list[torch.Tensor] = []

    class Oracle(torch.nn.Module):
        head = run.network.head

        def forward(self, obs: torch.Tensor, *_: Any) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[()]]:
            target = answers[0]
            which = assign(run.network.head.centres, target)
            mine = target.gather(1, which.clamp(min=0).unsqueeze(-1).expand(-1, -1, 5))
            hot = F.one_hot(mine[..., 4].long().clamp(min=0), 3) * (which >= 0).unsqueeze(-1)
            return ((hot * 40.0 - 20.0, mine[..., :4]), ())

    oracle: Any = Oracle()
    batch = task.splits.validation.batch(np.arange(50))
    answers.append(batch.target)
    assert float(task.loss(oracle, batch, None, None)[0]) == pytest.approx(0.0, abs=1e-4)

    class Fifty:
        def in_order(self, _: int) -> Any:
            yield batch

    metrics = task.evaluate(oracle, Fifty(), 50, torch.device("cpu")).metrics  # type: ignore[arg-type]
    assert metrics["map50"] == 1.0 and 0.0 < metrics["map50_trivial"] < 0.3


def test_a_small_network_learns_and_frames_what_is_on_a_photo(drawn: Path, tmp_path: Path) -> None:
    settings = {"num_epochs": 12, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 10, "evaluation_period": 240}
    task = on(drawn, most_objects=1)
    experiment = from_mapping({**QUIET, "task": task, "backbone": SMALL, "fit": settings})
    result = fit(experiment, tmp_path)
    assert result.test is not None
    metrics = result.test.metrics
    assert metrics["map50"] > 0.5 and metrics["map50"] > 3 * metrics["map50_trivial"]
    assert result.test.pictures["samples"].shape == (6 * 146, 6 * 146, 3)

    state = load_checkpoint(result.checkpoint, experiment)
    predictor = make_task(experiment.task, state["facts"])  # as `triathlon predict` does: without the data
    network = make_network(experiment, predictor, torch.device("cpu")).eval()
    restore_network(network, state, result.checkpoint)
    photo = Image.new("RGB", (108, 72), (110, 110, 110))
    ImageDraw.Draw(photo).ellipse((10, 10, 60, 50), fill=(250, 60, 40))
    photo.save(tmp_path / "mine.png")
    with torch.no_grad():
        (line,) = predictor.predict(network, [tmp_path / "mine.png"], torch.device("cpu"))
    assert "mine.png: ball 0." in line and line.endswith(f"framed in {tmp_path / 'mine.detected.png'}")
    framed = np.asarray(Image.open(tmp_path / "mine.detected.png"))
    assert framed.shape == (72, 108, 3) and not np.array_equal(framed, np.asarray(photo))


def test_it_reads_maps_only(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="detection needs one that keeps a map of the picture, and GRU keeps none"):
        Fit(from_mapping({**QUIET, "task": on(drawn), "backbone": {"kind": "gru"}}), tmp_path)
