"""Settings of PPO, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import gymnasium as gym
from annotated_types import Ge, Gt, Le

from triathlon.agents.gradient_step import Compile
from triathlon.agents.registry import AgentConfig, Kind, Task
from triathlon.networks.errors import refuse_unread
from triathlon.networks.policy_heads import StdKind


@dataclass(frozen=True)
class PPOConfig(AgentConfig):
    """Settings of PPO. Defaults are those of Stable-Baselines3 but for the rollout, its epochs and minibatches."""

    learns_from_search: ClassVar[bool] = True
    kind: Kind = "ppo"
    learning_rate: Annotated[float, Gt(0), "Adam's step size"] = 3e-4
    anneal_learning_rate: Annotated[bool, "bring the learning rate linearly to zero over the run"] = False
    adam_eps: Annotated[float, Gt(0), "Adam's epsilon"] = 1e-5
    num_steps: Annotated[int, Gt(0), "rows that each environment plays between two updates"] = 128
    num_epochs: Annotated[int, Gt(0), "passes over each rollout"] = 4
    batch_size: Annotated[int, Gt(0), "environment steps of a minibatch"] = 256
    accumulate: Annotated[int, Gt(0), "parts that a minibatch is computed in, to save memory"] = 1
    gamma: Annotated[float, Ge(0), Le(1), "discount"] = 0.99
    gae_lambda: Annotated[float, Ge(0), Le(1), "λ of generalised advantage estimation"] = 0.95
    vtrace: Annotated[
        Literal["auto", "always", "never"],
        "correct for an older policy having acted, by V-trace (Espeholt et al. 2018); auto: where one has",
    ] = "auto"
    rho_clip: Annotated[float, Gt(0), "V-trace: the largest weight of a row's own error"] = 1.0
    c_clip: Annotated[float, Gt(0), "V-trace: the largest weight that errors of later rows pass on"] = 1.0
    clip_coef: Annotated[float, Gt(0), "how far the probability ratio may move from 1"] = 0.2
    anneal_clip: Annotated[bool, "bring clip_coef linearly to zero over the run"] = False
    clip_value_coef: Annotated[float | None, Gt(0), "how far a value may move in one update; null: freely"] = None
    normalize_advantage: Annotated[bool, "give the advantages of each minibatch mean 0 and deviation 1"] = True
    ent_coef: Annotated[float, Ge(0), "weight of the entropy bonus"] = 0.0
    vf_coef: Annotated[float, Ge(0), "weight of the value loss"] = 0.5
    max_grad_norm: Annotated[float, Gt(0), "the gradient is scaled down to this norm"] = 0.5
    target_kl: Annotated[
        float | None, Gt(0), "stop an update after an epoch that ends above 1.5 times this KL divergence"
    ] = None
    segment_length: Annotated[
        int | None, Gt(0), "rows of back-propagation through time; null: 1 without a memory, else at most 16"
    ] = None
    share_backbone: Annotated[bool | None, "one backbone for policy and value; null: for images only"] = None
    normalize_obs: Annotated[bool, "normalise vector observations by their running mean and deviation"] = False
    normalize_reward: Annotated[bool, "divide rewards by the running deviation of the return"] = False
    compile: Compile = False
    std: Annotated[StdKind, "Box actions: deviation as a free parameter, or read from the features (state)"] = "free"
    log_std_init: Annotated[float, "Box actions: logarithm of the first deviation"] = 0.0

    def check(self, task: Task) -> None:
        """Raises SettingError if a setting was given that nothing reads on this task."""
        if not isinstance(task.action_space, gym.spaces.Box):
            refuse_unread(self, ("std", "log_std_init"), f"actions are a Box, and they are {task.action_space}")
        if self.vtrace == "never":
            refuse_unread(self, ("rho_clip", "c_clip"), "agent.vtrace is auto or always")
