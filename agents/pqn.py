"""PQN, parallelised Q-learning without replay and target network (Gallici et al. 2025, "Simplifying Deep TD Learning").

T rows of a rollout, B environments, S rows of a training segment, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from triathlon.agents.agent import Metrics
from triathlon.agents.cuda_graph import check_graphs
from triathlon.agents.gradient_step import Compile, GradientStep
from triathlon.agents.joint_actions import JointActions
from triathlon.agents.minibatches import cut, fold, segment_length, shuffled
from triathlon.agents.q_losses import chosen
from triathlon.agents.q_network import EpsilonGreedyPolicy, QNetwork, epsilon_at
from triathlon.agents.randomness import initialisation, restore_generator, torch_generator
from triathlon.agents.registry import AgentConfig, Kind, Task
from triathlon.agents.returns import lambda_returns
from triathlon.agents.reward_scaling import RewardScaler
from triathlon.agents.saved_statistics import refuse_other_statistics
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs, State, map_obs
from triathlon.networks.errors import SettingError
from triathlon.networks.heads import QHeadConfig
from triathlon.networks.images import compute_pictures_in
from triathlon.networks.registry import BackboneConfig

Fraction = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class PQNConfig(AgentConfig):
    """Settings of PQN. It wants a backbone with layer_norm, which is what keeps it stable without a target network."""

    kind: Kind = "pqn"
    learning_rate: Annotated[float, Gt(0), "Adam's step size"] = 2.5e-4
    anneal_learning_rate: Annotated[bool, "bring the learning rate linearly to zero over the run"] = True
    adam_eps: Annotated[float, Gt(0), "Adam's epsilon"] = 1e-5
    num_steps: Annotated[int, Gt(0), "rows that each environment plays between two updates"] = 32
    num_epochs: Annotated[int, Gt(0), "passes over each rollout"] = 2
    batch_size: Annotated[int, Gt(0), "environment steps of a minibatch"] = 128
    gamma: Annotated[Fraction, "discount"] = 0.99
    q_lambda: Annotated[Fraction, "λ of the returns: 0 one step, 1 the whole rollout"] = 0.65
    max_grad_norm: Annotated[float, Gt(0), "the gradient is scaled down to this norm"] = 10.0
    initial_epsilon: Annotated[Fraction, "share of random actions at the start"] = 1.0
    final_epsilon: Annotated[Fraction, "share of random actions at the end of exploration"] = 0.05
    exploration_fraction: Annotated[Fraction, "share of the run over which epsilon falls linearly"] = 0.2
    segment_length: Annotated[
        int | None, Gt(0), "rows of back-propagation through time; null: 1 without a memory, else at most 16"
    ] = None
    dueling: Annotated[bool, "state value plus advantages (Wang et al. 2016)"] = False
    compile: Compile = False
    normalize_obs: Annotated[bool, "normalise vector observations by their running mean and deviation"] = False
    normalize_reward: Annotated[bool, "divide rewards by the running deviation of the return"] = False


class PQN:
    """The learner: Q(λ) targets from the rollout just played, then epochs of minibatch regression."""

    Config = PQNConfig

    def __init__(self, config: PQNConfig, backbone: BackboneConfig, task: Task) -> None:
        self.config = config
        check_graphs(config.cuda_graphs, task.device)
        if task.ranks.size > 1:
            raise SettingError(
                f"agent.kind: pqn learns in one process, and there are {task.ranks.size}; use ppo or dqn"
            )
        init_seed, act_seed, shuffle_seed = task.seed.spawn(3)
        actions = JointActions(task.action_space, "pqn")
        with initialisation(init_seed):
            self.network = QNetwork(
                task.observation_space,
                actions.num_actions,
                backbone,
                QHeadConfig(dueling=config.dueling),
                config.normalize_obs,
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
        self.policy = EpsilonGreedyPolicy(
            self.network, actions, torch_generator(act_seed, task.device), config.cuda_graphs
        )
        self.num_rows = config.num_steps
        self.segment_length = segment_length(config.segment_length, config.num_steps, remembers)
        self.state_period = self.segment_length
        self.reward_scaler = RewardScaler(task.num_envs, config.gamma) if config.normalize_reward else None
        self._actions, self._device = actions, task.device
        self._shuffle = torch_generator(shuffle_seed, torch.device("cpu"))
        self._total_steps, self._num_steps, self._num_updates = task.total_steps, 0, 0
        self._schedule()

    def update(self, segment: Segment) -> Metrics:
        config, num_played = self.config, segment.num_steps  # counted on the host, where that waits for nothing
        if self.reward_scaler is not None:
            segment = self.reward_scaler.scaled(segment)
        segment = segment.to(self._device)
        rows = cut(segment, self.segment_length)
        rows.targets = {"returns": fold(self._returns(segment), self.segment_length)}
        num_minibatches = max(1, rows.mask.numel() // config.batch_size)
        history: list[Tensor] = []
        for _ in range(config.num_epochs):
            for part in shuffled(rows, num_minibatches, self._shuffle):
                returns = part.targets["returns"]
                numbers = self.step(part.obs, part.state, part.is_first, part.action, part.mask, returns)
                history.append(torch.stack(numbers))
                self._num_updates += 1
        if self.network.norm is not None:
            self.network.norm.update(map_obs(lambda x: x[:-1], segment.obs))
        self._num_steps += num_played
        self._schedule()
        loss, norm = torch.stack(history).mean(0)
        return {
            "loss": loss,
            "grad_norm": norm,
            "returns": rows.targets["returns"],
            "rollout/exploration_rate": self.policy.epsilon,
            "learning_rate": self.step.learning_rate,
            "n_updates": float(self._num_updates),
        }

    @torch.no_grad()
    def _returns(self, segment: Segment) -> Tensor:
        """`[T, B]`: λ-returns that bootstrap from the network's own greatest legal Q-values (paper, section 4)."""
        state = tuple(s[0] for s in segment.state)
        features, _ = self.network.features(segment.obs, state, segment.is_first)
        legal = None if segment.legal is None else self._actions.legal(segment.legal)
        value = self.network.head.q_values(features, legal).amax(-1)
        terminated = segment.terminated[:-1]
        return lambda_returns(
            segment.reward[:-1],
            value[1:],
            terminated,
            segment.is_first,
            self.config.gamma,
            self.config.q_lambda,
            segment.next_sign_played,
        )

    def _loss(
        self, network: QNetwork, obs: Obs, state: State, is_first: Tensor, action: Tensor, mask: Tensor, returns: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Half the mean squared error of a minibatch `[S, N]`, also as the number to report."""
        error = chosen(network(obs, state, is_first), action) - returns
        loss = 0.5 * (mask * error.square()).sum() / mask.sum().clamp(min=1.0)
        return loss, loss.detach()

    def _schedule(self) -> None:
        """Exploration and learning rate as the steps so far want them."""
        config, progress = self.config, min(1.0, self._num_steps / self._total_steps)
        self.policy.epsilon = epsilon_at(progress, config)
        if config.anneal_learning_rate:
            self.step.learning_rate = config.learning_rate * (1.0 - progress)

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
        restore_generator(self.policy.generator, state["act_generator"])
        self._shuffle.set_state(state["shuffle_generator"])
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])
        self._schedule()
