"""Learning tests, minutes each: one seed of every row that `make learn` puts into its table reaches its goal.

pytest -m slow -k cartpole
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "learn.py"


def _learn() -> Any:
    spec = importlib.util.spec_from_file_location("learn", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["learn"] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


LEARN = _learn()


@pytest.mark.slow
@pytest.mark.parametrize("goal", LEARN.goals(), ids=lambda goal: goal.name)
def test_a_configuration_reaches_its_goal(goal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LEARN, "ROOT", tmp_path)
    score = LEARN.run(goal, seed=1)["score"]
    assert goal.met_by(score), f"{goal.name} reached {score:.4g}"


def test_every_row_is_a_configuration_that_builds() -> None:
    from triathlon.training.config import load

    for goal in LEARN.goals():
        load(goal.config, goal.changes)
