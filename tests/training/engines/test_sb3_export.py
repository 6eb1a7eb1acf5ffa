"""What a zip for Stable-Baselines3 says of how a run was trained, and which runs have no such zip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DQN, PPO

from triathlon.scripts.main import main
from triathlon.training.config import from_mapping
from triathlon.training.run_folder import create
from triathlon.training.runner import train


def run(agent: dict[str, Any], tmp_path: Path) -> Path:
    """The folder of a short run."""
    settings = {"env": {"id": "CartPole-v1", "num_envs": 2}, "agent": agent, "backbone": {"kind": "mlp"}}
    quiet = {"evaluation": {"final_episodes": 0, "video": False}, "root": str(tmp_path / "runs"), "device": "cpu"}
    experiment = from_mapping(settings | quiet | {"total_steps": 8})
    folder = create(experiment, ["train"])
    train(experiment, folder.path)
    return folder.path


def test_sb3_goes_on_with_the_settings_of_a_ppo_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = {"kind": "ppo", "num_steps": 6, "batch_size": 12, "num_epochs": 3, "learning_rate": 0.01, "adam_eps": 1e-4}
    agent |= {"gamma": 0.9, "gae_lambda": 0.8, "clip_coef": 0.3, "normalize_advantage": False, "ent_coef": 0.02}
    agent |= {"vf_coef": 0.7, "max_grad_norm": 0.6, "target_kl": 0.5, "anneal_clip": True, "clip_value_coef": 0.4}
    assert main(["export-sb3", str(run(agent, tmp_path)), str(tmp_path / "ours.zip")]) == 0
    said = capsys.readouterr().out
    assert "Not in it, so that Stable-Baselines3 trains on without: agent.anneal_clip, agent.clip_value_coef\n" in said
    model = PPO.load(tmp_path / "ours.zip", device="cpu", env=gym.make("CartPole-v1"))
    numbers = (model.n_steps, model.batch_size, model.n_epochs, model.learning_rate, model.gamma, model.gae_lambda)
    assert numbers == (6, 12, 3, 0.01, 0.9, 0.8)
    assert (model.ent_coef, model.vf_coef, model.max_grad_norm, model.target_kl) == (0.02, 0.7, 0.6, 0.5)
    assert model.clip_range(1.0) == 0.3  # type: ignore[operator]
    assert model.clip_range_vf is None and not model.normalize_advantage
    assert model.policy.optimizer.defaults["eps"] == 1e-4
    model.learn(12)


def test_sb3_goes_on_with_the_settings_of_a_dqn_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = {"kind": "dqn", "learning_rate": 0.01, "adam_eps": 1e-4, "buffer_size": 50, "learning_starts": 3}
    agent |= {"train_period": 6, "gradient_steps": 2, "batch_size": 5, "gamma": 0.9, "n_step": 3, "tau": 0.5}
    agent |= {"max_grad_norm": 0.6, "initial_epsilon": 0.8, "final_epsilon": 0.2, "exploration_fraction": 0.3}
    agent |= {"double": True, "compile": False}
    assert main(["export-sb3", str(run(agent, tmp_path)), str(tmp_path / "ours.zip")]) == 0
    assert "Stable-Baselines3 trains on without: agent.double\n" in capsys.readouterr().out
    model = DQN.load(tmp_path / "ours.zip", device="cpu", env=gym.make("CartPole-v1"))
    assert (model.learning_rate, model.buffer_size, model.learning_starts, model.batch_size) == (0.01, 50, 3, 5)
    assert (model.train_freq.frequency, model.gradient_steps) == (6, 2)  # type: ignore[union-attr]
    assert (model.gamma, model.n_steps, model.max_grad_norm) == (0.9, 3, 0.6)
    # Below 1 our target moves with every round of updates.
    assert (model.tau, model.target_update_interval) == (0.5, 6)
    assert (model.exploration_initial_eps, model.exploration_final_eps) == (0.8, 0.2)
    assert model.exploration_fraction == 0.3 and model.policy.optimizer.defaults["eps"] == 1e-4
    assert model.replay_buffer.n_steps == 3  # type: ignore[union-attr]
    model.learn(40)
    assert model._n_updates > 0


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ({"kind": "c51"}, "agent.head.kind is c51, and SB3's own DQN learns expected values only"),
        ({"kind": "qr"}, "agent.head.kind is qr,"),
        ({"kind": "iqn"}, "agent.head.kind is iqn,"),
        ({"dueling": True}, "agent.head.dueling is true, and SB3's own DQN has one stream"),
        ({"noisy": True}, "agent.head.noisy is true, and"),
    ],
)
def test_a_head_that_sb3_does_not_have_is_refused(
    head: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run({"kind": "dqn", "head": head}, tmp_path)
    assert main(["export-sb3", str(folder), str(tmp_path / "ours.zip")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "ours.zip").exists()
