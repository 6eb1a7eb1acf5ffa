"""Small runs of board games for the tests of self-play."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from triathlon.agents.agent import Policy
from triathlon.agents.registry import make_learner
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.task import make_task

MLP = {"kind": "mlp", "hidden_sizes": [16]}
PPO = {"kind": "ppo", "num_steps": 8, "num_epochs": 1, "batch_size": 32}
DQN = {"kind": "dqn", "learning_starts": 32, "train_period": 16, "batch_size": 8, "buffer_size": 500}
QUIET = {"final_episodes": 0, "video": False}


def experiment(game: str = "tic_tac_toe", agent: Any = PPO, **settings: Any) -> Experiment:
    env = {"id": f"board/{game}", "num_envs": 4}
    base = {"env": env, "agent": agent, "backbone": MLP, "total_steps": 300, "evaluation": QUIET, "num_threads": 1}
    return from_mapping(base | settings)


def policy_for(run: Experiment, envs: VectorEnv[Any, Any, Any]) -> Policy:
    """An untrained policy."""
    task = make_task(run, envs, torch.device("cpu"), np.random.SeedSequence(0))
    return make_learner(run.agent, run.backbone, task).policy


def column(folder: Path, tag: str) -> list[float]:
    """What a run wrote down by a tag."""
    rows = csv.DictReader((folder / "progress.csv").read_text().splitlines())
    return [float(row[tag]) for row in rows if row.get(tag)]
