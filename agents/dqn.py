"""Deep Q-networks (Mnih et al. 2015) with the parts of Rainbow, and recurrent replay (R2D2), each a setting.

T rows of new experience, B environments, W rows of a sample, L trained rows of it, N samples, A actions.
"""

from __future__ import annotations

import copy
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triathlon.agents.agent import Metrics
from triathlon.agents.cuda_graph import check_graphs
from triathlon.agents.dqn_config import DQNConfig
from triathlon.agents.gradient_step import GradientStep
from triathlon.agents.joint_actions import JointActions
from triathlon.agents.q_losses import chosen, q_goal, q_loss, rows_at
from triathlon.agents.q_network import EpsilonGreedyPolicy, QNetwork, epsilon_at
from triathlon.agents.randomness import initialisation, restore_generator, torch_generator
from triathlon.agents.registry import Task
from triathlon.agents.replay import Replay, Sample
from triathlon.agents.reward_scaling import RewardScaler
from triathlon.agents.saved_statistics import refuse_other_statistics
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs, State, map_obs
from triathlon.networks.distributions import allow_any_if_none
from triathlon.networks.errors import refuse_unread
from triathlon.networks.flat import FlatParameters
from triathlon.networks.images import compute_pictures_in
from triathlon.networks.registry import BackboneConfig
from triathlon.networks.transfer import send


class DQN:
    """The learner: keeps experience in a replay and pulls the online network towards bootstrap targets.

    Without a memory a sample is a transition; with one it is a sequence that begins with the stored memory state, whose
    first `burn_in` rows only bring that state up to date (R2D2: Kapturowski et al. 2019, section 2.3).
    """

    Config = DQNConfig

    def __init__(self, config: DQNConfig, backbone: BackboneConfig, task: Task) -> None:
        self.config = config
        check_graphs(config.cuda_graphs, task.device)
        self._ranks = ranks = task.ranks
        self._in_parts = ranks.size > 1 or config.accumulate > 1
        self._batch_size = ranks.share(config.batch_size, "agent.batch_size")
        init_seed, act_seed, replay_seed, learn_seed = task.seed.spawn(4)
        actions = JointActions(task.action_space, "dqn")
        config.check(task)
        with initialisation(init_seed):
            self.network = QNetwork(
                task.observation_space, actions.num_actions, backbone, config.head, config.normalize_obs
            ).to(task.device)
        compute_pictures_in(self.network, task.precision)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self._flat_target = FlatParameters(self.target)
        remembers = bool(self.network.initial_state(1))
        self.step = GradientStep(
            self.network,
            self._loss,
            config.learning_rate,
            config.adam_eps,
            config.max_grad_norm,
            config.compile,
            draws_or_remembers=remembers or config.head.kind == "iqn",
            cuda_graphs=config.cuda_graphs,
            ranks=ranks,
        )
        act_generator = torch_generator(ranks.seed(act_seed), task.device)
        self.policy = EpsilonGreedyPolicy(
            self.network,
            actions,
            act_generator,
            config.cuda_graphs,
            config.epsilon_alpha,
            gives_values=config.values_seen,
            value_rescale=config.value_rescale,
        )
        self.policy.set_columns(ranks.rank * task.num_envs, ranks.size * task.num_envs)
        self._actions, self._device = actions, task.device
        self._generator = torch_generator(learn_seed, task.device)
        self._taus = self._generator if config.head.kind == "iqn" else None  # the others draw nothing

        self.length = config.segment_length or (16 if remembers else 1)
        self.burn_in = (8 if remembers else 0) if config.burn_in is None else config.burn_in
        if not remembers and self.burn_in:
            refuse_unread(config, ("burn_in",), "the backbone has a memory")
        if self.length == 1:
            refuse_unread(config, ("priority_eta",), "a sample has several trained rows (agent.segment_length)")
        self.reward_scaler = RewardScaler(task.num_envs, config.gamma, ranks) if config.normalize_reward else None
        self.replay = Replay(
            ranks.share(config.buffer_size, "agent.buffer_size"),
            config.gamma,
            n_step=config.n_step,
            length=self.length,
            burn_in=self.burn_in,
            prioritized=config.prioritized,
            priority_exponent=config.priority_exponent,
            priority_eta=config.priority_eta,
            values_seen=config.values_seen,
            value_rescale=config.value_rescale,
            contiguous=remembers or self.length > 1 or self.burn_in > 0,
            frame_stack=task.frame_stack,
            compress=config.compress_replay,
            picture_device=config.picture_device(task.device),
            only_if_they_fit=config.replay_device == "auto",
            scale_reward=self.reward_scaler.scale if self.reward_scaler else None,
            generator=np.random.default_rng(ranks.seed(replay_seed)),
        )
        # Stored memory states are where samples begin; half a segment apart, as in R2D2, samples overlap by half.
        self.state_period = max(1, self.length // 2) if remembers else 1
        rows = -(-config.train_period // (task.num_envs * ranks.size))
        self.num_rows = -(-rows // self.state_period) * self.state_period
        # A sample and the start of the next.
        sample = self.burn_in + self.length + config.n_step + self.state_period - 2 + self.replay.values_seen
        config.check_buffer_size(sample, self.num_rows, task.num_envs * ranks.size)
        # Targets of several updates can be computed together where neither the target network, nor the network that
        # chooses the action, nor the priorities change between them.
        together = (
            config.tau == 1.0
            and not config.double
            and not config.prioritized
            and not config.head.noisy
            and not remembers
        )
        self._max_updates_at_once = 16 if together else 1
        self._total_steps = task.total_steps
        self._num_steps = self._num_updates = 0
        self._learns_from = config.learning_starts
        self._owed = 0.0  # updates that the steps so far have earned
        self._next_target_update = config.target_period
        self._schedule()

    def update(self, segment: Segment) -> Metrics:
        config = self.config
        self._remember(segment)
        # Every process counts the steps of all: schedules, and how many updates there are, are the same everywhere.
        of_each, num_sampleable = self._ranks.gather(segment.num_steps, self.replay.num_sampleable)
        num_new = int(sum(of_each))
        self._num_steps += num_new
        self._schedule()
        if self._num_steps < self._learns_from or not min(num_sampleable):
            return {"rollout/exploration_rate": self._exploration_rate()}
        self._owed += num_new * config.gradient_steps / config.train_period
        metrics: Metrics = {}
        while self._owed >= 1.0:
            num_updates = min(int(self._owed), self._max_updates_at_once)
            self._owed -= num_updates
            metrics = self._learn(self.replay.sample(num_updates * self._batch_size, self._beta()))
        if config.tau == 1.0 and self._num_steps >= self._next_target_update:
            self._next_target_update = self._num_steps + config.target_period
            self._flat_target.load(self.step.flat.data)
        return metrics | {"rollout/exploration_rate": self._exploration_rate(), "n_updates": float(self._num_updates)}

    def _remember(self, segment: Segment) -> None:
        if self.network.norm is not None:
            assert self.target.norm is not None
            self.network.norm.update(map_obs(lambda x: send(x[:-1], self._device), segment.obs), total=self._ranks.sum)
            self.target.norm.load_state_dict(self.network.norm.state_dict())
        if self.reward_scaler is not None:
            self.reward_scaler.take_in(segment.reward[:-1], segment.is_first)
        self.replay.add(segment)

    def _schedule(self) -> None:
        """Exploration and learning rate as the steps so far want them."""
        config, progress = self.config, min(1.0, self._num_steps / self._total_steps)
        self.policy.epsilon = epsilon_at(progress, config)
        if config.anneal_learning_rate:
            self.step.learning_rate = config.learning_rate * (1.0 - progress)

    def _exploration_rate(self) -> float:
        """The share of random actions over all environments."""
        return float(self.policy.epsilons().mean()) if self.config.epsilon_alpha else self.policy.epsilon

    def _beta(self) -> float:
        progress = min(1.0, self._num_steps / self._total_steps)
        return self.config.priority_beta + progress * (1.0 - self.config.priority_beta)

    def _learn(self, drawn: Sample) -> Metrics:
        """Gradient steps on samples drawn together, the goals of all of them computed in one pass."""
        config, network, size = self.config, self.network, self._batch_size
        index, mask, drawn = drawn.index, drawn.mask, drawn.to(self._device)
        num_updates = len(index) // size
        network.head.resample(self._generator)
        self.target.head.resample(self._generator)
        segment, (state, goal) = drawn.segment, self._look_ahead(drawn)
        # A weighted sum over rows is the mean over samples (of all processes) of the mean over a sample's valid rows.
        weights = drawn.weights * drawn.mask / (drawn.mask.sum(0).clamp(min=1) * config.batch_size)
        rows = slice(self.burn_in, self.burn_in + self.length)

        def deal(x: Tensor) -> Tensor:  # [L, updates * N, …] to [updates, L, N, …]
            parts = x.unflatten(1, (num_updates, size)).transpose(0, 1)
            joined: Tensor = parts.reshape(-1, *parts.shape[2:])
            return joined.view(parts.shape)  # the same strides whatever is drawn together, so one compiled step serves

        obs = map_obs(lambda x: deal(x[rows]), segment.obs)
        is_first, action, goal, weights = map(deal, (segment.is_first[rows], segment.action[rows], goal, weights))
        for i in range(num_updates):
            loss, numbers, norm = self._step(
                map_obs(partial(torch.select, dim=0, index=i), obs),
                tuple(s[i * size : (i + 1) * size] for s in state),
                is_first[i],
                action[i],
                goal[i],
                weights[i],
            )
            if config.tau < 1.0:
                self._flat_target.data.lerp_(self.step.flat.data, config.tau)
        self._num_updates += num_updates
        td_error, q_values = numbers
        if config.prioritized:
            self.replay.update_priorities(index, td_error.cpu(), mask)
        return {
            "loss": self._ranks.sum(loss.clone()),
            "grad_norm": norm,
            "td_error": td_error,
            "q_values": q_values,
            "learning_rate": self.step.learning_rate,
        }

    def _step(self, obs: Obs, state: State, *per_row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A gradient step: the loss, the rows' TD errors and Q-values `[2, L, N]`, and the gradient's norm."""
        if not self._in_parts:
            numbers, norm = self.step(obs, state, *per_row)
            return numbers[0], numbers[1:].view(2, self.length, -1), norm
        size = self._batch_size
        num_parts = min(self.config.accumulate, size)

        def part(start: int, stop: int) -> tuple[Any, ...]:
            def take(x: Tensor) -> Tensor:
                return x[:, start:stop]

            return map_obs(take, obs), tuple(s[start:stop] for s in state), *map(take, per_row)

        cuts = pairwise(size * p // num_parts for p in range(num_parts + 1))
        found, norm = self.step.of_parts([part(*cut) for cut in cuts])
        parts = [numbers[1:].view(2, self.length, -1) for numbers in found]
        return torch.stack([numbers[0] for numbers in found]).sum(), torch.cat(parts, -1), norm

    def _loss(
        self, network: QNetwork, obs: Obs, state: State, is_first: Tensor, action: Tensor, goal: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch `[L, N]`; to report: it, and each row's TD error and Q-value of the action taken."""
        output = network(obs, state, is_first, self._taus)
        losses, td_error = q_loss(self.network.head, output, action, goal, self.config.loss == "huber")
        loss = (losses * weights).sum()
        with torch.no_grad():
            q_values = chosen(self.network.head.expectation(output), action)
            return loss, torch.cat([loss.view(1), td_error.flatten(), q_values.flatten()])

    @torch.no_grad()
    def _look_ahead(self, drawn: Sample) -> tuple[State, Tensor]:
        """The online network's memory after the burn-in, and the goals; of no more samples at once than fit."""
        # With parts, as many as a gradient is computed from: what fits there fits here.
        size = drawn.num_samples if self.config.accumulate == 1 else -(-self._batch_size // self.config.accumulate)
        found = []
        for sample in drawn.split(size):
            state, seen = sample.state, sample.segment
            if self.burn_in:
                obs = map_obs(lambda x: x[: self.burn_in], seen.obs)
                state = self.network.advance(obs, state, seen.is_first[: self.burn_in])
            found.append((state, self._goal(sample, state)))
        if len(found) == 1:
            return found[0]
        states, goals = zip(*found, strict=True)
        return tuple(map(torch.cat, zip(*states, strict=True))), torch.cat(goals, 1)

    @torch.no_grad()
    def _goal(self, sample: Sample, state: State) -> Tensor:
        """What the trained rows are pulled to; the rows to bootstrap from all follow the first trained row.

        `state` is the online network's memory before that row, to which the target network finds its own way.
        """
        segment, first = sample.segment, self.burn_in + 1
        ahead, index = map_obs(lambda x: x[first:], segment.obs), sample.bootstrap - first

        def features(network: QNetwork, state: State, start: int) -> Tensor:
            seen = map_obs(lambda x: x[start:first], segment.obs)
            state = network.advance(seen, state, segment.is_first[start:first])
            return rows_at(network.features(ahead, state, segment.is_first[first:])[0], index)

        head = self.target.head
        output = head(features(self.target, sample.state, 0), self._taus)
        if self.config.double:
            chooser = self.network.head.q_values(features(self.network, state, self.burn_in))
        else:
            chooser = head.expectation(output)
        if segment.legal is not None:
            legal = rows_at(self._actions.legal(segment.legal[first:]), index)
            chooser = chooser.masked_fill(~allow_any_if_none(legal), -torch.inf)
        return q_goal(head, output, chooser.argmax(-1), sample.returns, sample.discount, self.config.value_rescale)

    def state_dict(self, with_experience: bool = True) -> dict[str, Any]:
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.step.state_dict(),
            "num_steps": self._num_steps,
            "num_updates": self._num_updates,
            "learns_from": self._learns_from,
            "owed": self._owed,
            "next_target_update": self._next_target_update,
            "act_generator": self.policy.generator.get_state(),
            "learn_generator": self._generator.get_state(),
        }
        if self.reward_scaler is not None:
            state["reward_scaler"] = self.reward_scaler.state_dict()
        if with_experience:
            state["replay"] = self.replay.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        refuse_other_statistics(state, self.config.normalize_obs, self.config.normalize_reward)
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.step.load_state_dict(state["optimizer"])
        self._num_steps, self._num_updates = state["num_steps"], state["num_updates"]
        self._owed, self._next_target_update = state["owed"], state["next_target_update"]
        # A replay that was not saved is filled anew before anything is learned from it.
        starts_later = self._num_steps + self.config.learning_starts if "replay" not in state else 0
        self._learns_from = max(state.get("learns_from", self.config.learning_starts), starts_later)
        if self._ranks.is_first:  # whose checkpoint it is; the others draw for themselves
            restore_generator(self.policy.generator, state["act_generator"])
        restore_generator(self._generator, state["learn_generator"])
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])
        if "replay" in state:
            drawing = self.replay.generator.bit_generator.state
            self.replay.load_state_dict(state["replay"])
            if not self._ranks.is_first:
                self.replay.generator.bit_generator.state = drawing
        self._schedule()
