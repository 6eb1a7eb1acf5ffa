"""Several processes that learn together, as torchrun starts them."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from triathlon.agents.ranks import ALONE, Ranks
from triathlon.networks.errors import SettingError
from triathlon.training.checkpoint import load
from triathlon.training.config import from_mapping
from triathlon.training.errors import RunError
from triathlon.training.learners.follow import part_of

EXPERIMENT = {"env": {"id": "CartPole-v1", "num_envs": 6}, "agent": "ppo", "total_steps": 100}


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`triathlon train …` as two processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "triathlon.scripts.main", "train", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)
    try:
        output, errors = started.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the launcher and all its processes
            os.killpg(started.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, started.returncode, output, errors)


@pytest.mark.parametrize("agent", ["ppo", pytest.param("dqn", marks=pytest.mark.slow)])
def test_a_run_of_two_processes_goes_to_its_end_and_goes_on(tmp_path: Path, agent: str) -> None:
    less = ["--evaluation.final-episodes", "2", "--evaluation.video", "false", "--root", str(tmp_path)]
    settings = {
        "ppo": ["--agent.num-steps", "32"],
        "dqn": [
            "--agent.learning-starts",
            "64",
            "--env.num-envs",
            "2",
            "--agent.train-period",
            "8",
            "--agent.gradient-steps",
            "1",
        ],
    }[agent]
    ended = torchrun(f"cartpole_{agent}", "--total-steps", "600", "--logging.period", "200", *less, *settings)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Training in") == ended.stdout.count("Score:") == 1
    (run,) = tmp_path.glob("*/*")
    assert len(list(run.glob("events.*"))) == 1
    state = load(run / "checkpoints" / "last.safetensors")
    assert state["num_processes"] == 2
    assert state["num_steps"] == state["learner"]["num_steps"] >= 600  # the steps of both
    ended = torchrun("--resume", str(run), "--total-steps", "1000")
    assert ended.returncode == 0, ended.stderr
    with (run / "progress.csv").open() as file:
        steps = [int(row["time/total_timesteps"]) for row in csv.DictReader(file)]
    assert steps == sorted(steps) and steps[0] < 600 and steps[-1] >= 1000


def test_environments_are_shared_out() -> None:
    experiment = from_mapping(EXPERIMENT)
    assert part_of(experiment, ALONE) is experiment
    assert part_of(experiment, Ranks(1, 3)).env.num_envs == 2
    with pytest.raises(SettingError, match=r"env\.num_envs is 6, which 4 processes cannot share evenly"):
        part_of(experiment, Ranks(0, 4))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"engine": "sb3"}, "only engine: native learns in several"),
        ({"workers": {"num": 2}}, r"workers\.num is 2, but"),
    ],
)
def test_what_cannot_be_several_processes_is_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        part_of(from_mapping(EXPERIMENT | settings), Ranks(0, 2))
