"""Small runs with workers, what they learned, and what they left running."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from triathlon.training.config import Experiment, from_mapping

MLP = {"kind": "mlp", "hidden_sizes": [16]}
LSTM = {"kind": "lstm", "hidden_size": 8, "encoder": MLP}
PPO = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 2}
DQN = {"kind": "dqn", "learning_starts": 50, "batch_size": 16, "buffer_size": 2_000, "train_period": 8}
# What learns to balance the pole for a while in 15,000 steps.
LEARNING_PPO = {"kind": "ppo", "learning_rate": 1e-3, "num_steps": 32, "num_epochs": 4, "batch_size": 64, "gamma": 0.98}
LEARNING_DQN = {
    "kind": "dqn",
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 20_000,
    "learning_starts": 1_000,
    "train_period": 128,
    "gradient_steps": 64,
    "target_period": 10,
    "exploration_fraction": 0.2,
    "final_epsilon": 0.04,
}
AGENTS = {"ppo": PPO, "dqn": DQN, "learning ppo": LEARNING_PPO, "learning dqn": LEARNING_DQN}
BACKBONES = {
    "mlp": MLP,
    "lstm": LSTM,
    "wide": {"kind": "mlp", "hidden_sizes": [64]},
    "cnn": {"kind": "cnn", "features": 16},
}
QUIET = {
    "evaluation": {"final_episodes": 0, "video": False},
    "logging": {"tensorboard": False, "period": 200},
    "num_threads": 1,
    "device": "cpu",
}


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """`experiment(agent, backbone, workers, …)`: CartPole in four environments, quickly done."""

    def make(
        agent: str | dict[str, Any] = "ppo",
        backbone: str = "mlp",
        workers: dict[str, Any] | None = None,
        total_steps: int = 600,
        **settings: Any,
    ) -> Experiment:
        described = AGENTS[agent] if isinstance(agent, str) else agent
        base = {"env": {"id": "CartPole-v1", "num_envs": 4}, "agent": described, "backbone": BACKBONES[backbone]}
        return from_mapping(base | {"workers": workers or {}, "total_steps": total_steps} | QUIET | settings)

    return make


@pytest.fixture
def curve() -> Callable[[Path], list[tuple[str, str]]]:
    """`curve(folder)`: return and length of every episode, in order."""

    def read(folder: Path) -> list[tuple[str, str]]:
        lines = (folder / "monitor.csv").read_text().splitlines()
        return [(row["r"], row["l"]) for row in csv.DictReader(lines[1:])]

    return read


@pytest.fixture
def logged() -> Callable[[Path, str], list[float]]:
    """`logged(folder, tag)`: what was written down of a metric, row by row."""

    def read(folder: Path, tag: str) -> list[float]:
        rows = csv.DictReader((folder / "progress.csv").read_text().splitlines())
        return [float(row[tag]) for row in rows if row.get(tag)]

    return read


CHAOS = '''
import os, signal
from pathlib import Path
from gymnasium.envs.classic_control import CartPoleEnv

class Chaos(CartPoleEnv):
    """Whoever has made `after` steps does the next of `faults` that nobody has done yet."""

    def __init__(self, folder, faults, after, render_mode=None):
        super().__init__(render_mode)
        self.left = [Path(folder) / f"{i} {fault}" for i, fault in enumerate(faults)]
        self.after = after

    def step(self, action):
        self.after -= 1
        for path in self.left if self.after == 0 else ():
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                continue
            fault = path.name.split()[1]
            if fault == "raise":
                raise RuntimeError("the pole is broken")
            os.kill(os.getpid(), getattr(signal, fault))
            break
        return super().step(action)
'''


@pytest.fixture
def chaos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`chaos("SIGKILL", "raise", after=300)`: CartPole in which that happens, each once."""

    def make(*faults: str, after: int = 300) -> dict[str, Any]:
        (tmp_path / "chaos.py").write_text(CHAOS)
        (tmp_path / "done").mkdir()
        monkeypatch.chdir(tmp_path)
        kwargs = {"folder": str(tmp_path / "done"), "faults": list(faults), "after": after}
        return {"id": "chaos:Chaos", "num_envs": 4, "kwargs": kwargs, "max_episode_steps": 500}

    return make


@pytest.fixture
def workers_of_mine() -> Iterator[Callable[[], list[psutil.Process]]]:
    """`workers_of_mine()`: processes of workers that this process has started; none may be left when the test ends."""

    def find() -> list[psutil.Process]:
        children = psutil.Process(os.getpid()).children(recursive=True)
        return [child for child in children if _is_worker(child)]

    yield find
    left = find()
    for process in left:
        process.kill()
    assert not left


def _is_worker(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and ("training.workers.serve" in line or "ray::Actor" in line)
    except psutil.NoSuchProcess:
        return False
