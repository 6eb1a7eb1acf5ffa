"""Workers that die, hang or raise: training goes on with the rest, and ends when there are too many of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from triathlon.training import checkpoint
from triathlon.training.runner import Run, train
from triathlon.training.schema import to_mapping
from triathlon.training.workers import pool
from triathlon.training.workers.crew import Crew, WorkersLost
from triathlon.training.workers.process import ProcessTransport

CROWDED = '''
import time
from pathlib import Path
from gymnasium.envs.classic_control import CartPoleEnv

class Crowded(CartPoleEnv):
    """Is not made while there is no room."""

    def __init__(self, folder, render_mode=None):
        super().__init__(render_mode)
        while (Path(folder) / "full").exists():
            time.sleep(0.1)
'''
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


def test_a_stop_is_heard_while_workers_are_waited_for(
    tmp_path: Path, experiment, chaos, workers_of_mine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker has stopped answering, and would be waited for until long after somebody's patience is over."""
    monkeypatch.setattr(pool, "STOP_SECONDS", 0.5)
    env = chaos("SIGSTOP")
    settings = experiment(workers=PROCESS | {"hang_seconds": 1e4}, env=env, total_steps=10**6)

    def stop_it() -> None:
        while not any(worker.status() == psutil.STATUS_STOPPED for worker in workers_of_mine()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop_it, daemon=True)
    watcher.start()
    result = train(settings, tmp_path / "run")
    watcher.join()
    assert result.interrupted and 0 < result.num_steps < 10**6
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert state["num_steps"] == result.num_steps and "restart" in state["collector"]


def test_a_resumed_run_begins_new_episodes_where_a_worker_was_missing(
    tmp_path: Path, experiment, chaos, workers_of_mine
) -> None:
    env = chaos("raise", "raise", after=60)
    workers = PROCESS | {"max_restarts": 1}
    with pytest.raises(WorkersLost):
        train(experiment(workers=workers, env=env, total_steps=2_000), tmp_path / "run")
    result = train(experiment(workers=workers, env=env, total_steps=2_000), tmp_path / "run", resume=True)
    assert result.num_steps >= 2_000


@pytest.mark.parametrize(
    "asking", [Run.save, lambda run: run.collector.restart(5)], ids=["for states", "for new episodes"]
)
def test_a_loss_too_many_while_saving_is_told_after_the_checkpoint(
    tmp_path: Path, experiment, workers_of_mine, asking: Callable[[Run], object]
) -> None:
    """A save asks all workers for their states, or to begin anew where they cannot tell them."""
    run = Run(experiment(workers=PROCESS | {"max_restarts": 0}), tmp_path / "run")
    try:
        run.collector.collect(16)
        workers_of_mine()[-1].kill()
        asking(run)
        state = checkpoint.load(run.save())
        assert "restart" in state["collector"] and "workers" not in state["collector"]
        with pytest.raises(WorkersLost, match=r"1 workers were lost within an hour, and workers.max_restarts is 0"):
            run.collector.collect(16)
    finally:
        run.close()


def test_a_worker_that_does_not_start_again_is_waited_for(
    tmp_path: Path, experiment, workers_of_mine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that finds no room in a cluster: no loss, however long."""
    (tmp_path / "crowded.py").write_text(CROWDED)
    monkeypatch.chdir(tmp_path)
    env = {"id": "crowded:Crowded", "num_envs": 4, "kwargs": {"folder": str(tmp_path)}, "max_episode_steps": 500}
    settings = experiment(workers=PROCESS | {"max_restarts": 1, "backoff_seconds": 1e-4}, env=env)
    said: list[str] = []
    crew = Crew(settings.workers, ProcessTransport(), to_mapping(settings), 0, said.append)
    try:
        crew.config = replace(settings.workers, start_seconds=0.05)
        (tmp_path / "full").touch()
        for seat in crew.seats:
            seat.failures = 2000  # as after hours
        workers_of_mine()[-1].kill()
        assert len(crew.ask_all("restart", lambda seat: (7,))) == 1
        while crew.counts["restarts"] < 4:
            crew.attend()
        assert (crew.counts["deaths"], crew.num_alive) == (1, 1)
        crew.config = settings.workers
        (tmp_path / "full").unlink()
        while crew.num_alive < 2:
            crew.attend()
    finally:
        crew.close()
    lost, waiting, again = said
    who = lost.partition(" was lost: ")[0]
    assert lost.endswith("SIGKILL; a new one is made in 0.1024 s.") and again == f"{who} plays again."
    assert waiting == (
        f"{who} did not start within 0.05 s (workers.start_seconds); a Ray cluster may have no processor left for it; "
        "until it starts, training goes on with the rest."
    )
