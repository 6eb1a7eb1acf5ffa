"""What is not finite is not learned from, and replaces no checkpoint: with other engines as with ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from triathlon.envs.errors import EnvError
from triathlon.training import checkpoint
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.errors import RunError
from triathlon.training.restoring import load_policy
from triathlon.training.runner import train

PPO = {"kind": "ppo", "num_steps": 8, "batch_size": 16, "num_epochs": 2}
DQN = {"kind": "dqn", "learning_starts": 16, "batch_size": 16, "buffer_size": 300, "train_period": 8}
ENGINES = [
    pytest.param("sb3"),
    pytest.param("rllib", marks=pytest.mark.cluster),
]


def experiment(engine: str, agent: dict[str, Any], fault: str, **settings: Any) -> Experiment:
    pytest.importorskip({"sb3": "stable_baselines3", "rllib": "ray"}[engine])
    env: dict[str, Any] = {"id": "tests.training.engines.odd_envs:FaultyEnv", "num_envs": 2, "kwargs": {"fault": fault}}
    if fault == "huge":
        env["kwargs"]["after"] = 1
    mapping = {"engine": engine, "env": env, "agent": agent, "backbone": {"kind": "auto"}, "total_steps": 400}
    quiet = {"evaluation": {"final_episodes": 0, "video": False}, "num_threads": 1, "device": "cpu"}
    return from_mapping(mapping | quiet | {"logging": {"period": 16}} | settings)


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
@pytest.mark.parametrize("fault", ["reward", "observation"])
@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_finite_ends_a_run(engine: str, fault: str, agent: dict[str, Any], tmp_path: Path) -> None:
    started = experiment(engine, agent, fault)
    path = tmp_path / "checkpoints" / "last.safetensors"
    found = {"reward": "the reward of environment 0 is nan", "observation": r"the observation\['a'\] of .* inf\]"}
    with pytest.raises(EnvError, match=rf"FaultyEnv gave .*: {found[fault]}; .* what was learned is in {path}"):
        train(started, tmp_path)
    assert load_policy(path, started).weights().isfinite().all()
    assert 0 < checkpoint.load(path)["num_steps"] <= 100


@pytest.mark.parametrize("checks", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize(
    ("agent", "fault"), [(DQN | {"learning_rate": 1e37}, "none"), (PPO, "huge")], ids=["dqn", "ppo"]
)
def test_weights_that_are_no_numbers_replace_no_checkpoint(
    agent: dict[str, Any], fault: str, checks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RLlib makes zeros of such gradients, so its weights stay numbers.

    Distributions `check` their parameters or fail later, when they draw: some library may have switched that off.
    """
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", checks)
    before = tmp_path / "checkpoints" / "last.safetensors"
    before.parent.mkdir()
    before.write_bytes(b"what was there")
    with pytest.raises(RunError, match=r"the weights are no finite numbers any more after .* steps: .*learning_rate"):
        train(experiment("sb3", agent, fault), tmp_path)
    assert before.read_bytes() == b"what was there"
