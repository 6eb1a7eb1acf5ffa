"""What tests of several tasks need: objects and photos that they draw, and runs that are stopped and go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from triathlon.training import checkpoint
from triathlon.training.supervised.config import SupervisedExperiment
from triathlon.training.supervised.fit import Fit, fit


@pytest.fixture
def go_on(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Fits an experiment whole, in `whole`, and in `halves` with a stop after so many steps; returns the last state.

    Both must have learned the same to the bit: weights of the last and of the best checkpoint, and the memory.
    """

    def check(experiment: SupervisedExperiment, num_steps: int) -> dict[str, Any]:
        fit(experiment, tmp_path / "whole")
        halves = Fit(experiment, tmp_path / "halves")
        for _ in range(num_steps):
            halves._step()
        halves._save("last")
        halves.close()
        fit(experiment, tmp_path / "halves", resume=True)
        for which in ("best", "last"):
            file = f"checkpoints/{which}.safetensors"
            whole, resumed = (checkpoint.load(tmp_path / name / file) for name in ("whole", "halves"))
            assert whole["num_steps"] == resumed["num_steps"]
            assert whole["network"].keys() == resumed["network"].keys()
            assert all(torch.equal(weight, resumed["network"][name]) for name, weight in whole["network"].items())
        assert resumed["num_steps"] > num_steps
        assert all(torch.equal(a, b) for a, b in zip(whole["state"] or (), resumed["state"] or (), strict=True))
        return resumed

    return check


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `objects/ball`, `objects/brick` and `objects/wedge`, transparent around, and six `photos`."""
    folder = tmp_path_factory.mktemp("drawn")
    for name, colour in (("ball", (250, 60, 40, 255)), ("brick", (40, 220, 70, 255)), ("wedge", (60, 90, 250, 255))):
        (folder / "objects" / name).mkdir(parents=True)
        image = Image.new("RGBA", (40, 40))
        pen = ImageDraw.Draw(image)
        if name == "ball":
            pen.ellipse((4, 4, 35, 35), fill=colour)
        elif name == "brick":
            pen.rectangle((2, 12, 37, 27), fill=colour)
        else:
            pen.polygon([(4, 35), (35, 35), (20, 4)], fill=colour)
        image.save(folder / "objects" / name / "1.png")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        smooth = Image.fromarray(rng.integers(60, 160, (5, 6, 3), np.uint8)).resize((90, 70), Image.Resampling.BICUBIC)
        smooth.save(folder / "photos" / f"{i}.png")
    return folder
