"""What a learner is told of a run, from the experiment and its environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from triathlon.agents.ranks import ALONE, Ranks
from triathlon.agents.registry import Task
from triathlon.training.config import Experiment
from triathlon.training.machine import pick_precision


def make_task(
    experiment: Experiment,
    envs: VectorEnv[Any, Any, Any],
    device: torch.device,
    seed: np.random.SeedSequence,
    ranks: Ranks = ALONE,
) -> Task:
    """The task of `experiment`, whose spaces are those of `envs` (which may be fewer than it trains with)."""
    space = envs.single_observation_space
    return Task(
        observation_space=space,
        action_space=envs.single_action_space,
        num_envs=experiment.env.num_envs,
        total_steps=experiment.total_steps,
        seed=seed,
        device=device,
        precision=pick_precision(experiment.precision, device, space),
        frame_stack=getattr(envs, "frame_stack", 1),
        ranks=ranks,
    )
