"""Proximal Policy Optimization (Schulman et al. 2017), on segments of any length.

T rows of a rollout, B environments, S rows of a training segment, N training segments (S = 1: transitions).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from triathlon.agents.actor_critic import ActorCritic, ActorCriticPolicy
from triathlon.agents.agent import Metrics
from triathlon.agents.cuda_graph import check_graphs
from triathlon.agents.gradient_step import GradientStep
from triathlon.agents.minibatches import Rows, cut, fold, segment_length, shuffled, unfold
from triathlon.agents.ppo_config import PPOConfig
from triathlon.agents.ppo_losses import policy_loss, search_loss, value_loss
from triathlon.agents.randomness import initialisation, restore_generator, torch_generator
from triathlon.agents.registry import Task
from triathlon.agents.returns import explained_variance, gae, vtrace
from triathlon.agents.reward_scaling import RewardScaler
from triathlon.agents.saved_statistics import refuse_other_statistics
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs, State, map_obs
from triathlon.networks.images import compute_pictures_in
from triathlon.networks.registry import BackboneConfig
from triathlon.networks.spaces import has_images


class PPO:
    """The learner: advantages from the values seen while acting, then epochs of clipped minibatch updates."""

    Config = PPOConfig

    def __init__(self, config: PPOConfig, backbone: BackboneConfig, task: Task) -> None:
        self.config = config
        check_graphs(config.cuda_graphs, task.device)
        self._ranks = ranks = task.ranks
        self._in_parts = ranks.size > 1 or config.accumulate > 1
        init_seed, *seeds = task.seed.spawn(3)
        act_seed, shuffle_seed = map(ranks.seed, seeds)
        space = task.observation_space
        share = config.share_backbone
        config.check(task)
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
            ranks=ranks,
        )
        self.policy = ActorCriticPolicy(
            self.network, task.action_space, torch_generator(act_seed, task.device), config.cuda_graphs
        )
        self.num_rows = config.num_steps
        self.segment_length = segment_length(config.segment_length, config.num_steps, remembers)
        self.state_period = self.segment_length
        self.reward_scaler = RewardScaler(task.num_envs, config.gamma, ranks) if config.normalize_reward else None
        self._shuffle = torch_generator(shuffle_seed, torch.device("cpu"))
        self._device = task.device
        self._total_steps, self._num_steps, self._num_updates = task.total_steps, 0, 0

    def update(self, segment: Segment) -> Metrics:
        config = self.config
        num_played = segment.num_steps  # counted, and rewards scaled, on the host, where that waits for nothing
        if self.reward_scaler is not None:
            segment = self.reward_scaler.scaled(segment)
        segment = segment.to(self._device)
        rows, metrics = self._prepare(segment)
        found = self._ranks.gather(rows.mask.numel(), rows.num_segments, num_played)
        num_rows, num_segments, num_steps = (list(map(int, of_each)) for of_each in found)
        num_minibatches = min(max(1, sum(num_rows) // config.batch_size), *num_segments)  # none is empty anywhere
        remaining = max(0.0, 1.0 - self._num_steps / self._total_steps)
        learning_rate = config.learning_rate * (remaining if config.anneal_learning_rate else 1.0)
        clip_coef = config.clip_coef * (remaining if config.anneal_clip else 1.0)
        self.step.learning_rate = learning_rate
        clip = torch.full((), clip_coef, device=self._device)  # a tensor: a compiled loss takes any value of it

        history: list[Tensor] = []
        for _ in range(config.num_epochs):
            minibatches = list(shuffled(rows, num_minibatches, self._shuffle))
            totals = self._totals(minibatches) if self._in_parts else [None] * len(minibatches)
            for minibatch, total in zip(minibatches, totals, strict=True):
                history.append(self._learn(minibatch, clip, total))
                self._num_updates += 1
            # Looked at once an epoch, not once a minibatch: reading it waits for the device.
            if config.target_kl is not None and self._sum(history[-1])[KL].item() > 1.5 * config.target_kl:
                break
        if self.network.norm is not None:  # after the epochs: acting and learning saw the same statistics
            self.network.norm.update(map_obs(lambda x: x[:-1], segment.obs), total=self._ranks.sum)
        self._num_steps += sum(num_steps)
        return metrics | {
            **dict(zip(HISTORY, self._sum(torch.stack(history)).mean(0), strict=True)),
            "learning_rate": learning_rate,
            "clip_range": clip_coef,
            "n_updates": float(self._num_updates),
        }

    def _prepare(self, segment: Segment) -> tuple[Rows, Metrics]:
        """Values, advantages and returns of every row, cut into training segments; rewards have been scaled.

        Where an older policy acted, `log_prob` is that of the policy of now, from which the epochs may move away as far
        as the clip lets them, and `rho` weights each row by how likely its action is now against then (the decoupled
        objective of Hilton et al. 2022, "Batch size-invariance for policy optimization", section 3, with the clipped
        weight of V-trace).
        """
        config, length, extras = self.config, self.segment_length, segment.extras
        rows = cut(segment, length)
        corrects = config.vtrace == "always" or (config.vtrace == "auto" and segment.lag > 0)
        value, log_prob = self._look_back(rows, segment, corrects)
        acted = self.network.policy_head.distribution({name: x[:-1] for name, x in extras.items()})
        acted_log_prob, known = acted.log_prob(segment.action[:-1]), value
        targets: dict[str, Tensor] = {"value": value[:-1]}
        metrics: Metrics = {}
        if SEARCH in extras:
            weight = extras["search_weight"]
            known = torch.where(weight > 0, extras["search_value"], value)  # who has looked ahead knows better
            targets |= {SEARCH: extras[SEARCH][:-1], "search_weight": weight[:-1]}
            metrics["search_loss"] = search_loss(acted, targets[SEARCH]).sum() / (weight[:-1] > 0).sum().clamp(min=1)
        reward, terminated = segment.reward[:-1], segment.terminated[:-1]
        experience = (reward, known, terminated, segment.is_first, config.gamma, config.gae_lambda)
        if log_prob is None:
            advantage = gae(*experience, segment.next_sign_played)
            targets |= {"advantage": advantage, "returns": advantage + known[:-1], "log_prob": acted_log_prob}
        else:
            ratio, clips = log_prob - acted_log_prob, (config.rho_clip, config.c_clip)
            found = vtrace(ratio, *experience, *clips, segment.next_sign_played)
            targets |= {"advantage": found.advantage, "returns": found.targets, "log_prob": log_prob, "rho": found.rho}
            total = self._ranks.sum
            metrics["vtrace_rho"] = total(found.rho.sum()) / total(segment.valid.sum()).clamp(min=1)
        rows.targets = {name: fold(x, length) for name, x in targets.items()}
        metrics["explained_variance"] = explained_variance(
            value[:-1], targets["returns"], segment.valid, self._ranks.sum
        )
        return rows, metrics

    @torch.no_grad()
    def _look_back(self, rows: Rows, segment: Segment, with_policy: bool) -> tuple[Tensor, Tensor | None]:
        """`[T+1, B]`: values by the weights of now, in one pass, which is cheaper than a value at each step.

        With the policy also `[T, B]`, the log-probability of now of each action.
        """
        values, log_probs, states = [], [], []
        # As many rows at once as a gradient is computed from: what fits there fits here.
        size = max(1, self.config.batch_size // (self.segment_length * self.config.accumulate))
        for start in range(0, rows.num_segments, size):
            part = rows.select(slice(start, start + size))
            if with_policy:
                distribution, value, state = self.network(part.obs, part.state, part.is_first, part.legal)
                log_probs.append(distribution.log_prob(part.action))
            else:
                value, state = self.network.value(part.obs, part.state, part.is_first)
            values.append(value)
            states.append(state)
        value = unfold(torch.cat(values, 1), segment.num_columns)
        # The last training segments end where the bootstrap row begins.
        state = tuple(torch.cat(pieces)[-segment.num_columns :] for pieces in zip(*states, strict=True))
        last, _ = self.network.value(map_obs(lambda x: x[-1:], segment.obs), state, segment.is_first[-1:])
        log_prob = unfold(torch.cat(log_probs, 1), segment.num_columns) if with_policy else None
        return torch.cat([value, last]), log_prob

    def _totals(self, minibatches: list[Rows]) -> list[Tensor]:
        """Of each minibatch, over all its parts: its rows, and mean and deviation of their advantages, `[3]`."""

        def summed(of_rows: Callable[[Rows, int], list[Tensor]]) -> Tensor:
            return self._ranks.sum(torch.stack([torch.stack(of_rows(m, i)) for i, m in enumerate(minibatches)]))

        def sums(m: Rows, i: int) -> list[Tensor]:
            trust = m.targets.get("rho", m.mask)
            return [m.mask.sum(), trust.sum(), (trust * m.targets["advantage"]).sum()]

        count, trust, total = summed(sums).unbind(1)
        trust = trust.clamp(min=LEAST_TRUST)
        mean = total / trust

        def squares(m: Rows, i: int) -> list[Tensor]:
            return [(m.targets.get("rho", m.mask) * (m.targets["advantage"] - mean[i]).square()).sum()]

        deviation = (summed(squares)[:, 0] / trust).sqrt()
        return list(torch.stack([count, mean, deviation], 1))

    def _learn(self, rows: Rows, clip_coef: Tensor, totals: Tensor | None) -> Tensor:
        """One gradient step on a minibatch; returns the numbers named in `HISTORY`, of parts to be summed."""

        def inputs(x: Rows) -> tuple[Any, ...]:
            return x.obs, x.state, x.is_first, x.legal, x.action, x.mask, x.targets, clip_coef, totals

        if totals is None:
            numbers, norm = self.step(*inputs(rows))
        else:
            num_parts = min(self.config.accumulate, rows.num_segments)
            cuts = pairwise(rows.num_segments * p // num_parts for p in range(num_parts + 1))
            found, norm = self.step.of_parts([inputs(rows.select(slice(*cut))) for cut in cuts])
            numbers = torch.stack(found).sum(0)
        return torch.cat([numbers, norm.view(1)])

    def _sum(self, numbers: Tensor) -> Tensor:
        """`[..., len(HISTORY)]` of all processes: the sums of what each has a part of; the norm is of all already."""
        return torch.cat([self._ranks.sum(numbers[..., :-1].clone()), numbers[..., -1:]], -1)

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
        totals: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch `[S, N]`, and the numbers named in `HISTORY` up to it.

        With the `totals` of a minibatch of which this is a part, the losses of the parts add up to its loss.
        """
        config = self.config
        # A weighted sum over rows is the mean over valid rows; where episodes are short, a minibatch may have none.
        weight = mask / (mask.sum() if totals is None else totals[0]).clamp(min=1.0)
        advantage, rho = targets["advantage"], targets.get("rho")
        if config.normalize_advantage:
            if totals is None:
                share = weight if rho is None else rho / rho.sum().clamp(min=LEAST_TRUST)
                mean = (share * advantage).sum()
                deviation = (share * (advantage - mean).square()).sum().sqrt()
            else:
                mean, deviation = totals[1], totals[2]
            advantage = (advantage - mean) / (deviation + 1e-8)

        distribution, value, _ = network(obs, state, is_first, legal)
        log_prob, entropy = distribution.log_prob(action), distribution.entropy()
        surrogate, log_ratio = policy_loss(log_prob, targets["log_prob"], advantage, clip_coef)
        if rho is not None:
            surrogate = rho * surrogate
        squared = value_loss(value, targets["value"], targets["returns"], config.clip_value_coef)
        losses = surrogate + config.vf_coef * squared - config.ent_coef * entropy
        if SEARCH in targets:
            losses = losses + targets["search_weight"] * search_loss(distribution, targets[SEARCH])
        loss = (weight * losses).sum()

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
        refuse_other_statistics(state, self.config.normalize_obs, self.config.normalize_reward)
        self.network.load_state_dict(state["network"])
        self.step.load_state_dict(state["optimizer"])
        self._num_steps, self._num_updates = state["num_steps"], state["num_updates"]
        if self._ranks.is_first:  # whose checkpoint it is; the others draw for themselves
            restore_generator(self.policy.generator, state["act_generator"])
            self._shuffle.set_state(state["shuffle_generator"])
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])


# What `_learn` returns, in order; tags as in Stable-Baselines3.
HISTORY = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction", "loss", "grad_norm")
KL = HISTORY.index("approx_kl")
LEAST_TRUST = 1e-8  # of the rows of a minibatch by V-trace, where none was played
SEARCH = "search_policy"  # in a segment's extras where rows were searched (`training/board/search_targets.py`)
