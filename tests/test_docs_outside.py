"""docs/outside.md: its code is run as it stands, block after block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from triathlon.training import checkpoint, config
from triathlon.training.run_folder import create
from triathlon.training.runner import train

PAGE = Path(__file__).parent.parent / "docs" / "outside.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_block(number: int, names: dict[str, Any]) -> dict[str, Any]:
    """Execute a block of the page in `names`, as a reader would paste it."""
    exec(compile(BLOCKS[number], f"{PAGE.name}, block {number}", "exec"), names)
    return names


@pytest.fixture
def names() -> dict[str, Any]:
    torch.manual_seed(0)
    return run_block(0, {})


def test_the_page_has_the_blocks_that_are_tested_here() -> None:
    assert len(BLOCKS) == 5


def test_plain_pytorch(names: dict[str, Any]) -> None:
    backbone = names["backbone"]
    assert names["features"].shape == (1, 16, 64) and names["state"] == ()
    parameters = [*backbone.parameters(), *names["head"].parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    assert sum(p.grad.abs().sum() for p in backbone.parameters()) > 0


def test_a_memory_goes_on(names: dict[str, Any]) -> None:
    run_block(1, names)
    assert names["whole"].shape == (20, 8, 32) and len(names["state"]) == 2


def test_lightning(names: dict[str, Any]) -> None:
    pytest.importorskip("lightning")
    run_block(2, names)
    trained = names["trainer"].lightning_module
    assert names["trainer"].global_step == 4
    fresh = names["Classifier"]().state_dict()
    assert trained.state_dict().keys() == fresh.keys()


def test_features_of_a_trained_run(
    names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = config.load(
        "catch_ppo",
        ["--name", "mine", "--total-steps", "512", "--evaluation.final-episodes", "0", "--evaluation.video", "false"],
    )
    folder = create(experiment, ["test"])
    train(experiment, folder.path)
    run_block(3, names)
    weights = checkpoint.load(folder.checkpoint())["learner"]["network"]
    for name, weight in names["trained"].state_dict().items():
        assert torch.equal(weight, weights[f"actor.{name}"])
    assert names["features"].shape == (1, 16, 64)
    assert "weights taken over" in capsys.readouterr().out
    run_block(4, names)
    assert [tuple(m.shape[:2]) for m in names["maps"]] == [(16, 16), (16, 32)]
