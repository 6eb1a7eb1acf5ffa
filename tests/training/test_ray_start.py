"""The way to Ray is the same for workers, studies and RLlib: an address where nobody is, and who ends what."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from triathlon.training.config import from_mapping
from triathlon.training.errors import RunError
from triathlon.training.runner import train
from triathlon.training.tuning.cluster import cluster
from triathlon.training.workers.config import WorkersConfig
from triathlon.training.workers.ray_cluster import RayTransport

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.cluster

ONE = WorkersConfig(kind="ray", num=1)


def workers(folder: Path) -> None:
    RayTransport(ONE, 1)


def study(folder: Path) -> None:
    with cluster(folder, [{"CPU": 1.0}]):
        pass


def rllib(folder: Path) -> None:
    pytest.importorskip("tree")  # with it everything that RLlib needs
    settings: dict[str, Any] = {"env": {"id": "CartPole-v1", "num_envs": 2}, "agent": "ppo", "engine": "rllib"}
    train(from_mapping(settings | {"total_steps": 100, "device": "cpu", "num_threads": 1}), folder / "run")


@pytest.mark.parametrize(
    ("start", "who", "setting"),
    [
        (workers, "workers.kind is ray", "workers.address or RAY_ADDRESS"),
        (study, "tuning runs on Ray", "RAY_ADDRESS"),
        (rllib, "engine is rllib", "RAY_ADDRESS"),
    ],
)
def test_an_address_where_nobody_is_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[Path], None], who: str, setting: str
) -> None:
    """In one sentence, which is not Ray's: Ray itself tries for minutes."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RunError) as refused:
        start(tmp_path)
    found, _, reason = str(refused.value).partition(": ")
    assert found == f"{who}, but there is no Ray cluster at 127.0.0.1:1 ({setting})"
    assert reason.endswith("Connection refused")


def test_who_started_a_cluster_ends_it_and_who_joined_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with cluster(tmp_path, [{"CPU": 1.0}]):
        RayTransport(ONE, 1).close()  # workers of a trial, in the process that is connected
        assert ray.is_initialized() and ray.cluster_resources()["CPU"] >= 1
        assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)  # who plays is not served last
    assert not ray.is_initialized() and not (tmp_path / ".ray").is_symlink()
    gone = psutil.wait_procs([p for p in psutil.Process().children(recursive=True) if p.pid not in before], timeout=10)
    assert not gone[1]
