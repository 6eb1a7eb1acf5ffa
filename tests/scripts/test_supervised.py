"""`triathlon supervised` and `triathlon predict`, from a configuration to a person's own files."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triathlon.scripts.main import main
from triathlon.training.shipped import shipped
from triathlon.training.supervised import config
from triathlon.training.supervised.registry import kinds

SHIPPED = {name: path for name, path in shipped().items() if path.parent.name == "supervised"}
CONFIG = """
task: {kind: image_classification, source: digits}
backbone: {kind: mlp, hidden_sizes: [32], activation: relu}
fit: {num_epochs: 6, batch_size: 32, learning_rate: 4e-3, warmup_steps: 5, evaluation_period: 60}
num_threads: 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_configuration_is_valid_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    from triathlon.training.config import dump

    experiment = config.load(name)
    (tmp_path / "again.yaml").write_text(dump(experiment))
    assert config.load(tmp_path / "again.yaml") == experiment


def test_every_task_has_a_shipped_configuration() -> None:
    assert {config.load(name).task.kind for name in SHIPPED} == set(kinds())


def test_from_a_configuration_to_a_persons_own_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["supervised", "tiny.yaml", "--fit.learning-rate", "5e-3", "--name", "mine"]) == 0
    out = capsys.readouterr().out
    run = here / "runs" / "image_classification" / "mine"
    score = json.loads((run / "score.json").read_text())
    assert score["accuracy"] > 0.85
    assert f"accuracy {score['accuracy']:.4f}" in out
    assert "tensorboard --logdir runs/image_classification/mine" in out
    assert config.load(run / "config.yaml").fit.learning_rate == 5e-3
    assert (run / "command.txt").read_text() == (
        "triathlon supervised tiny.yaml --fit.learning-rate 5e-3 --name mine\n"
    )
    from triathlon.training.supervised.pictures.sources import read_pictures

    pictures, target = read_pictures("digits", None).test
    for i in range(40):
        Image.fromarray(np.kron(pictures[i], np.ones((5, 5), np.uint8))).save(here / f"{i}.png")
    assert main(["predict", "latest", *(f"{i}.png" for i in range(40))]) == 0
    lines = capsys.readouterr().out.splitlines()
    guessed = [int(re.fullmatch(rf"{i}\.png: (\d) 0\.\d\d, .*|{i}\.png: (\d) 1\.00.*", line)[0].split()[1])  # type: ignore[index]
               for i, line in enumerate(lines)]  # fmt: skip
    assert sum(g == t for g, t in zip(guessed, target, strict=False)) >= 32


def test_a_stopped_run_goes_on(here: Path) -> None:
    command = [sys.executable, "-m", "triathlon.scripts.main", "supervised", "tiny.yaml"]
    process = subprocess.Popen(
        [*command, "--name", "mine", "--fit.num-epochs", "100000"], stdout=subprocess.PIPE, text=True, cwd=here
    )
    run = here / "runs" / "image_classification" / "mine"
    last = run / "checkpoints" / "last.safetensors"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Stopped. Go on with: triathlon supervised --resume runs/image_classification/mine" in out
    assert main(["supervised", "--resume", str(run), "--fit.num-epochs", "1"]) == 0
    assert (run / "score.json").exists()
    assert len((run / "command.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["supervised", "cartpole_ppo"], "is of an agent, without a task: triathlon train cartpole_ppo"),
        (["train", "digits_cnn"], "is of a supervised task, without an agent: triathlon supervised digits_cnn"),
        (["supervised", "digit_cnn"], "did you mean digits_cnn"),
        (["supervised", "tiny.yaml", "--resume", "x"], "give a configuration or --resume, not both"),
        (["supervised", "tiny.yaml", "--fit.batch-sise", "3"], "did you mean 'batch_size'"),
        (["supervised", "tiny.yaml", "--task.source", "nowhere"], "there is no folder 'nowhere'"),
        (["supervised", "tiny.yaml", "--fit.compile", "--backbone.kind", "gru"], "read by|without a memory"),
        (["predict", "nowhere", "x.png"], "there is no run folder 'nowhere'"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_no_folder_stays(
    arguments: list[str], sentence: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error) and error.count("\n") == 1
    assert not (here / "runs").exists()


def test_a_file_that_is_no_picture_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["supervised", "tiny.yaml", "--fit.num-epochs", "1"]) == 0
    assert main(["predict", "latest", "tiny.yaml"]) == 2
    assert "tiny.yaml cannot be read as a picture" in capsys.readouterr().err
    assert main(["predict", "latest", "none.png"]) == 2
    assert "there is no file none.png" in capsys.readouterr().err


def test_help_lists_configurations_and_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["supervised", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in SHIPPED) and "  cartpole_ppo " not in out
    assert main(["supervised", "digits_cnn", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--fit.learning-rate" in out and "--task.label-smoothing" in out
    assert main(["train", "--help"]) == 0
    assert "digits_cnn" not in capsys.readouterr().out


def test_a_text_is_gone_on_with(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "book.txt").write_text("to be or not to be, that is the question.\n" * 60)
    (here / "start.txt").write_text("to be or ")
    arguments = ["--task.source", "book.txt", "--task.num-rows", "16", "--fit.num-epochs", "2", "--fit.batch-size", "8"]
    assert main(["supervised", "plays_gru", *arguments, "--backbone.hidden-size", "32"]) == 0
    capsys.readouterr()
    written = set()
    for seed in ("1", "2", "1"):
        assert main(["predict", "latest", "start.txt", "--task.length", "30", "--task.sample-seed", seed]) == 0
        out = capsys.readouterr().out
        assert out.startswith("to be or ") and len(out) == 9 + 30 + 1
        written.add(out)
    assert len(written) == 2
