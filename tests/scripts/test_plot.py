"""`triathlon plot`: what a real run wrote down comes out as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triathlon.scripts.main import main
from triathlon.training.config import from_mapping
from triathlon.training.curves import read_curve
from triathlon.training.errors import RunError
from triathlon.training.run_folder import create
from triathlon.training.runner import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    agent = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 1}
    evaluation = {"period": 100, "num_episodes": 2, "final_episodes": 0, "video": False}
    settings = {"env": {"id": "CartPole-v1", "num_envs": 4}, "agent": agent, "total_steps": 400}
    root = tmp_path_factory.mktemp("runs")
    experiment = from_mapping(settings | {"evaluation": evaluation, "logging": {"period": 50}, "root": str(root)})
    folder = create(experiment, ["train"])
    train(experiment, folder.path)
    return folder.path


def test_curves_are_what_was_written(run: Path) -> None:
    returns = read_curve(run, "rollout/ep_rew_mean")
    assert len(returns.x) > 4
    assert (np.diff(returns.x) > 0).all()
    assert returns.x[-1] >= 400
    assert (returns.y >= 8).all()  # no game of CartPole is shorter
    scores = read_curve(run, "eval/mean_reward", "time", "seed 1")
    assert len(scores.y) == 4
    assert scores.label == "seed 1"
    assert (np.diff(scores.x) >= 0).all()
    assert 0.0 < scores.x[-1] < 1.0  # minutes


def test_a_picture_is_drawn(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "curves.png"
    arguments = ["plot", str(run), str(run), "--label", "one", "--label", "two", "--line", "most=500"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    picture = np.asarray(Image.open(out).convert("RGB"))
    assert picture.shape[0] > 300
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert [path.name for path in out.parent.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tag", "eval/mean_rewards"], "did you mean"),
        (["--line", "high"], "--line is 'high'"),
        (["--label", "a", "--label", "b"], "--label is given 2 times for 1 runs"),
        (
            ["--out", "curves.pgn"],
            "the picture curves.pgn should be named .png, .pdf, .svg or the like (did you mean '.png'?)",
        ),
        (["--out", "curves"], "the picture curves should be named .png, .pdf, .svg or the like\n"),
    ],
)
def test_wrong_arguments_are_explained(
    run: Path,
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(run), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_without_curves_says_so(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"logging\.csv"):
        read_curve(tmp_path, "rollout/ep_rew_mean")


def test_times_that_were_not_written_yet(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("time/total_timesteps,eval/mean_reward\n100,9.5\n")
    assert read_curve(tmp_path, "eval/mean_reward").y.tolist() == [9.5]
    with pytest.raises(RunError, match=r"has written no time yet, .* use --over steps"):
        read_curve(tmp_path, "eval/mean_reward", "time")


@pytest.mark.parametrize("bytes_", [b"\xff\xfe", b"\0\0\0,\0"])
def test_a_damaged_table_is_said_so(run: Path, tmp_path: Path, bytes_: bytes) -> None:
    (tmp_path / "progress.csv").write_bytes((run / "progress.csv").read_bytes() + bytes_)
    with pytest.raises(RunError, match=r"progress.csv is damaged: "):
        read_curve(tmp_path, "rollout/ep_rew_mean")
