"""Every shipped board game trains by playing itself, and tic-tac-toe is learned to perfection by both agents."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from triathlon.training import checkpoint
from triathlon.training.config import load
from triathlon.training.runner import train
from triathlon.training.schema import to_mapping
from triathlon.training.shipped import shipped

pytest.importorskip("pyspiel")

QUICK = [
    *("--env.num-envs", "4", "--num-threads", "1", "--agent.compile", "false", "--total-steps", "192"),
    *("--evaluation.final-episodes", "2", "--evaluation.video", "false", "--evaluation.period", "96"),
    *("--evaluation.num-episodes", "2", "--logging.period", "1", "--logging.histograms", "false"),
    *("--self-play.judge", "random", "--self-play.ladder", "[random]", "--self-play.ladder-games", "2"),
    *("--self-play.pool-share", "0.5", "--self-play.snapshot-period", "64"),
]
AGENTS = {
    "ppo": ["--agent.num-steps", "16", "--agent.batch-size", "32", "--agent.num-epochs", "2"],
    "dqn": [
        *("--agent.buffer-size", "1000", "--agent.learning-starts", "32", "--agent.batch-size", "4"),
        *("--agent.train-period", "16", "--agent.gradient-steps", "1"),
    ],
}
BOARDS = [name for name, path in shipped().items() if path.parent.name == "board"]


def evaluations(folder: Path, column: str) -> list[float]:
    rows = csv.DictReader((folder / "progress.csv").read_text().splitlines())
    return [float(row[column]) for row in rows if row.get(column)]


@pytest.mark.parametrize("name", BOARDS)
def test_configuration_trains(name: str, tmp_path: Path) -> None:
    experiment = load(name, [*QUICK, *AGENTS[load(name).agent.kind]])
    result = train(experiment, tmp_path)
    assert result.num_steps >= 192
    assert len(result.returns) == 2
    assert set(result.returns) <= {-1.0, 0.0, 1.0}
    assert len(evaluations(tmp_path, "eval/elo")) == 2
    assert all(0.0 <= score <= 1.0 for score in evaluations(tmp_path, "self_play/score_pool"))
    state = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    assert len([name for name in state["sides"]["names"] if name.startswith("self at")]) >= 2
    assert all(torch.isfinite(torch.as_tensor(w)).all() for w in _leaves(state["learner"]["network"]))


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_tic_tac_toe_is_learned_to_perfection(agent: str, tmp_path: Path) -> None:
    """No opponent can beat the greedy policy or gain anything against it: exploitability 0, exactly."""
    experiment = load(f"tic_tac_toe_{agent}", ["--evaluation.video", "false", "--num-threads", "1"])
    result = train(experiment, tmp_path)
    found = evaluations(tmp_path, "eval/exploitability")
    assert found[0] > 0.0
    assert min(found) == 0.0
    assert result.checkpoint.stem == "best"
    # A hundred games against random moves; two random plies before each may have lost the game already.
    assert sum(result.returns) / len(result.returns) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BOARDS if name.endswith("_ppo")])
def test_no_move_of_100_000_in_self_play_is_illegal(practise: Any, name: str) -> None:
    """The environment refuses an illegal action with an error; the policy sees its own moves' masks only."""
    env = to_mapping(load(name).env) | {"num_envs": 64}
    practice = practise(env, {"kind": "ppo", "num_steps": 64}, {"kind": "mlp", "hidden_sizes": [16]})
    num_plies = 0
    while num_plies < 100_000:
        num_plies += practice.collector.collect(64).num_steps


def _leaves(tree: Any) -> list[Any]:
    return [leaf for value in tree.values() for leaf in _leaves(value)] if isinstance(tree, dict) else [tree]
