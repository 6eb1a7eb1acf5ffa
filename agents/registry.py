"""Which agents there are: the kind named in a configuration, its settings and its learner."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import gymnasium as gym
import numpy as np
import torch

from triathlon.agents.agent import Learner
from triathlon.agents.ranks import ALONE, Ranks
from triathlon.networks.errors import SettingError, nearest
from triathlon.networks.registry import BackboneConfig

Kind: TypeAlias = Annotated[str, "which agent: ppo, dqn or pqn"]


@dataclass(frozen=True)
class AgentConfig:
    """Settings that every agent has; each agent's own dataclass adds to them."""

    learns_from_search: ClassVar[bool] = False  # from what a search finds in board games
    kind: Kind = "ppo"
    cuda_graphs: Annotated[
        bool,
        "on a GPU, launch acting and gradient steps as recorded graphs (steps with a memory or iqn: acting only)",
    ] = False


@dataclass(frozen=True)
class Task:
    """What a learner needs to know of the run that it serves."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    num_envs: int
    total_steps: int
    seed: np.random.SeedSequence
    device: torch.device
    precision: torch.dtype = torch.float32
    """What parts that read pictures compute in."""
    frame_stack: int = 1
    """Pictures stacked on the first axis of an observation, oldest first; 1: none."""
    ranks: Ranks = ALONE
    """The processes that learn together; `num_envs` is of this one, `total_steps` and settings are of all."""


_KINDS = {"ppo": "triathlon.agents.ppo:PPO", "dqn": "triathlon.agents.dqn:DQN", "pqn": "triathlon.agents.pqn:PQN"}


def kinds() -> tuple[str, ...]:
    """The names of the agents."""
    return tuple(_KINDS)


def learner_class(kind: str) -> type[Any]:
    """The learner class of a kind, imported when it is first asked for.

    Raises:
        SettingError: there is no such agent.
    """
    if kind not in _KINDS:
        raise SettingError(
            f"agent.kind: no agent is called '{kind}'; there are {', '.join(_KINDS)}{nearest(kind, _KINDS)}"
        )
    module, _, name = _KINDS[kind].partition(":")
    cls: type[Any] = getattr(importlib.import_module(module), name)
    return cls


def config_class(kind: str) -> type[AgentConfig]:
    """The settings dataclass of a kind (the learner's `Config`)."""
    cls: type[AgentConfig] = learner_class(kind).Config
    return cls


def make_learner(config: AgentConfig, backbone: BackboneConfig, task: Task) -> Learner:
    """Build the learner that `config` describes on the backbone that `backbone` describes.

    Raises:
        SettingError: the agent cannot play the task's action space, or a setting does not fit the backbone.
    """
    if getattr(config, "normalize_obs", False) and task.device.type == "mps":
        raise SettingError(
            "agent.normalize_obs: true counts in double precision, which device: mps has not; set device to cpu"
        )
    learner: Learner = learner_class(config.kind)(config, backbone, task)
    return learner
