"""Our networks as RLlib's modules (new API stack), and RLlib's learners with our Adam.

RLlib's batches are `[B, …]`, or `[B, T, …]` where the network has a memory, whose state travels as `STATE_IN` and
`STATE_OUT`; rows never span episodes. Ours are `[T, B, …]`. A actions, D features.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from triathlon.agents.actor_critic import ActorCritic
from triathlon.agents.q_network import QNetwork
from triathlon.networks.backbone import Obs, State, map_obs
from triathlon.training.engines.rllib_envs import Hand

Batch = dict[str, Any]


def plain_copy(network: nn.Module) -> nn.Module:
    """A copy whose parameters do not share memory, as those of our learners do."""
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        parameter.data = parameter.data.clone()
    return other


class NetworkModule(TorchRLModule):
    """What both have: one of our networks, given as `model_config["network"]`, between RLlib's axes and ours."""

    network: Any
    model_config: Any

    def setup(self) -> None:
        self.network = plain_copy(self.model_config["network"])
        self._remembers = bool(self.network.initial_state(1))

    def get_initial_state(self) -> dict[str, Tensor]:
        """The memory of one environment by place; empty without."""
        return {str(i): part[0] for i, part in enumerate(self.network.initial_state(1))}

    def _rows(self, batch: Batch, obs: str = Columns.OBS, state: str = Columns.STATE_IN) -> tuple[Obs, State]:
        """`[T, B, *obs]` and the memory before the first row."""
        if not self._remembers:
            return map_obs(lambda x: x.unsqueeze(0), batch[obs]), ()
        before = batch[state]
        return map_obs(lambda x: x.transpose(0, 1), batch[obs]), tuple(before[str(i)] for i in range(len(before)))

    def _theirs(self, x: Tensor) -> Tensor:
        """`[T, B, …]` as RLlib has it."""
        return x.transpose(0, 1) if self._remembers else x[0]

    def _with_state(self, output: Batch, state: State) -> Batch:
        if self._remembers:
            output[Columns.STATE_OUT] = {str(i): part for i, part in enumerate(state)}
        return output


class PPOModule(NetworkModule, ValueFunctionAPI):
    """An `ActorCritic` of ours."""

    network: ActorCritic

    def setup(self) -> None:
        super().setup()
        self._split = len(self.network.actor.initial_state(1))  # the actor's tensors of the memory come first

    def _forward(self, batch: Batch, **kwargs: Any) -> Batch:
        network, (obs, state) = self.network, self._rows(batch)
        features, after = network.actor(obs, state[: self._split])
        if network.critic is not None:
            after = after + network.critic.advance(obs, state[self._split :])
        return self._with_state({Columns.ACTION_DIST_INPUTS: self._theirs(self._inputs(features))}, after)

    def _forward_train(self, batch: Batch, **kwargs: Any) -> Batch:
        network, (obs, state) = self.network, self._rows(batch)
        features, after = network.actor(obs, state[: self._split])
        output = {Columns.ACTION_DIST_INPUTS: self._theirs(self._inputs(features))}
        if network.critic is not None:
            features, critic_after = network.critic(obs, state[self._split :])
            after = after + critic_after
        output[Columns.EMBEDDINGS] = features
        return self._with_state(output, after)

    def compute_values(self, batch: Batch, embeddings: Tensor | None = None) -> Tensor:
        """`[B]` or `[B, T]`; `embeddings` are the features that `_forward_train` left for it."""
        if embeddings is None:
            obs, state = self._rows(batch)
            if self.network.critic is None:
                embeddings, _ = self.network.actor(obs, state)
            else:
                embeddings, _ = self.network.critic(obs, state[self._split :])
        return self._theirs(self.network.value_head(embeddings))

    def _inputs(self, features: Tensor) -> Tensor:
        """The parameters of the distribution in one row, as RLlib's classes split them."""
        head: Any = self.network.policy_head
        if not isinstance(self.action_space, gym.spaces.Box):
            inputs: Tensor = head.linear(features).float()
            return inputs
        gaussian = head(features).parameters()
        mean = gaussian["mean"]
        return torch.cat([mean, gaussian["log_std"].expand_as(mean)], -1)

    def get_train_action_dist_cls(self) -> Any:
        if isinstance(self.action_space, gym.spaces.Box):
            return TorchDiagGaussian
        if isinstance(self.action_space, gym.spaces.MultiDiscrete):
            multi: Any = TorchMultiCategorical
            return multi.get_partial_dist_cls(input_lens=[int(n) for n in self.action_space.nvec])
        return TorchCategorical

    get_exploration_action_dist_cls = get_train_action_dist_cls
    get_inference_action_dist_cls = get_train_action_dist_cls


class DQNModule(NetworkModule, InferenceOnlyAPI, TargetNetworkAPI, QNetAPI):
    """A `QNetwork` of ours and its target. Exploration is ours too: RLlib's own draws no action whose value is 0."""

    network: QNetwork
    target: Any

    def make_target_networks(self) -> None:
        self.target = make_target_network(self.network)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.network, self.target)]

    def get_non_inference_attributes(self) -> list[str]:
        return ["target"]

    def compute_q_values(self, batch: Batch) -> Batch:
        return self._values(self.network, *self._rows(batch))

    def forward_target(self, batch: Batch) -> Batch:
        return self._values(self.target, *self._rows(batch))

    def _values(self, network: QNetwork, obs: Obs, state: State) -> Batch:
        features, after = network.backbone(obs, state)
        return self._with_state({QF_PREDS: self._theirs(network.head.q_values(features))}, after)

    def _forward_inference(self, batch: Batch, **kwargs: Any) -> Batch:
        output = self.compute_q_values(batch)
        output[Columns.ACTIONS] = output.pop(QF_PREDS).argmax(-1)
        return output

    def _forward_exploration(self, batch: Batch, **kwargs: Any) -> Batch:
        output = self.compute_q_values(batch)
        values = output.pop(QF_PREDS)
        other = torch.randint(values.shape[-1], values.shape[:-1], device=values.device)
        explore = torch.rand(values.shape[:-1], device=values.device) < self._epsilon(Hand.num_steps())
        output[Columns.ACTIONS] = torch.where(explore, other, values.argmax(-1))
        return output

    def _epsilon(self, num_steps: int) -> float:
        """The share of random actions after so many environment steps."""
        first, last, until = self.model_config["epsilon"]
        return float(first + (min(1.0, num_steps / until) if until else 1.0) * (last - first))

    def _forward_train(self, batch: Batch, **kwargs: Any) -> Batch:
        ahead = self._rows(batch, Columns.NEXT_OBS, Columns.NEXT_STATE_IN)
        output = self.compute_q_values(batch)
        with torch.no_grad():
            output[QF_TARGET_NEXT_PREDS] = self._values(self.target, *ahead)[QF_PREDS]
            if self.model_config["double_q"]:
                output[QF_NEXT_PREDS] = self._values(self.network, *ahead)[QF_PREDS]
        return output


class OurAdam(TorchLearner):
    """RLlib's learners make an Adam with PyTorch's epsilon; ours is a setting."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        parameters = self.get_parameters(self.module[module_id])
        optimizer = torch.optim.Adam(parameters, eps=config.learner_config_dict["adam_eps"])
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=parameters, lr_or_lr_schedule=config.lr
        )


class PPOLearner(OurAdam, PPOTorchLearner):
    """RLlib's PPO."""


class DQNLearner(OurAdam, DQNTorchLearner):
    """RLlib's DQN."""


__all__ = ["DQNLearner", "DQNModule", "PPOLearner", "PPOModule"]
