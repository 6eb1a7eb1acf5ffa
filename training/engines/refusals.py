"""What an engine refuses of an experiment once its environments and its network are made; `settings` has the rest.

Nothing here imports the library of an engine, so that several engines can be asked in one process. B environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from torch import nn

from triathlon.agents.dqn_config import DQNConfig
from triathlon.agents.ppo_config import PPOConfig
from triathlon.agents.registry import Task, make_learner
from triathlon.envs.make import make_envs
from triathlon.training.config import Experiment
from triathlon.training.engines.resettable import make_resettable
from triathlon.training.engines.rounds import minibatch_size, rounds_of_updates
from triathlon.training.engines.settings import check
from triathlon.training.errors import RunError
from triathlon.training.machine import pick_device
from triathlon.training.task import make_task


def check_made(experiment: Experiment) -> None:
    """Refuse all that the experiment's engine (not native) refuses before it trains, and leave nothing behind.

    Raises:
        SettingError, EnvError, RunError: something does not go together, or the engine cannot honour it.
    """
    check(experiment)
    pick_device(experiment.device)
    make = make_resettable if experiment.engine == "sb3" else make_envs
    with closing(make(replace(experiment.env, num_envs=1))) as envs:
        cpu = pick_device("cpu")  # whoever only asks takes nothing of a GPU
        task = make_task(experiment, envs, cpu, np.random.SeedSequence(experiment.seed))
        learner: Any = make_learner(experiment.agent, experiment.backbone, task)
        refuse(experiment, task, learner.policy.network)
        refuse_masks(envs.reset(seed=experiment.seed)[1], experiment.engine)


def refuse(experiment: Experiment, task: Task, network: nn.Module) -> None:
    """Raises RunError for what the experiment's engine cannot do or is known to fail at."""
    {"sb3": _refuse_sb3, "rllib": _refuse_rllib}[experiment.engine](experiment, task, network)


def refuse_masks(info: Mapping[str, Any], engine: str) -> None:
    """Raises RunError if what a reset tells holds masks of legal actions."""
    if "action_mask" in info:
        raise RunError(f"the environment has masks of legal actions, which engine: {engine} cannot read; use native")


def _refuse_sb3(experiment: Experiment, task: Task, network: Any) -> None:
    agent = experiment.agent
    if network.initial_state(1):
        raise RunError(
            f"backbone.kind is {experiment.backbone.kind}, which has a memory, and Stable-Baselines3's PPO and DQN "
            "carry none from step to step; use a backbone without, or engine: native or rllib"
        )
    if (
        isinstance(agent, PPOConfig)
        and agent.normalize_advantage
        and minibatch_size(agent.num_steps * task.num_envs, agent.batch_size) < 2
    ):
        raise RunError("agent.batch_size is 1, of which engine: sb3 cannot normalise the advantages; use 2 or more")
    if isinstance(agent, DQNConfig):
        if isinstance(task.observation_space, gym.spaces.Dict) and agent.n_step > 1:
            raise RunError(
                f"agent.n_step is {agent.n_step}, which engine: sb3 does not have for Dict observations; use 1"
            )
        rounds_of_updates(agent.train_period, agent.gradient_steps, task.num_envs, "sb3")


def _refuse_rllib(experiment: Experiment, task: Task, network: Any) -> None:
    agent, atari = experiment.agent, experiment.env.atari
    if atari is not None and atari.terminal_on_life_loss:
        raise RunError(
            "env.atari.terminal_on_life_loss is true, but RLlib begins a new game where an episode ends; set it to "
            "false for engine: rllib"
        )
    if isinstance(agent, PPOConfig) and isinstance(task.action_space, gym.spaces.MultiBinary):
        raise RunError("the actions are MultiBinary, for which RLlib's PPO has no distribution; use engine: native")
    if not isinstance(agent, DQNConfig):
        return
    if network.initial_state(1):
        failing = {
            "env.num_envs": (experiment.env.num_envs, 1),
            "agent.prioritized": (agent.prioritized, False),
            "agent.n_step": (agent.n_step, 1),
        }
        for name, (value, allowed) in failing.items():
            if value != allowed:
                raise RunError(
                    f"{name} is {value}, with which RLlib's DQN fails where the network has a memory "
                    f"(backbone.kind {experiment.backbone.kind}); set it to {allowed}, or use engine: native"
                )
    rows, _ = rounds_of_updates(agent.train_period, agent.gradient_steps, task.num_envs, "rllib")
    if rows < agent.n_step:
        raise RunError(
            f"agent.n_step is {agent.n_step}, but RLlib's DQN looks ahead within the {rows} steps that each "
            f"environment plays between updates; raise agent.train_period to {agent.n_step * task.num_envs}"
        )


__all__ = ["check_made", "refuse", "refuse_masks"]
