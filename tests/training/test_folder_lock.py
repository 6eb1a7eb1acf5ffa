"""Two commands never write to one folder, and a dead one keeps nobody out."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from triathlon.scripts.main import main
from triathlon.training.errors import RunError
from triathlon.training.folder_lock import locked
from triathlon.training.run_folder import discard_unbegun

SETTINGS = ["--env.id", "CartPole-v1", "--env.num-envs", "2", "--total-steps", "64", "--agent.num-steps", "8"]
SETTINGS += ["--backbone.hidden-sizes", "[4]", "--evaluation.final-episodes", "0", "--evaluation.video", "false"]
SETTINGS += ["--agent.batch-size", "16"]


def test_a_second_process_is_kept_out_until_the_first_dies(tmp_path: Path, worked_on_elsewhere: Callable) -> None:
    with worked_on_elsewhere(tmp_path) as other:
        with pytest.raises(RunError, match="is being worked on by another command"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
        with locked(tmp_path):
            pass


FORKING = """
import os, sys
from pathlib import Path
from triathlon.training.folder_lock import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print("forked", flush=True)
    os._exit(1)
"""


def test_what_a_dead_process_forked_keeps_nobody_out(tmp_path: Path) -> None:
    """Environments in processes of their own outlive a killed trainer for a moment."""
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None and trainer.stdout.readline() == "forked\n"
        assert trainer.wait() == 1  # the one that it forked still waits for a word
        with locked(tmp_path):
            pass


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"nothing can be written to .*missing: No such file"),
        locked(tmp_path / "missing"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_from_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.setattr("fcntl.lockf", failing(number))
    with locked(tmp_path):
        pass
    assert "see to it that no other command works on it" in capsys.readouterr().err


def test_a_lock_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.lockf", failing(errno.EIO))
    with pytest.raises(RunError, match="cannot be locked: Input/output error"), locked(tmp_path):
        pass


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "cartpole_ppo", "--name", "mine", *SETTINGS]) == 0
    return tmp_path / "runs" / "CartPole-v1" / "mine"


def test_a_run_that_another_command_trains(
    run: Path, worked_on_elsewhere: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with worked_on_elsewhere(run):
        for again in (["--resume", str(run), "--total-steps", "128"], ["cartpole_ppo", "--name", "mine", *SETTINGS]):
            capsys.readouterr()
            assert main(["train", *again, *([] if "--resume" in again else ["--resume", "auto"])]) == 2
            assert "is being worked on by another command" in capsys.readouterr().err
    before[run / ".lock"] = (run / ".lock").stat().st_mtime_ns
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_that_has_not_come_to_a_checkpoint_is_not_taken_for_a_dead_one(
    run: Path, worked_on_elsewhere: Callable
) -> None:
    from triathlon.training import config

    (run / "checkpoints" / "last.safetensors").unlink()
    experiment = config.load("cartpole_ppo", ["--name", "mine", *SETTINGS])
    with worked_on_elsewhere(run):
        with pytest.raises(RunError, match="is being worked on by another command"):
            discard_unbegun(experiment)
        assert run.is_dir()
    discard_unbegun(experiment)
    assert not run.exists()


def test_resume_auto_goes_on_with_the_seed_that_the_run_began_with(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "cartpole_ppo", "--name", "mine", *SETTINGS, "--resume", "auto", "--seed", "5"]) == 2
    assert "seed is 5, but" in capsys.readouterr().err
