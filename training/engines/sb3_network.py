"""Our networks inside of Stable-Baselines3's policies, and weights that go there and back.

N observations, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from triathlon.agents.actor_critic import ActorCritic
from triathlon.agents.q_network import QNetwork
from triathlon.networks.backbone import Obs
from triathlon.networks.registry import BackboneConfig, make_backbone
from triathlon.training.engines.sb3_envs import leaves


class BackboneExtractor(BaseFeaturesExtractor):
    """One of our backbones as SB3's features extractor: flat `[N, n]` (a dict of these for a Dict) to `[N, D]`.

    `space` is the observation space before it was made flat. SB3 hands over floats; bytes and tokens become what they
    were before the backbone reads them.
    """

    def __init__(self, observation_space: gym.Space[Any], space: gym.Space[Any], config: BackboneConfig) -> None:
        backbone = make_backbone(config, space)
        super().__init__(observation_space, backbone.out_features)
        self.backbone = backbone
        self._leaves = [(path, leaf.shape or (), _torch_dtype(leaf)) for path, leaf in leaves(space)]

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        features, _ = self.backbone(self._shaped(observations))
        return features[0]

    def _shaped(self, observations: Tensor | dict[str, Tensor]) -> Obs:
        """`[1, N, *obs]`: the observations as a sequence of one row."""
        if isinstance(observations, Tensor):
            ((_, shape, dtype),) = self._leaves
            return observations.to(dtype).view(1, -1, *shape)
        obs: dict[str, Any] = {}
        for path, shape, dtype in self._leaves:
            place = obs
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = observations["/".join(path)].to(dtype).view(1, -1, *shape)
        return obs


def _torch_dtype(leaf: gym.Space[Any]) -> torch.dtype:
    dtype = torch.from_numpy(np.zeros(1, leaf.dtype)).dtype
    return torch.float32 if dtype is torch.float64 else dtype


def give_weights(network: nn.Module, policy: Any) -> None:
    """Copy the weights of our network into the SB3 policy that was made for it (its target network too)."""
    targets = [policy.q_net, policy.q_net_target] if isinstance(network, QNetwork) else [policy]
    for target in targets:
        _copy(_ours(network), _theirs(network, target))


def take_weights(network: nn.Module, policy: Any) -> None:
    """Copy the weights of the SB3 policy (of its online network) into our network."""
    _copy(_theirs(network, policy.q_net if isinstance(network, QNetwork) else policy), _ours(network))


@torch.no_grad()
def _copy(source: Iterator[Tensor], target: Iterator[Tensor]) -> None:
    for there, here in zip(source, target, strict=True):
        here.copy_(there)


def _ours(network: nn.Module) -> Iterator[Tensor]:
    """The tensors of our network, in an order that `_theirs` has too."""
    if isinstance(network, QNetwork):
        return chain(_tensors(network.backbone), _tensors(network.head))
    assert isinstance(network, ActorCritic)
    parts = [network.actor, *([] if network.critic is None else [network.critic]), network.value_head]
    return chain(*map(_tensors, parts), _tensors(network.policy_head))


def _theirs(network: nn.Module, policy: Any) -> Iterator[Tensor]:
    """The same tensors in an SB3 policy, or in one of the two Q-networks of one."""
    if isinstance(network, QNetwork):
        return chain(_tensors(policy.features_extractor), _tensors(policy.q_net))
    assert isinstance(network, ActorCritic)
    critic = [] if network.critic is None else [policy.vf_features_extractor]
    log_std = [policy.log_std] if hasattr(policy, "log_std") else []
    parts = [policy.pi_features_extractor, *critic, policy.value_net]
    return chain(*map(_tensors, parts), log_std, _tensors(policy.action_net))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, then what is saved of the buffers."""
    saved = module.state_dict(keep_vars=True)
    parameters = dict(module.named_parameters())
    return chain(parameters.values(), (x for name, x in saved.items() if name not in parameters))


__all__ = ["BackboneExtractor", "give_weights", "take_weights"]
