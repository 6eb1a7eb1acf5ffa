"""What the benchmarks compare on equal terms."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch


def test_peers_get_the_threads_that_pytorch_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine with many cores a process may have few."""
    pytest.importorskip("stable_baselines3")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    atari, speed = importlib.import_module("atari"), importlib.import_module("speed")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(atari, "NUM_ENVS", 1)
    given: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    atari.matrix_rate(torch.float32, size=8)
    atari.sb3("PPO", n_steps=8, batch_size=8, n_epochs=1)(8)
    assert given == [speed.ALL_THREADS] * 2
