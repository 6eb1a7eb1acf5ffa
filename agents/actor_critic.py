"""The network and the policy of an actor-critic agent.

T rows in time, B columns, A actions.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from triathlon.agents.agent import Decision
from triathlon.agents.network_policy import NetworkPolicy
from triathlon.agents.obs_norm import make_obs_norm
from triathlon.networks.backbone import Obs, State
from triathlon.networks.distributions import ActionDistribution, Categorical
from triathlon.networks.errors import SettingError
from triathlon.networks.heads import ValueHead
from triathlon.networks.policy_heads import StdKind, make_policy_head
from triathlon.networks.registry import BackboneConfig, make_backbone


class ActorCritic(nn.Module):
    """A policy and a value on one backbone, or on one backbone each.

    The memory of both backbones travels as one tuple, the actor's tensors first.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        backbone: BackboneConfig,
        share_backbone: bool,
        normalize_obs: bool,
        std: StdKind,
        log_std_init: float,
    ) -> None:
        super().__init__()
        self.norm = make_obs_norm(observation_space, normalize_obs)
        seen = observation_space if self.norm is None else self.norm.space
        self.actor = make_backbone(backbone, seen)
        self.critic = None if share_backbone else make_backbone(backbone, seen)
        self.policy_head = make_policy_head(action_space, self.actor.out_features, std=std, log_std_init=log_std_init)
        self.value_head = ValueHead((self.critic or self.actor).out_features)
        self._num_actor_states = len(self.actor.initial_state(1))

    def initial_state(self, batch_size: int) -> State:
        """The memory of both backbones before the first observation."""
        state = self.actor.initial_state(batch_size)
        return state if self.critic is None else state + self.critic.initial_state(batch_size)

    def forward(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None
    ) -> tuple[ActionDistribution, Tensor, State]:
        """`obs [T, B, *obs]` to the distribution over actions, `value [T, B]` and the memory after the last row."""
        if self.norm is not None:
            obs = self.norm(obs)
        split = self._num_actor_states
        features, after = self.actor(obs, state[:split], is_first)
        distribution = self.policy_head(features, legal)
        if self.critic is not None:
            features, critic_after = self.critic(obs, state[split:], is_first)
            after = after + critic_after
        return distribution, self.value_head(features), after

    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None
    ) -> tuple[ActionDistribution, State]:
        """As `forward`, without the value; a critic of its own only has its memory moved, if it has one."""
        if self.norm is not None:
            obs = self.norm(obs)
        split = self._num_actor_states
        features, after = self.actor(obs, state[:split], is_first)
        if self.critic is not None and len(state) > split:
            after = after + self.critic.advance(obs, state[split:], is_first)
        return self.policy_head(features, legal), after

    def value(self, obs: Obs, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """As `forward`, without the policy: `value [T, B]`; an actor of its own only has its memory moved."""
        if self.norm is not None:
            obs = self.norm(obs)
        split = self._num_actor_states
        if self.critic is None:
            features, after = self.actor(obs, state, is_first)
            return self.value_head(features), after
        features, after = self.critic(obs, state[split:], is_first)
        if split:
            after = self.actor.advance(obs, state[:split], is_first) + after
        return self.value_head(features), after


class ActorCriticPolicy(NetworkPolicy):
    """Acts with an `ActorCritic`: samples, or takes the mode when asked to be deterministic."""

    network: ActorCritic

    def __init__(
        self,
        network: ActorCritic,
        action_space: gym.Space[Any],
        generator: torch.Generator,
        cuda_graphs: bool = False,
    ) -> None:
        super().__init__(network, generator, cuda_graphs)
        self._action_space = action_space

    def initial_state(self, batch_size: int) -> State:
        return self.network.initial_state(batch_size)

    @torch.inference_mode()
    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        obs, is_first, legal = self._as_rows(obs, is_first, legal)
        if deterministic:
            distribution, state = self.network.act(obs, state, is_first, legal)
            return Decision(distribution.mode()[0], state)
        return Decision(*self._explore(obs, state, is_first, legal))

    def _draw(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        distribution, state = self.network.act(obs, state, is_first, legal)
        # The learner makes log-probabilities of them, of all rows at once: cheaper than here, row by row.
        extras = {name: parameter[0] for name, parameter in distribution.parameters().items()}
        return distribution.sample(self.generator)[0], state, extras

    @torch.inference_mode()
    def assess(self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[B, A]` and values `[B]`.

        Raises:
            SettingError: the actions are not one choice out of A.
        """
        obs, is_first, legal = self._as_rows(obs, is_first, legal)
        distribution, value, _ = self.network(obs, state, is_first, legal)
        if not isinstance(distribution, Categorical):
            raise SettingError(
                f"single actions are assessed of a Discrete action space, and this policy's is {self._action_space}"
            )
        return distribution.log_probs[0], value[0]

    def env_action(self, action: np.ndarray) -> np.ndarray:
        return as_played(action, self._action_space)


def as_played(action: np.ndarray, space: gym.Space[Any]) -> np.ndarray:
    """Actions `[B, ...]` of a policy head's distribution as an environment of this action space wants them."""
    if isinstance(space, gym.spaces.Box):  # a Gaussian knows no bounds and no whole numbers
        if not np.issubdtype(space.dtype, np.floating):
            action = np.rint(action)
        clipped: np.ndarray = np.clip(action, space.low, space.high).astype(space.dtype, copy=False)
        return clipped
    start = getattr(space, "start", None)  # Discrete and MultiDiscrete may count from elsewhere than 0
    played: np.ndarray = action.astype(space.dtype) if start is None else action + start
    return played
