"""Settings of DQN, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le

from triathlon.agents.gradient_step import Compile
from triathlon.agents.picture_store import has_pictures
from triathlon.agents.registry import AgentConfig, Kind, Task
from triathlon.networks.errors import SettingError, refuse_unread
from triathlon.networks.heads import QHeadConfig

Fraction = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class DQNConfig(AgentConfig):
    """Settings of DQN. Periods and budgets count environment steps, of all environments together."""

    kind: Kind = "dqn"
    learning_rate: Annotated[float, Gt(0), "Adam's step size"] = 1e-4
    anneal_learning_rate: Annotated[bool, "bring the learning rate linearly to zero over the run"] = False
    adam_eps: Annotated[float, Gt(0), "Adam's epsilon"] = 1e-8
    buffer_size: Annotated[int, Gt(0), "transitions that the replay holds"] = 100_000
    compress_replay: Annotated[bool, "keep its pictures losslessly compressed in memory (extra: atari)"] = False
    replay_device: Annotated[
        Literal["auto", "host", "gpu"],
        "where the replay's pictures are kept; auto: in the memory of the GPU that learns, if they fit",
    ] = "auto"
    learning_starts: Annotated[int, Ge(0), "environment steps before the first update"] = 1_000
    train_period: Annotated[int, Gt(0), "environment steps between two rounds of updates"] = 4
    gradient_steps: Annotated[int, Gt(0), "updates of a round"] = 1
    batch_size: Annotated[int, Gt(0), "samples of an update"] = 32
    accumulate: Annotated[int, Gt(0), "parts that the gradient of an update is computed in, to save memory"] = 1
    gamma: Annotated[Fraction, "discount"] = 0.99
    n_step: Annotated[int, Gt(0), "rewards summed before the bootstrap"] = 1
    double: Annotated[bool, "the online network chooses the action to bootstrap from (van Hasselt et al. 2016)"] = False
    head: Annotated[QHeadConfig, "what is learned of each action's return"] = field(default_factory=QHeadConfig)
    loss: Annotated[Literal["huber", "mse"], "error of expected values"] = "huber"
    target_period: Annotated[int, Gt(0), "environment steps between updates of the target network"] = 10_000
    tau: Annotated[float, Gt(0), Le(1), "how far the target moves then; below 1 it moves after every update"] = 1.0
    max_grad_norm: Annotated[float, Gt(0), "the gradient is scaled down to this norm"] = 10.0
    initial_epsilon: Annotated[Fraction, "share of random actions at the start"] = 1.0
    final_epsilon: Annotated[Fraction, "share of random actions at the end of exploration"] = 0.05
    exploration_fraction: Annotated[Fraction, "share of the run over which epsilon falls linearly"] = 0.1
    epsilon_alpha: Annotated[
        float, Ge(0), "spread of epsilon: environment i of N takes epsilon^(1 + alpha i/(N - 1)) (Ape-X: 7)"
    ] = 0.0
    prioritized: Annotated[bool, "draw what surprised most more often (Schaul et al. 2016)"] = False
    priority_exponent: Annotated[Fraction, "0 draws uniformly, 1 in proportion to the error"] = 0.6
    priority_beta: Annotated[Fraction, "importance correction at the start, rising to 1 over the run"] = 0.4
    priority_eta: Annotated[Fraction, "sequences: weight of the largest error against the mean (R2D2)"] = 0.9
    initial_priority: Annotated[
        Literal["greatest", "td_error"],
        "priority of what is new: the greatest so far, or that of its error by the values that acting saw (Ape-X)",
    ] = "greatest"
    segment_length: Annotated[int | None, Gt(0), "rows trained per sample; null: 1 without a memory, else 16"] = None
    burn_in: Annotated[int | None, Ge(0), "rows that only warm the memory up; null: 0 without a memory, else 8"] = None
    value_rescale: Annotated[bool, "learn h(Q) with h(x) = sign(x)(√(|x|+1) - 1) + 0.001x (Pohlen et al. 2018)"] = False
    compile: Compile = False
    normalize_obs: Annotated[bool, "normalise vector observations by their running mean and deviation"] = False
    normalize_reward: Annotated[bool, "divide rewards by the running deviation of the return"] = False

    @property
    def values_seen(self) -> bool:
        """Does the replay keep the values that acting saw?"""
        return self.initial_priority == "td_error"

    def check(self, task: Task) -> None:
        """Raises SettingError where settings contradict each other or the task, or one is read by nothing."""
        if self.value_rescale and self.head.kind == "c51":
            raise SettingError(
                "agent.value_rescale: c51 fixes its returns on atoms and cannot rescale them; use head.kind qr or iqn"
            )
        if not self.prioritized:
            priorities = ("priority_exponent", "priority_beta", "priority_eta", "initial_priority")
            refuse_unread(self, priorities, "agent.prioritized is true")
        if self.values_seen and self.head.kind == "c51":
            raise SettingError(
                "agent.initial_priority: td_error compares values, and with agent.head.kind c51 priorities are "
                "cross-entropies; set it to greatest"
            )
        if self.compress_replay and not has_pictures(task.observation_space):
            raise SettingError(
                "agent.compress_replay is true, but there are no pictures of bytes (uint8) among the observations to "
                "compress; set it to false"
            )
        on_gpu = task.device.type == "cuda"  # else it is refused for that
        if self.replay_device == "gpu" and on_gpu and not has_pictures(task.observation_space):
            raise SettingError(
                "agent.replay_device: gpu keeps pictures of bytes (uint8) there, and there are none among the "
                "observations; set it to auto"
            )
        if self.tau < 1.0:
            refuse_unread(self, ("target_period",), "agent.tau is 1")
        if task.num_envs * task.ranks.size == 1:
            refuse_unread(self, ("epsilon_alpha",), "there are several environments (env.num_envs)")
        if self.head.kind != "expected":
            refuse_unread(self, ("loss",), "agent.head.kind is expected")

    def check_buffer_size(self, sample: int, new_rows: int, num_envs: int) -> None:
        """Raises SettingError if a replay could not hold a sample of so many rows, or so many rows added at once."""
        least = max(sample, new_rows) * num_envs
        if self.buffer_size < least:
            raise SettingError(
                f"agent.buffer_size is {self.buffer_size} but should be at least {least}: it holds rows of "
                f"{num_envs} environments, samples of {sample} rows (burn_in, segment_length, n_step) and "
                f"{new_rows} new rows at once (train_period)"
            )

    def picture_device(self, device: torch.device) -> torch.device | None:
        """Where the replay of a learner on `device` may keep pictures, if not in host memory; or SettingError."""
        on_gpu = device.type == "cuda"
        if self.replay_device == "gpu" and not on_gpu:
            raise SettingError(
                f"agent.replay_device: gpu needs a GPU that learns, and device is {device.type}; set it to auto"
            )
        if self.replay_device == "gpu" and self.compress_replay:
            raise SettingError(
                "agent.replay_device: gpu keeps pictures as they are, and agent.compress_replay is true; set one to "
                "its default"
            )
        return device if on_gpu and self.replay_device != "host" and not self.compress_replay else None
