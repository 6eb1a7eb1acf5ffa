"""A cloned policy that plays. T rows, B environments, D features."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space
from numpy.typing import NDArray
from torch import Tensor, nn

from triathlon.agents.actor_critic import as_played
from triathlon.agents.agent import Decision
from triathlon.agents.network_policy import NetworkPolicy
from triathlon.envs.make import EnvConfig, make_envs
from triathlon.networks.backbone import Obs, State
from triathlon.networks.distributions import ActionDistribution
from triathlon.networks.policy_heads import PolicyHead, StdKind, make_policy_head
from triathlon.training.errors import RunError
from triathlon.training.evaluate import JUDGING_SEED, Actor, evaluate
from triathlon.training.judging import JUDGING_ENVS
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.played.recorder import RandomPolicy


class ActionHead(nn.Module):
    """An agent's policy head as the head of a task: `features [T, B, D]` to a distribution over actions."""

    def __init__(self, action_space: Space[Any], in_features: int, std: StdKind) -> None:
        super().__init__()
        self.policy: PolicyHead = make_policy_head(action_space, in_features, std=std)

    def forward(
        self, features: Tensor, length: Tensor | None = None, generator: torch.Generator | None = None
    ) -> ActionDistribution:
        return self.policy(features)


class ClonedPolicy(NetworkPolicy):
    """Acts as an agent's policy does, with the network of a task."""

    network: Network

    def __init__(self, network: Network, action_space: Space[Any], generator: torch.Generator) -> None:
        super().__init__(network, generator)
        self._action_space = action_space

    def initial_state(self, batch_size: int) -> State:
        return self.network.backbone.initial_state(batch_size)

    @torch.inference_mode()
    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        obs, is_first, legal = self._as_rows(obs, is_first, legal)
        features, state = self.network.backbone(obs, state, is_first)
        assert isinstance(self.network.head, ActionHead)
        distribution = self.network.head.policy(features, legal)
        action = distribution.mode() if deterministic else distribution.sample(self.generator)
        return Decision(action[0], state)

    def env_action(self, action: NDArray[Any]) -> NDArray[Any]:
        return as_played(action, self._action_space)


def play(
    policy: Actor, env: EnvConfig, spaces_: tuple[Space[Any], Space[Any]], num_episodes: int, deterministic: bool
) -> float:
    """The mean return of `num_episodes` fresh episodes.

    Raises:
        RunError: the environment is not the one of these observation and action spaces.
    """
    envs = make_envs(env, min(num_episodes, JUDGING_ENVS))
    try:
        here = envs.single_observation_space, envs.single_action_space
        shapes = [(type(space), space.shape) for space in here]
        if shapes != [(type(space), space.shape) for space in spaces_]:
            raise RunError(f"{env.id} shows {here[0]} and takes {here[1]}, but the recording is of another environment")
        returns = evaluate(policy, envs, num_episodes, JUDGING_SEED, deterministic).returns
    finally:
        envs.close()
    return sum(returns) / len(returns)


def random_return(env: EnvConfig, spaces_: tuple[Space[Any], Space[Any]], num_episodes: int) -> float:
    """What random play gets in as many episodes."""
    return play(RandomPolicy(spaces_[1], JUDGING_SEED), env, spaces_, num_episodes, deterministic=False)


__all__ = ["ActionHead", "ClonedPolicy", "play", "random_return"]
