"""Several processes that learn together, as torchrun starts them."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from triathlon.agents.ranks import ALONE, Ranks
from triathlon.networks.errors import SettingError
from triathlon.training.board.sides import make_sides
from triathlon.training.checkpoint import load
from triathlon.training.config import from_mapping
from triathlon.training.errors import RunError
from triathlon.training.learners import follow as following
from triathlon.training.learners.follow import follow, part_of
from triathlon.training.runner import train

TORCHRUN = Path(__file__).parents[2] / "deploy" / "torchrun.sh"
EXPERIMENT = {"env": {"id": "CartPole-v1", "num_envs": 6}, "agent": "ppo", "total_steps": 100}


def torchrun(config: str, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`deploy/torchrun.sh` with two processes on this machine; it goes on where there is something to go on with."""
    command = ["bash", str(TORCHRUN), config, "mine", str(root), *arguments]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PROCESSES": "2", "PATH": path}
    pipe = subprocess.PIPE
    started = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)
    try:
        output, errors = started.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the launcher and all its processes
            os.killpg(started.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, started.returncode, output, errors)


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_a_run_of_two_processes_goes_to_its_end_and_goes_on(tmp_path: Path, agent: str) -> None:
    less = ["--evaluation.final-episodes", "2", "--evaluation.video", "false"]
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
    config, less = f"cartpole_{agent}", [*less, "--logging.period", "200", *settings]
    ended = torchrun(config, tmp_path, "--total-steps", "600", *less)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Training in") == ended.stdout.count("Score:") == 1
    (run,) = tmp_path.glob("*/*")
    assert len(list(run.glob("events.*"))) == 1
    state = load(run / "checkpoints" / "last.safetensors")
    assert state["num_processes"] == 2
    assert state["num_steps"] == state["learner"]["num_steps"] >= 600  # the steps of both
    ended = torchrun(config, tmp_path, "--total-steps", "1000", *less)
    assert ended.returncode == 0, ended.stderr
    with (run / "progress.csv").open() as file:
        steps = [int(row["time/total_timesteps"]) for row in csv.DictReader(file)]
    assert steps == sorted(steps) and steps[0] < 600 and steps[-1] >= 1000


def test_a_process_that_learns_along_has_opponents_and_draws_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Second and third processes without company: they go on with the snapshots, but not with the random numbers."""
    pytest.importorskip("pyspiel")
    settings = {
        "env": {"id": "board/tic_tac_toe", "num_envs": 16},
        "agent": {"kind": "ppo", "num_steps": 4, "num_epochs": 1, "batch_size": 32},
        "backbone": {"kind": "mlp", "hidden_sizes": [8]},
        "self_play": {"pool_share": 1.0, "snapshot_period": 64, "search_share": 0.5, "search_simulations": 2},
        "total_steps": 256,
        "evaluation": {"final_episodes": 0, "video": False},
        "num_threads": 1,
        "device": "cpu",
    }
    train(from_mapping(settings), tmp_path)
    state = load(tmp_path / "checkpoints" / "last.safetensors")["sides"]
    assert len(state["numbers"]) >= 3
    found = []

    def watched(*arguments: Any) -> Any:
        found.append(make_sides(*arguments))
        return found[-1]

    monkeypatch.setattr(following, "make_sides", watched)
    for rank in (1, 2):
        follow(from_mapping(settings), Ranks(rank), tmp_path)
    restored = [sides.state_dict() for sides in found]
    for mine, others in (restored, restored[::-1]):
        assert mine["numbers"] == state["numbers"] and mine["points"] == state["points"]
        assert all(a.equal(b) for a, b in zip(mine["weights"], state["weights"], strict=True))
        assert mine["rng"] not in (state["rng"], others["rng"])
        assert mine["search"] not in (state["search"], others["search"])
        assert not any(a.equal(b) for a, b in zip(mine["generators"], state["generators"], strict=True))
    follow(from_mapping(settings | {"total_steps": 320}), Ranks(1), tmp_path)  # it plays on, and takes snapshots
    assert found[-1].state_dict()["num_taken"] > state["num_taken"]


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
