"""The network and the policy of an agent that values actions.

T rows in time, B columns, A actions, D features.
"""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from triathlon.agents.agent import Decision
from triathlon.agents.joint_actions import JointActions
from triathlon.agents.network_policy import NetworkPolicy
from triathlon.agents.obs_norm import make_obs_norm
from triathlon.agents.returns import value_unscale
from triathlon.networks.backbone import Obs, State
from triathlon.networks.heads import QHeadConfig, Quantiles, make_q_head
from triathlon.networks.registry import BackboneConfig, make_backbone
from triathlon.networks.transfer import send

MAX_THRESHOLDS = 16  # of groups of columns that are acted in turn, while epsilon stays
PRIOR_TEMPERATURE = 0.1  # in returns: how far apart values are that count as clearly better to a search


class Exploration(Protocol):
    """How the share of random actions falls: linearly over the first `exploration_fraction` of a run."""

    @property
    def initial_epsilon(self) -> float: ...
    @property
    def final_epsilon(self) -> float: ...
    @property
    def exploration_fraction(self) -> float: ...


def epsilon_at(progress: float, config: Exploration) -> float:
    """The share of random actions when `progress` of the run, 0 to 1, is done."""
    explored = min(1.0, progress / config.exploration_fraction) if config.exploration_fraction else 1.0
    return config.initial_epsilon + explored * (config.final_epsilon - config.initial_epsilon)


class QNetwork(nn.Module):
    """A backbone with a head that values each action, by its expected return or by the distribution of it."""

    def __init__(
        self,
        observation_space: gym.Space[Any],
        num_actions: int,
        backbone: BackboneConfig,
        head: QHeadConfig,
        normalize_obs: bool,
    ) -> None:
        super().__init__()
        self.norm = make_obs_norm(observation_space, normalize_obs)
        self.backbone = make_backbone(backbone, observation_space if self.norm is None else self.norm.space)
        self.head = make_q_head(num_actions, self.backbone.out_features, head)

    def initial_state(self, batch_size: int) -> State:
        """The memory before the first observation."""
        return self.backbone.initial_state(batch_size)

    def features(self, obs: Obs, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """`obs [T, B, *obs]` to `features [T, B, D]` for the head, and the memory after the last row."""
        return self.backbone(obs if self.norm is None else self.norm(obs), state, is_first)

    def forward(
        self, obs: Obs, state: State, is_first: Tensor, generator: torch.Generator | None = None
    ) -> Tensor | Quantiles:
        """What the head says of `obs [T, B, *obs]`: `[T, B, A]` values, or the parameters of a distribution."""
        output: Tensor | Quantiles = self.head(self.features(obs, state, is_first)[0], generator)
        return output

    def advance(self, obs: Obs, state: State, is_first: Tensor) -> State:
        """The memory after these rows; free without a memory."""
        if not state:
            return state
        return self.backbone.advance(obs if self.norm is None else self.norm(obs), state, is_first)


class EpsilonGreedyPolicy(NetworkPolicy):
    """Takes the action of highest value, with probability `epsilon` any legal one. Noisy heads draw anew each row.

    With `epsilon_alpha` above 0 column i of N explores with probability `epsilon ** (1 + alpha * i / (N - 1))`, so that
    some hardly explore and some much (Ape-X: Horgan et al. 2018, section 4). With `gives_values` decisions carry the
    values of the action taken and of the best one, `q_taken` and `q_best [B]`, as the network has them: with
    `value_rescale` it has learned h(Q).
    """

    network: QNetwork

    def __init__(
        self,
        network: QNetwork,
        actions: JointActions,
        generator: torch.Generator,
        cuda_graphs: bool = False,
        epsilon_alpha: float = 0.0,
        gives_values: bool = False,
        value_rescale: bool = False,
    ) -> None:
        super().__init__(network, generator, cuda_graphs)
        self.actions = actions
        self.epsilon, self.epsilon_alpha, self._gives_values = 0.0, epsilon_alpha, gives_values
        self._value_rescale = value_rescale
        self._thresholds: dict[tuple[float, int, int, int], Tensor] = {}

    def initial_state(self, batch_size: int) -> State:
        return self.network.initial_state(batch_size)

    @torch.inference_mode()
    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        obs, is_first, legal = self._as_rows(obs, is_first, None if legal is None else self.actions.legal(legal))
        if deterministic:
            features, state = self.network.features(obs, state, is_first)
            head = self.network.head
            head.eval()
            action = head.q_values(features, legal).argmax(-1)
            head.train()
            return Decision(action[0], state)
        return Decision(*self._explore(obs, state, is_first, legal, self._epsilons(is_first.shape[1])))

    def epsilons(self) -> Tensor:
        """`[N]`: the probability of a random action in each of all N columns of the run."""
        num_columns = self.columns[1]
        share = torch.arange(num_columns) / max(1, num_columns - 1)
        return torch.full_like(share, self.epsilon) ** (1.0 + self.epsilon_alpha * share)

    def _epsilons(self, num_columns: int) -> Tensor | None:
        """Epsilon of the columns acted in, `[1, B]`, or one of all; None where nothing is explored."""
        if self.epsilon == 0.0:
            return None
        key = self.epsilon, *self.columns, num_columns
        if key not in self._thresholds:
            if len(self._thresholds) >= MAX_THRESHOLDS:
                self._thresholds.clear()
            # More columns than there are (an evaluation, say) go through all of theirs again.
            columns = (self.columns[0] + torch.arange(num_columns)) % self.columns[1]
            epsilon = self.epsilons()[columns].unsqueeze(0) if self.epsilon_alpha else torch.tensor(self.epsilon)
            self._thresholds[key] = send(epsilon, self._device)
        return self._thresholds[key]

    def _draw(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None, epsilon: Tensor | None
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        features, state = self.network.features(obs, state, is_first)
        head = self.network.head
        head.resample(self.generator)
        values = head.q_values(features, legal)
        action = values.argmax(-1)
        if epsilon is not None:
            action = self._mixed(action, legal, epsilon)
        if not self._gives_values:
            return action[0], state, {}
        taken = values.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        return action[0], state, {"q_taken": taken[0], "q_best": values.amax(-1)[0]}

    def _mixed(self, action: Tensor, legal: Tensor | None, epsilon: Tensor) -> Tensor:
        """Each action, or a random legal one with probability epsilon."""
        generator = self.generator
        explore = torch.rand(action.shape, generator=generator, device=self._device) < epsilon
        if legal is None:
            other = torch.randint(self.actions.num_actions, action.shape, generator=generator, device=self._device)
        else:
            lots = torch.rand(legal.shape, generator=generator, device=self._device)
            other = lots.masked_fill_(~legal, -1.0).argmax(-1)
        return torch.where(explore, other, action)

    @torch.inference_mode()
    def assess(self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[B, A]`, by a softmax of the returns of actions, and the greatest of these, `[B]`."""
        obs, is_first, legal = self._as_rows(obs, is_first, None if legal is None else self.actions.legal(legal))
        features, _ = self.network.features(obs, state, is_first)
        head = self.network.head
        head.eval()
        values = head.q_values(features, legal)[0]
        head.train()
        if self._value_rescale:
            values = value_unscale(values).where(values.isfinite(), values)  # illegal actions stay at -inf
        return torch.log_softmax(values / PRIOR_TEMPERATURE, -1), values.amax(-1)

    def env_action(self, action: np.ndarray) -> np.ndarray:
        return self.actions.to_env(action)

    def weights(self) -> Tensor:
        return torch.cat([super().weights(), torch.tensor([self.epsilon], device=self._device)])

    def load_weights(self, weights: Tensor) -> None:
        super().load_weights(weights[:-1])
        self.epsilon = float(weights[-1])

    def acting_state(self) -> dict[str, float]:
        return {"epsilon": self.epsilon}

    def load_acting_state(self, state: dict[str, float]) -> None:
        self.epsilon = state["epsilon"]
