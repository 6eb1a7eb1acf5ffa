"""`triathlon tune` from the command line: what it refuses, and whole studies on a Ray cluster of their own."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from triathlon.scripts.main import main
from triathlon.training import config
from triathlon.training.tuning.study import Report, TuneConfig, create, open_study

CONFIG = """
env: {id: CartPole-v1, num_envs: 2}
agent: {kind: ppo, num_steps: 16, batch_size: 32, num_epochs: 1, learning_rate: 1e-6}
backbone: {kind: mlp, hidden_sizes: [8]}
total_steps: 600
name: mine
logging: {period: 100}
checkpoint: {period: 100}
"""
TUNE = ["tune", "tiny.yaml", "--param", "agent.learning_rate=loguniform(1e-5, 1e-2)"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run commands in, which is also where Ray finds its home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "tiny.yaml"], "nothing is to be tuned; give --param"),
        (
            [*TUNE, "--scheduler", "ashaa"],
            "scheduler is 'ashaa' but should be 'asha', 'pbt' or 'none' (did you mean 'asha'?)",
        ),
        ([*TUNE, "--trials", "0"], "trials is 0 but should be greater than 0"),
        ([*TUNE, "--agent.gama", "0.9"], "agent.gama is not a setting of agent of kind 'ppo' (did you mean 'gamma'?)"),
        ([*TUNE, "--metric", "eval/mean_reward"], "give --evaluation.period"),
        ([*TUNE, "--engine", "sb3"], "engine is sb3, but only engine native"),
        (["tune", "--resume", "nowhere"], "nowhere is not the folder of a study"),
        (["tune", "--resume", "latest"], "so none is the latest"),
        (["tune", "--resume", "x", "--metric", "time/fps"], "--metric cannot be changed of a study that goes on"),
        (["tune", "--resume", "x", "--agent.gamma", "0.9"], "--agent.gamma cannot be changed"),
        (
            [*TUNE, "--param", "backbone.hidden_sizes=choice([8], [16])", "--scheduler", "pbt"],
            "--param backbone.hidden_sizes: with --scheduler pbt",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_study_that_another_command_works_on_is_left_as_it_is(
    here: Path, worked_on_elsewhere: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    base = config.read(str(here / "tiny.yaml"))
    study = create(base, [], ["agent.learning_rate=loguniform(1e-5, 1e-2)"], TuneConfig(trials=2))
    before = (study.path / "study.json").read_bytes()
    with worked_on_elsewhere(study.path):
        assert main(["tune", "--resume", str(study.path), "--trials", "64", "--cpus", "4"]) == 2
    assert "is being worked on by another command" in capsys.readouterr().err
    assert (study.path / "study.json").read_bytes() == before


def test_help_lists_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--param", "--resume", "--trials", "--scheduler", "--reduction-factor", "--perturb-steps", "--gpus"):
        assert option in said
    assert "loguniform(low, high)" in said


def tune(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "triathlon.scripts.main", "tune", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def reports(folder: Path, number: int) -> list[Report]:
    return open_study(folder).trial(number).reports()


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    assert callable(condition)
    while not condition():
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.cluster
def test_killed_and_gone_on_with(here: Path) -> None:
    """Nothing that was finished is run again, and what was under way goes on from its checkpoint."""
    pytest.importorskip("ray.tune")
    folder = here / "runs" / "CartPole-v1" / "mine"
    arguments = [*TUNE[1:], "--trials", "3", "--scheduler", "none", "--concurrent", "1", "--total-steps", "6000"]
    first = tune(*arguments)
    second_trial = folder / "trials" / "001" / "reports.jsonl"
    wait_for(lambda: second_trial.is_file() and second_trial.read_text().count("\n") >= 5, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    time.sleep(2)  # the processes of Ray see that they are alone
    finished = (folder / "trials" / "000" / "reports.jsonl").read_bytes()
    begun = reports(folder, 1)
    assert begun[-1].num_steps < 6000
    said = finish(tune("--resume", str(folder)))
    assert (folder / "trials" / "000" / "reports.jsonl").read_bytes() == finished
    assert reports(folder, 1)[:3] == begun[:3]  # it did not start anew
    assert [trial.status for trial in open_study(folder).trials()] == ["finished"] * 3
    assert "Best:" in said and "Stopped" not in said
    # Done is done; and a study may be prolonged.
    assert "Best:" in finish(tune("--resume", str(folder)))
    assert (folder / "trials" / "000" / "reports.jsonl").read_bytes() == finished


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
def test_a_whole_study(here: Path, scheduler: str) -> None:
    pytest.importorskip("ray.tune")
    said = finish(tune(*TUNE[1:], "--trials", "4", "--scheduler", scheduler, "--total-steps", "900"))
    folder = here / "runs" / "CartPole-v1" / "mine"
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["trial"] for row in rows) == ["000", "001", "002", "003"]
    assert {row["status"] for row in rows} <= {"finished", "stopped"} and rows[0]["status"] == "finished"
    best = config.load(folder / "best.yaml")
    assert best.agent.learning_rate == float(rows[0]["agent.learning_rate"]) and best.total_steps == 900
    assert json.loads((folder / "results.json").read_text())["trials"][0]["reports"]
    # Quiet: the lines of this command, and nothing of Ray's; and nothing of Ray's is left behind.
    assert all(
        line.startswith(("Tuning in", "Trial ", "trial ", "  0", "Table:", "Picture:", "Best:", "    ")) or not line
        for line in said.splitlines()
    ), said
    assert not (folder / "ray").exists() and not (folder / ".ray").is_symlink()
    assert main(["evaluate", str(folder / "trials" / rows[0]["trial"]), "--episodes", "2"]) == 0


@pytest.mark.cluster
def test_a_trial_whose_process_dies_goes_on(here: Path) -> None:
    pytest.importorskip("ray.tune")
    psutil = pytest.importorskip("psutil")
    study = tune(*TUNE[1:], "--trials", "1", "--scheduler", "none", "--total-steps", "6000")
    folder = here / "runs" / "CartPole-v1" / "mine"
    rows = folder / "trials" / "000" / "reports.jsonl"
    wait_for(lambda: rows.is_file() and rows.read_text().count("\n") >= 4, study)
    before = reports(folder, 0)
    children = psutil.Process(study.pid).children(recursive=True)
    (process,) = [child for child in children if "ray::ImplicitFunc" in " ".join(child.cmdline())]
    process.kill()
    assert "Trial 000  finished" in finish(study)
    after = reports(folder, 0)
    assert after[: len(before) - 1] == before[:-1] and after[-1].num_steps >= 6000


@pytest.mark.cluster
def test_stopped_by_ctrl_c(here: Path) -> None:
    """The table of what was found so far, and the way to go on."""
    pytest.importorskip("ray.tune")
    process = tune(*TUNE[1:], "--trials", "3", "--scheduler", "none", "--total-steps", "1000000")
    first = here / "runs" / "CartPole-v1" / "mine" / "trials" / "000" / "reports.jsonl"
    wait_for(lambda: first.is_file() and first.read_text().count("\n") >= 2, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Stopped. Go on with: triathlon tune --resume" in said and "Best:" in said
    assert "Traceback" not in said
