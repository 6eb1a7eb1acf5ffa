"""Proximal Policy Optimization (Schulman et al. 2017), on segments of any length.

T rows of a rollout, B environments, S rows of a training segment, N training segments (S = 1: transitions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from triathlon.agents.actor_critic import ActorCritic, ActorCriticPolicy
from triathlon.agents.agent import Metrics
from triathlon.agents.cuda_graph import check_graphs
from triathlon.agents.gradient_step import Compile, GradientStep
from triathlon.agents.minibatches import Rows, cut, fold, segment_length, shuffled, unfold
from triathlon.agents.randomness import initialisation, torch_generator
from triathlon.agents.registry import AgentConfig, Kind, Task, refuse_unread
from triathlon.agents.returns import explained_variance, gae
from triathlon.agents.reward_scaling import RewardScaler
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs, State, map_obs
from triathlon.networks.images import compute_pictures_in
from triathlon.networks.policy_heads import StdKind
from triathlon.networks.registry import BackboneConfig
from triathlon.networks.spaces import has_images


@dataclass(frozen=True)
class PPOConfig(AgentConfig):
    """Settings of PPO. Defaults are those of Stable-Baselines3 where it has them."""

    kind: Kind = "ppo"
    learning_rate: Annotated[float, Gt(0), "Adam's step size"] = 3e-4
    anneal_learning_rate: Annotated[bool, "bring the learning rate linearly to zero over the run"] = False
    adam_eps: Annotated[float, Gt(0), "Adam's epsilon"] = 1e-5
    num_steps: Annotated[int, Gt(0), "rows that each environment plays between two updates"] = 128
    num_epochs: Annotated[int, Gt(0), "passes over each rollout"] = 4
    batch_size: Annotated[int, Gt(0), "environment steps of a minibatch"] = 256
    gamma: Annotated[float, Ge(0), Le(1), "discount"] = 0.99
    gae_lambda: Annotated[float, Ge(0), Le(1), "λ of generalised advantage estimation"] = 0.95
    clip_coef: Annotated[float, Gt(0), "how far the probability ratio may move from 1"] = 0.2
    anneal_clip: Annotated[bool, "bring clip_coef linearly to zero over the run"] = False
    clip_value_coef: Annotated[float | None, Gt(0), "how far a value may move in one update; null: freely"] = None
    normalize_advantage: Annotated[bool, "give the advantages of each minibatch mean 0 and deviation 1"] = True
    ent_coef: Annotated[float, Ge(0), "weight of the entropy bonus"] = 0.0
    vf_coef: Annotated[float, Ge(0), "weight of the value loss"] = 0.5
    max_grad_norm: Annotated[float, Gt(0), "the gradient is scaled down to this norm"] = 0.5
    target_kl: Annotated[float | None, Gt(0), "stop the epochs of an update once the KL divergence passes this"] = None
    segment_length: Annotated[
        int | None, Gt(0), "rows of back-propagation through time; null: 1 without a memory, else at most 16"
    ] = None
    share_backbone: Annotated[bool | None, "one backbone for policy and value; null: for images only"] = None
    normalize_obs: Annotated[bool, "normalise vector observations by their running mean and deviation"] = False
    normalize_reward: Annotated[bool, "divide rewards by the running deviation of the return"] = False
    compile: Compile = False
    std: Annotated[StdKind, "Box actions: deviation as a free parameter, or read from the features (state)"] = "free"
    log_std_init: Annotated[float, "Box actions: logarithm of the first deviation"] = 0.0


def policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_coef: Tensor) -> tuple[Tensor, Tensor]:
    """The clipped surrogate of each row, negated, and the log of the probability ratio (PPO paper, equation 7)."""
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_coef, 1.0 + clip_coef)
    return -torch.minimum(advantage * ratio, advantage * clipped), log_ratio


def value_loss(value: Tensor, old_value: Tensor, returns: Tensor, clip_coef: float | None) -> Tensor:
    """The squared error of each row; with a clip, the worse of the free and the clipped value's error."""
    loss = (value - returns).square()
    if clip_coef is not None:
        clipped = old_value + (value - old_value).clamp(-clip_coef, clip_coef)
        loss = torch.maximum(loss, (clipped - returns).square())
    return loss


class PPO:
    """The learner: advantages from the values seen while acting, then epochs of clipped minibatch updates."""

    Config = PPOConfig

    def __init__(self, config: PPOConfig, backbone: BackboneConfig, task: Task) -> None:
        self.config = config
        check_graphs(config.cuda_graphs, task.device)
        init_seed, act_seed, shuffle_seed = task.seed.spawn(3)
        space = task.observation_space
        share = config.share_backbone
        if not isinstance(task.action_space, gym.spaces.Box):
            refuse_unread(config, ("std", "log_std_init"), f"actions are a Box, and they are {task.action_space}")
        with initialisation(init_seed):
            self.network = ActorCritic(
                space,
                task.action_space,
                backbone,
                share_backbone=has_images(space) if share is None else share,
                normalize_obs=config.normalize_obs,
                std=config.std,
                log_std_init=config.log_std_init,
            ).to(task.device)
        compute_pictures_in(self.network, task.precision)
        remembers = bool(self.network.initial_state(1))
        self.step = GradientStep(
            self.network,
            self._loss,
            config.learning_rate,
            config.adam_eps,
            config.max_grad_norm,
            config.compile,
            draws_or_remembers=remembers,
            cuda_graphs=config.cuda_graphs,
        )
        self.policy = ActorCriticPolicy(
            self.network, task.action_space, torch_generator(act_seed, task.device), config.cuda_graphs
        )
        self.num_rows = config.num_steps
        self.segment_length = segment_length(config.segment_length, config.num_steps, remembers)
        self.state_period = self.segment_length
        self.reward_scaler = RewardScaler(task.num_envs, config.gamma) if config.normalize_reward else None
        self._shuffle = torch_generator(shuffle_seed, torch.device("cpu"))
        self._device = task.device
        self._total_steps, self._num_steps, self._num_updates = task.total_steps, 0, 0

    def update(self, segment: Segment) -> Metrics:
        config = self.config
        rows, metrics = self._prepare(segment.to(self._device))
        num_minibatches = max(1, rows.mask.numel() // config.batch_size)
        remaining = max(0.0, 1.0 - self._num_steps / self._total_steps)
        learning_rate = config.learning_rate * (remaining if config.anneal_learning_rate else 1.0)
        clip_coef = config.clip_coef * (remaining if config.anneal_clip else 1.0)
        self.step.learning_rate = learning_rate
        clip = torch.full((), clip_coef, device=self._device)  # a tensor: a compiled loss takes any value of it

        history: list[Tensor] = []
        for _ in range(config.num_epochs):
            for minibatch in shuffled(rows, num_minibatches, self._shuffle):
                history.append(self._learn(minibatch, clip))
                self._num_updates += 1
            # Looked at once an epoch, not once a minibatch: reading it waits for the device.
            if config.target_kl is not None and history[-1][KL].item() > 1.5 * config.target_kl:
                break
        if self.network.norm is not None:  # after the epochs: acting and learning saw the same statistics
            self.network.norm.update(map_obs(lambda x: x[:-1], segment.obs))
        self._num_steps += int(segment.valid.sum())
        return metrics | {
            **dict(zip(HISTORY, torch.stack(history).mean(0), strict=True)),
            "learning_rate": learning_rate,
            "clip_range": clip_coef,
            "n_updates": float(self._num_updates),
        }

    def _prepare(self, segment: Segment) -> tuple[Rows, Metrics]:
        """Values, advantages and returns of every row, cut into training segments."""
        config, length = self.config, self.segment_length
        rows = cut(segment, length)
        value, reward = self._values(rows, segment), segment.reward[:-1]
        if self.reward_scaler is not None:
            reward = self.reward_scaler(reward, segment.is_first)
        advantage = gae(
            reward,
            value,
            segment.terminated[:-1],
            segment.is_first,
            config.gamma,
            config.gae_lambda,
            segment.next_sign_played,
        )
        returns = advantage + value[:-1]
        targets = {"advantage": advantage, "returns": returns, "value": value[:-1]}
        rows.targets = {name: fold(x, length) for name, x in targets.items()}
        acted = self.network.policy_head.distribution({name: x[:-1] for name, x in segment.extras.items()})
        rows.targets["log_prob"] = fold(acted.log_prob(segment.action[:-1]), length)
        return rows, {"explained_variance": explained_variance(value[:-1], returns, segment.valid)}

    @torch.no_grad()
    def _values(self, rows: Rows, segment: Segment) -> Tensor:
        """`[T+1, B]`: values by the weights that acted, in one pass, which is cheaper than a value at each step."""
        parts, states = [], []
        for start in range(0, rows.num_segments, self.config.batch_size):
            part = rows.select(slice(start, start + self.config.batch_size))
            value, state = self.network.value(part.obs, part.state, part.is_first)
            parts.append(value)
            states.append(state)
        value = unfold(torch.cat(parts, 1), segment.num_columns)
        # The last training segments end where the bootstrap row begins.
        state = tuple(torch.cat(pieces)[-segment.num_columns :] for pieces in zip(*states, strict=True))
        last, _ = self.network.value(map_obs(lambda x: x[-1:], segment.obs), state, segment.is_first[-1:])
        return torch.cat([value, last])

    def _learn(self, rows: Rows, clip_coef: Tensor) -> Tensor:
        """One gradient step on a minibatch; returns the numbers named in `HISTORY`."""
        numbers, norm = self.step(
            rows.obs, rows.state, rows.is_first, rows.legal, rows.action, rows.mask, rows.targets, clip_coef
        )
        return torch.cat([numbers, norm.view(1)])

    def _loss(
        self,
        network: ActorCritic,
        obs: Obs,
        state: State,
        is_first: Tensor,
        legal: Tensor | None,
        action: Tensor,
        mask: Tensor,
        targets: dict[str, Tensor],
        clip_coef: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch `[S, N]`, and the numbers named in `HISTORY` up to it."""
        config = self.config
        # A weighted sum over rows is the mean over valid rows; where episodes are short, a minibatch may have none.
        weight = mask / mask.sum().clamp(min=1.0)
        advantage = targets["advantage"]
        if config.normalize_advantage:
            mean = (weight * advantage).sum()
            deviation = (weight * (advantage - mean).square()).sum().sqrt()
            advantage = (advantage - mean) / (deviation + 1e-8)

        distribution, value, _ = network(obs, state, is_first, legal)
        log_prob, entropy = distribution.log_prob(action), distribution.entropy()
        surrogate, log_ratio = policy_loss(log_prob, targets["log_prob"], advantage, clip_coef)
        squared = value_loss(value, targets["value"], targets["returns"], config.clip_value_coef)
        loss = (weight * (surrogate + config.vf_coef * squared - config.ent_coef * entropy)).sum()

        with torch.no_grad():
            drift = log_ratio.expm1()  # ratio - 1
            per_row = torch.stack([surrogate, squared, -entropy, drift - log_ratio, (drift.abs() > clip_coef).float()])
            return loss, torch.cat([(per_row * weight).flatten(1).sum(1), loss.view(1)])

    def state_dict(self, with_experience: bool = True) -> dict[str, Any]:
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.step.state_dict(),
            "num_steps": self._num_steps,
            "num_updates": self._num_updates,
            "act_generator": self.policy.generator.get_state(),
            "shuffle_generator": self._shuffle.get_state(),
        }
        if self.reward_scaler is not None:
            state["reward_scaler"] = self.reward_scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.step.load_state_dict(state["optimizer"])
        self._num_steps, self._num_updates = state["num_steps"], state["num_updates"]
        self.policy.generator.set_state(state["act_generator"])
        self._shuffle.set_state(state["shuffle_generator"])
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])


# What `_learn` returns, in order; tags as in Stable-Baselines3.
HISTORY = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction", "loss", "grad_norm")
KL = HISTORY.index("approx_kl")
