"""Workers that die, hang or raise: training goes on with the rest, and ends when there are too many of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from triathlon.training import checkpoint
from triathlon.training.runner import train
from triathlon.training.workers.crew import WorkersLost

PROCESS = {"kind": "process", "num": 2, "hang_seconds": 8.0, "backoff_seconds": 0.1}


@pytest.mark.parametrize(
    ("agent", "mode", "num_steps"), [("learning dqn", "sync", 15_000), ("learning ppo", "async", 15_000)]
)
def test_a_run_survives_workers_that_die_hang_and_raise(
    tmp_path: Path, experiment, chaos, curve, logged, workers_of_mine, capsys, agent: str, mode: str, num_steps: int
) -> None:
    env = chaos("SIGKILL", "SIGSTOP", "raise")
    workers = PROCESS | {"mode": mode}
    result = train(experiment(agent, "wide", workers, env=env, total_steps=num_steps), tmp_path / "run")
    assert result.num_steps >= num_steps and not result.interrupted
    last = [float(score) for score, _ in curve(tmp_path / "run")[-20:]]
    assert sum(last) / len(last) > 40  # random play: 22
    for name in ("deaths", "hangs", "env_errors"):
        assert logged(tmp_path / "run", f"workers/{name}")[-1] == 1
    assert logged(tmp_path / "run", "workers/alive")[-1] >= 1  # on a slow machine the last one may still be starting
    said = capsys.readouterr().err
    assert (
        said.count("Traceback (most recent call last)") == said.count('raise RuntimeError("the pole is broken")') == 1
    )
    assert "its process was ended by SIGKILL; a new one is made in 0.1 s" in said
    assert "gave no answer for 8 s (workers.hang_seconds)" in said
    assert said.count("plays again") >= 2


def test_too_many_losses_end_the_run_with_a_checkpoint(
    tmp_path: Path, experiment, chaos, workers_of_mine, capsys
) -> None:
    env = chaos(*["raise"] * 9, after=60)
    workers = PROCESS | {"max_restarts": 2}
    with pytest.raises(WorkersLost, match=r"3 workers were lost within an hour, and workers.max_restarts is 2.*broken"):
        train(experiment("dqn", workers=workers, env=env, total_steps=20_000), tmp_path / "run")
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert "restart" in state["collector"]
    said = capsys.readouterr().err
    assert said.count("Traceback (most recent call last)") == said.count("raise RuntimeError(") == 1


def test_a_resumed_run_begins_new_episodes_where_a_worker_was_missing(
    tmp_path: Path, experiment, chaos, workers_of_mine
) -> None:
    env = chaos("raise", "raise", after=60)
    workers = PROCESS | {"max_restarts": 1}
    with pytest.raises(WorkersLost):
        train(experiment(workers=workers, env=env, total_steps=2_000), tmp_path / "run")
    result = train(experiment(workers=workers, env=env, total_steps=2_000), tmp_path / "run", resume=True)
    assert result.num_steps >= 2_000
