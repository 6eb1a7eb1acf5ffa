"""Learning tests, minutes each: one seed of every row that `make learn` puts into its table reaches its goal.

pytest -m slow -k cartpole
"""

from __future__ import annotations

import importlib.util
import json
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


SHORT = ("--total-steps", "300", "--agent.num-steps", "16", "--evaluation.period", "null")
TINY = (*SHORT, "--evaluation.final-episodes", "2", "--logging.tensorboard", "false", "--num-threads", "1")


def test_a_row_leaves_the_folder_of_a_run_and_is_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from triathlon.scripts.main import main
    from triathlon.training.run_folder import open_run

    monkeypatch.setattr(LEARN, "ROOT", tmp_path / "learn")
    goal = LEARN.Goal("tiny", "cartpole_ppo", TINY, at_least=0)
    reached = LEARN.run(goal, 3)
    folder = tmp_path / "learn" / "tiny" / "3"
    assert reached == json.loads((folder / "outcome.json").read_text())
    written = open_run(folder).experiment()
    assert written == LEARN.experiment_of(goal, 3) and (written.seed, written.total_steps) == (3, 300)
    assert reached["settings"] == LEARN.digest(written)
    assert reached["code"] == json.loads((folder / "git.json").read_text())["triathlon"]
    assert (folder / "command.txt").read_text() == "python benchmarks/learn.py --only tiny --seeds 3\n"
    assert (folder / "versions.json").is_file()
    assert main(["evaluate", str(folder), "--episodes", "1"]) == 0

    kept = (folder / "monitor.csv").stat().st_mtime_ns
    assert LEARN.run(goal, 3) == reached and (folder / "monitor.csv").stat().st_mtime_ns == kept
    assert "was trained with" not in capsys.readouterr().err


def test_a_row_whose_settings_changed_is_trained_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LEARN, "ROOT", tmp_path)
    first = LEARN.Goal("tiny", "cartpole_ppo", TINY, at_least=0)
    longer = LEARN.Goal("tiny", "cartpole_ppo", (*TINY, "--total-steps", "600"), at_least=0)
    before = LEARN.run(first, 1)
    monkeypatch.setattr(LEARN, "goals", lambda: [longer])
    monkeypatch.setattr(sys, "argv", ["learn.py", "--table", "--seeds", "1"])
    LEARN.main()
    table, said = capsys.readouterr()
    assert "| tiny |" not in table
    assert said.endswith(f"{tmp_path}/tiny/1 was trained with other settings than the row has now: it is left out.\n")
    after = LEARN.run(longer, 1)
    assert "it is trained anew" in capsys.readouterr().err
    assert 300 <= before["num_steps"] < 600 <= after["num_steps"]
    LEARN.main()
    table, said = capsys.readouterr()
    assert table.count("| tiny |") == 1 and not said

    old = {name: value for name, value in after.items() if name not in ("settings", "code")}
    (tmp_path / "tiny" / "1" / "outcome.json").write_text(json.dumps(old))
    LEARN.main()
    table, said = capsys.readouterr()
    assert "| tiny |" not in table and "with settings that nobody wrote down: it is left out" in said


def test_every_row_is_a_configuration_that_builds() -> None:
    from triathlon.training.config import load

    for goal in LEARN.goals():
        load(goal.config, goal.changes)
