"""A run folder holds what is needed to repeat the run, and is found again."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from triathlon.training import checkpoint, config, run_folder
from triathlon.training.errors import RunError
from triathlon.training.logger import Logger


def experiment(root: Path, **settings: object) -> config.Experiment:
    mapping = {"env": {"id": "CartPole-v1"}, "agent": {"kind": "ppo"}, "total_steps": 10, "root": str(root)}
    return config.from_mapping(mapping | settings)


def test_a_new_folder_holds_what_repeats_the_run(tmp_path: Path) -> None:
    made = experiment(tmp_path, seed=7, backbone={"kind": "lstm"})
    folder = run_folder.create(made, ["triathlon", "train", "a b.yaml", "--seed", "7"])
    assert folder.path.parent == tmp_path / "CartPole-v1"
    assert folder.path.name.startswith("ppo-lstm-seed7-20")
    assert folder.experiment() == made
    assert folder.experiment(["--total-steps", "20"]) == dataclasses.replace(made, total_steps=20)
    assert (folder.path / "command.txt").read_text() == "triathlon train 'a b.yaml' --seed 7\n"
    versions = json.loads((folder.path / "versions.json").read_text())
    assert set(versions) == {"python", "triathlon", "torch", "gymnasium", "numpy", "platform", "cpu", "gpus"} | {
        "ale-py",
        "box2d",
        "minatar",
        "mujoco",
        "open-spiel",
        "ray",
    }
    assert set(json.loads((folder.path / "git.json").read_text())) == {"triathlon", "here"}


def test_going_on_adds_to_the_commands(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    folder = run_folder.create(made, ["first"])
    folder.write_experiment(dataclasses.replace(made, total_steps=99), ["second"])
    assert (folder.path / "command.txt").read_text() == "first\nsecond\n"
    assert folder.experiment().total_steps == 99


def test_going_on_elsewhere_adds_to_the_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = experiment(tmp_path)
    folder = run_folder.create(made, [])
    file = folder.path / "versions.json"
    first = json.loads(file.read_text())
    folder.write_experiment(made, [])
    assert json.loads(file.read_text()) == first
    for gpu in ("old", "new"):
        monkeypatch.setattr(run_folder.gpus, "installed", lambda gpu=gpu: [gpu])
        folder.write_experiment(made, [])
    assert json.loads(file.read_text()) == first | {"gpus": ["new"], "before": [first, first | {"gpus": ["old"]}]}


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    paths = {run_folder.create(made, []).path for _ in range(5)}
    assert len(paths) == 5


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    made = experiment(tmp_path, name="mine")
    folder = run_folder.create(made, [])
    assert folder.path == tmp_path / "CartPole-v1" / "mine"
    with pytest.raises(RunError, match=r"name: there is a run .*mine already"):
        run_folder.create(made, [])


def test_names_of_environments_become_names_of_folders(tmp_path: Path) -> None:
    made = experiment(tmp_path, env={"id": "../my.module:Env"}, name="a/../b")
    path = run_folder.create(made, []).path
    assert path == tmp_path / "my.module-Env" / "a-..-b"


def test_the_state_of_the_code(tmp_path: Path) -> None:
    assert run_folder.git_state(tmp_path) is None
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert run_folder.git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "new").write_text("")
    assert run_folder.git_state(tmp_path) == {"commit": commit, "dirty": True}
    assert run_folder.git_state(tmp_path / "new") is None  # as a package in an environment inside somebody's repository
    subprocess.run([*git, "add", "new"], check=True)
    assert run_folder.git_state(tmp_path / "new") == {"commit": commit, "dirty": True}


def test_open_by_path_and_the_latest(tmp_path: Path) -> None:
    first, second = (run_folder.create(experiment(tmp_path, seed=seed), []).path for seed in (1, 2))
    os.utime(first / "config.yaml", (1, 1))
    assert run_folder.open_run(first).path == first
    assert run_folder.open_run("latest", tmp_path).path == second
    os.utime(second / "config.yaml", (0, 0))
    assert run_folder.open_run("latest", tmp_path).path == first


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    path = run_folder.create(experiment(tmp_path, name="mine"), []).path
    with pytest.raises(RunError, match=r"no run folder .*min'.*did you mean '.*mine'"):
        run_folder.open_run(path.parent / "min")
    with pytest.raises(RunError, match=r"is not the folder of a run: it has no config.yaml; .*mine is one"):
        run_folder.open_run(tmp_path)
    with pytest.raises(RunError, match="there is no run below"):
        run_folder.open_run("latest", tmp_path / "empty")


def test_checkpoints_by_name(tmp_path: Path) -> None:
    folder = run_folder.create(experiment(tmp_path), [])
    with pytest.raises(RunError, match="has no checkpoint 'best or last'; there is none yet"):
        folder.checkpoint()
    last = folder.path / "checkpoints" / "last.safetensors"
    checkpoint.save(last, {})
    assert folder.checkpoint() == last
    with pytest.raises(RunError, match="has no checkpoint 'best'; there is last"):
        folder.checkpoint("best")
    best = last.with_name("best.safetensors")
    checkpoint.save(best, {})
    assert folder.checkpoint() == best
    assert folder.checkpoint("last") == last


def test_a_folder_is_empty_until_something_was_learnt(tmp_path: Path) -> None:
    folder = run_folder.create(experiment(tmp_path), [])
    log = Logger(folder.path, config.LoggingConfig(tensorboard=False), "CartPole-v1")
    assert folder.is_empty()
    log.episodes([-3.0], [4], 10)
    assert not folder.is_empty()
    log.close()
    other = run_folder.create(experiment(tmp_path), [])
    checkpoint.save(other.path / "checkpoints" / "last.safetensors", {})
    assert not other.is_empty()


def test_a_run_that_did_not_start_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    first = run_folder.create(experiment(root), [])
    second = run_folder.create(experiment(root), [])
    second.discard()
    assert first.path.is_dir()
    first.discard()
    assert os.listdir(tmp_path) == []


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match=r"root: .*cannot be made"):
            run_folder.create(experiment(root), [])


def test_a_run_that_is_discarded_takes_along_what_was_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for root in (tmp_path / "mine", tmp_path / "new" / "deep"):
        run_folder.create(experiment(root), []).discard()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    folder, other = (run_folder.create(experiment(tmp_path / "new", name=name), []) for name in ("a", "b"))
    folder.discard()
    assert other.path.is_dir()
