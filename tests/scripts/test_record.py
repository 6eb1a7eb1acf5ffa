"""`triathlon record`: an agent's play, or random play, as a folder that tasks learn from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from triathlon.scripts.main import main
from triathlon.training import config
from triathlon.training.run_folder import create
from triathlon.training.runner import train
from triathlon.training.supervised.played.recording import read


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an agent that hardly learned, in a fresh working directory."""
    monkeypatch.chdir(tmp_path)
    quiet = ["--evaluation.final-episodes", "0", "--evaluation.video", "false", "--num-threads", "1"]
    experiment = config.load("cartpole_ppo", [*quiet, "--total-steps", "256", "--evaluation.period", "null"])
    folder = create(experiment, ["test"])
    train(experiment, folder.path)
    return folder.path


def test_an_agents_play_is_written_down(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", str(run), "--out", "first", "--steps", "80", "--deterministic"]) == 0
    assert "steps" in capsys.readouterr().out
    assert main(["record", str(run), "--out", "second", "--steps", "80", "--deterministic"]) == 0
    assert main(["record", str(run), "--out", "noisy", "--steps", "80", "--deterministic", "--epsilon", "1"]) == 0
    first, second, noisy = (read(name) for name in ("first", "second", "noisy"))
    assert first.env is not None and first.env.id == "CartPole-v1" and 64 <= first.num_steps <= 80
    np.testing.assert_array_equal(first.obs, second.obs)
    assert not np.array_equal(first.action, noisy.action)
    facts = json.loads(Path("first/recording.json").read_text())
    assert facts["note"].startswith("played by ") and facts["num_steps"] == first.num_steps


def test_random_play_needs_no_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["record", "catch_ppo", "--random", "--out", "catch", "--steps", "320"]) == 0
    found = read("catch")
    assert found.obs.shape[1:] == (10, 10, 1) and set(found.action) == {0, 1, 2}
    assert "32 whole episodes, mean return -" in capsys.readouterr().out
    assert json.loads(Path("catch/recording.json").read_text())["note"] == "played at random"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["catch_ppo", "--out", "x"], "there is no run folder 'catch_ppo'"),
        (["catch_ppo", "--random", "--out", "x", "--epsilon", "0.5"], "--random plays without the agent"),
        (["catch_ppo", "--random", "--out", "x", "--steps", "0"], "--steps is 0 but should be at least 1"),
        (["run", "--out", "x", "--epsilon", "2"], "--epsilon is 2 but should be from 0 to 1"),
        (["run", "--out", "taken"], "there is a recording in taken already"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    Path("taken/recording.json").write_text("{}")
    assert main(["record", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("x").exists()
