"""Every shipped Atari configuration trains: real games, the published network, as few steps as show that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triathlon.training import checkpoint
from triathlon.training.config import load
from triathlon.training.runner import train
from triathlon.training.shipped import shipped

pytest.importorskip("ale_py")

QUICK = [
    *("--env.num-envs", "2", "--env.atari.num-threads", "1", "--num-threads", "1", "--agent.compile", "false"),
    *("--evaluation.final-episodes", "0", "--evaluation.video", "false", "--evaluation.period", "null"),
    *("--logging.period", "1", "--logging.histograms", "false"),
]
ON_POLICY = ["--agent.num-steps", "32", "--agent.batch-size", "32", "--agent.num-epochs", "2"]
REPLAY = ["--agent.buffer-size", "1000", "--agent.learning-starts", "32", "--agent.batch-size", "4"]
R2D2 = ["--agent.train-period", "80", "--agent.burn-in", "8", "--agent.segment-length", "16"]


@pytest.mark.parametrize("name", [name for name, path in shipped().items() if path.parent.name == "atari"])
def test_configuration_trains(name: str, tmp_path: Path) -> None:
    kind = load(name).agent.kind
    changes = ON_POLICY if kind in ("ppo", "pqn") else REPLAY
    changes = [*QUICK, *changes, *(R2D2 if name.startswith("r2d2") else [])]
    if kind == "dqn":  # rounds of updates as often as two environments want them
        changes += [] if name.startswith("r2d2") else ["--agent.train-period", "8", "--agent.gradient-steps", "1"]
    experiment = load(name, [*changes, "--total-steps", "192"])
    result = train(experiment, tmp_path)
    assert result.num_steps >= 192
    rows = (tmp_path / "progress.csv").read_text().splitlines()
    names, last = rows[0].split(","), rows[-1].split(",")
    written = dict(zip(names, last, strict=True))
    assert abs(float(written["train/loss"])) < 100.0
    assert 0.0 < float(written["train/grad_norm"]) < 1_000.0
    weights = checkpoint.load(result.checkpoint)["learner"]["network"]
    assert all(torch.isfinite(torch.as_tensor(w)).all() for w in _leaves(weights))


def _leaves(tree: object) -> list[object]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    return [tree]
