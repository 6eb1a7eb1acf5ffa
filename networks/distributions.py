"""Policy heads: features to a distribution over actions. Not torch.distributions, whose checks cost more than acting.

A actions, D features, n numbers of an action; `...` any leading axes, `[B]` or `[T, B]`. Actions of discrete spaces
count from 0, whatever the space's `start`. `legal` is True where an action may be taken; a row in which nothing may be
is read as a row in which everything may.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from triathlon.networks.errors import SettingError, nearest
from triathlon.networks.initialization import POLICY_GAIN, orthogonal

StdKind = Literal["free", "state"]
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def allow_any_if_none(legal: Tensor) -> Tensor:
    """`legal [..., A]` with rows in which nothing is legal turned into rows in which everything is."""
    return legal | ~legal.any(-1, keepdim=True)


def mask_logits(logits: Tensor, legal: Tensor) -> Tensor:
    """Illegal entries of `logits [..., A]` become the lowest finite float.

    It is not -inf because `0 · -inf` is NaN in an entropy and in its gradient; the softmax of either is exactly 0.
    """
    return torch.where(allow_any_if_none(legal), logits, torch.finfo(logits.dtype).min)


class ActionDistribution:
    """What a policy head gives: one distribution per leading index."""

    def sample(self, generator: Generator | None = None) -> Tensor:
        """An action, drawn with `generator`, without gradient."""
        raise NotImplementedError

    def mode(self) -> Tensor:
        """The most probable action."""
        raise NotImplementedError

    def log_prob(self, action: Tensor) -> Tensor:
        """`[...]`: log-probability (density, for a Box) of `action`."""
        raise NotImplementedError

    def entropy(self) -> Tensor:
        """`[...]`: entropy in nats."""
        raise NotImplementedError

    def sample_with_log_prob(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """An action and its log-probability."""
        action = self.sample(generator)
        return action, self.log_prob(action)


class Categorical(ActionDistribution):
    """One choice out of A. `logits [..., A]`, `legal [..., A]` bool; actions `[...]` int64."""

    __slots__ = ("log_probs",)

    def __init__(self, logits: Tensor, legal: Tensor | None = None) -> None:
        if legal is not None:
            logits = mask_logits(logits, legal)
        self.log_probs = F.log_softmax(logits, -1)

    def sample(self, generator: Generator | None = None) -> Tensor:
        # The exponential race: argmin of E_i / p_i over independent E_i ~ Exp(1) falls on i with probability p_i.
        log_probs = self.log_probs.detach()
        race = torch.empty_like(log_probs).exponential_(generator=generator)
        return (log_probs - race.log_()).argmax(-1)

    def mode(self) -> Tensor:
        return self.log_probs.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


class MultiCategorical(ActionDistribution):
    """n independent choices. `logits [..., n, K]`, padded to the largest choice; actions `[..., *shape]` int64."""

    __slots__ = ("choices", "shape")

    def __init__(self, logits: Tensor, legal: Tensor, shape: tuple[int, ...]) -> None:
        self.choices = Categorical(logits, legal)
        self.shape = shape

    def sample(self, generator: Generator | None = None) -> Tensor:
        return _shaped(self.choices.sample(generator), self.shape)

    def mode(self) -> Tensor:
        return _shaped(self.choices.mode(), self.shape)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.choices.log_prob(_flat(action, self.shape)).sum(-1)

    def entropy(self) -> Tensor:
        return self.choices.entropy().sum(-1)


class Bernoulli(ActionDistribution):
    """n independent bits. `logits [..., n]` of a 1, `legal [..., n]`: may it be 1; actions `[..., *shape]` int64."""

    __slots__ = ("logits", "shape")

    def __init__(self, logits: Tensor, legal: Tensor | None, shape: tuple[int, ...]) -> None:
        self.logits = logits if legal is None else torch.where(legal, logits, torch.finfo(logits.dtype).min)
        self.shape = shape

    def sample(self, generator: Generator | None = None) -> Tensor:
        probs = torch.sigmoid(self.logits.detach())
        drawn = torch.empty_like(probs).uniform_(generator=generator) < probs
        return _shaped(drawn.long(), self.shape)

    def mode(self) -> Tensor:
        return _shaped((self.logits > 0).long(), self.shape)

    def log_prob(self, action: Tensor) -> Tensor:
        bits = _flat(action, self.shape).to(self.logits.dtype)
        return -F.binary_cross_entropy_with_logits(self.logits, bits, reduction="none").sum(-1)

    def entropy(self) -> Tensor:
        probs = torch.sigmoid(self.logits)
        return F.binary_cross_entropy_with_logits(self.logits, probs, reduction="none").sum(-1)


class DiagonalGaussian(ActionDistribution):
    """n independent normals. `mean [..., n]`, `log_std [n]` or `[..., n]`; actions `[..., *shape]`, not clipped."""

    __slots__ = ("log_std", "mean", "shape")

    def __init__(self, mean: Tensor, log_std: Tensor, shape: tuple[int, ...]) -> None:
        self.mean = mean
        self.log_std = log_std
        self.shape = shape

    def sample(self, generator: Generator | None = None) -> Tensor:
        mean = self.mean.detach()
        noise = torch.empty_like(mean).normal_(generator=generator)
        return _shaped(torch.addcmul(mean, noise, self.log_std.detach().exp()), self.shape)

    def mode(self) -> Tensor:
        return _shaped(self.mean, self.shape)

    def log_prob(self, action: Tensor) -> Tensor:
        z = (_flat(action, self.shape) - self.mean) * torch.exp(-self.log_std)
        return -(0.5 * z * z + self.log_std).sum(-1) - self.mean.shape[-1] * HALF_LOG_TWO_PI

    def entropy(self) -> Tensor:
        entropy = self.log_std.sum(-1) + self.mean.shape[-1] * (0.5 + HALF_LOG_TWO_PI)
        return entropy.expand(self.mean.shape[:-1])


def _shaped(numbers: Tensor, shape: tuple[int, ...]) -> Tensor:
    return numbers if len(shape) == 1 else numbers.reshape(*numbers.shape[:-1], *shape)


def _flat(action: Tensor, shape: tuple[int, ...]) -> Tensor:
    return action if len(shape) == 1 else action.reshape(*action.shape[: action.dim() - len(shape)], -1)


class PolicyHead(nn.Module):
    """`head(features [..., D], legal=None) -> ActionDistribution`; made by `make_policy_head`."""

    __call__: Callable[..., ActionDistribution]


class DiscretePolicyHead(PolicyHead):
    """Discrete actions: `legal [..., A]`."""

    def __init__(self, space: spaces.Discrete[Any], in_features: int, init_gain: float) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(in_features, int(space.n)), init_gain)

    def forward(self, features: Tensor, legal: Tensor | None = None) -> Categorical:
        linear = self.linear
        return Categorical(F.linear(features, linear.weight, linear.bias).float(), legal)


class MultiDiscretePolicyHead(PolicyHead):
    """MultiDiscrete actions: `legal [..., sum(nvec)]`, the choices one behind the other."""

    index: Tensor
    exists: Tensor

    def __init__(self, space: spaces.MultiDiscrete, in_features: int, init_gain: float) -> None:
        super().__init__()
        nvec = torch.as_tensor(space.nvec.reshape(-1), dtype=torch.long)
        self.shape = tuple(space.nvec.shape)
        self.linear = orthogonal(nn.Linear(in_features, int(nvec.sum())), init_gain)
        # All choices as one [n, K] table, so that one softmax serves them all; where a choice has fewer, it is padded.
        column = torch.arange(int(nvec.max()))
        exists = column < nvec[:, None]
        index = torch.where(exists, (nvec.cumsum(0) - nvec)[:, None] + column, 0)
        self.register_buffer("exists", exists, persistent=False)
        self.register_buffer("index", index, persistent=False)

    def forward(self, features: Tensor, legal: Tensor | None = None) -> MultiCategorical:
        logits = self.linear(features).float()[..., self.index]
        if legal is None:
            return MultiCategorical(logits, self.exists, self.shape)
        allowed = legal[..., self.index] & self.exists
        allowed = allowed | (~allowed.any(-1, keepdim=True) & self.exists)
        return MultiCategorical(logits, allowed, self.shape)


class MultiBinaryPolicyHead(PolicyHead):
    """MultiBinary actions: `legal [..., n]`, where a bit may be 1."""

    def __init__(self, space: spaces.MultiBinary, in_features: int, init_gain: float) -> None:
        super().__init__()
        self.shape = tuple(space.shape)
        self.linear = orthogonal(nn.Linear(in_features, int(np.prod(self.shape))), init_gain)

    def forward(self, features: Tensor, legal: Tensor | None = None) -> Bernoulli:
        return Bernoulli(self.linear(features).float(), legal, self.shape)


class BoxPolicyHead(PolicyHead):
    """Box actions: a diagonal Gaussian around what the features say; whoever plays the action clips it to the box."""

    def __init__(
        self, space: spaces.Box, in_features: int, init_gain: float, std: StdKind = "free", log_std_init: float = 0.0
    ) -> None:
        super().__init__()
        if std not in get_args(StdKind):
            raise SettingError(f"std '{std}' is unknown{nearest(std, get_args(StdKind))}: it is free or state")
        self.shape = tuple(space.shape)
        size = int(np.prod(self.shape, dtype=int))
        self.linear = orthogonal(nn.Linear(in_features, size), init_gain)
        self.log_std: nn.Parameter | None = None
        self.log_std_linear: nn.Linear | None = None
        if std == "free":
            self.log_std = nn.Parameter(torch.full((size,), float(log_std_init)))
        else:
            self.log_std_linear = orthogonal(nn.Linear(in_features, size), init_gain)
            nn.init.constant_(self.log_std_linear.bias, log_std_init)

    def forward(self, features: Tensor, legal: Tensor | None = None) -> DiagonalGaussian:
        mean = self.linear(features).float()
        if self.log_std_linear is None:
            assert self.log_std is not None
            return DiagonalGaussian(mean, self.log_std, self.shape)
        # Bounded as in Haarnoja et al. 2018 (SAC), so that a density never overflows.
        return DiagonalGaussian(mean, self.log_std_linear(features).float().clamp(-20.0, 2.0), self.shape)


_DISCRETE_HEADS: dict[type[Space[Any]], Callable[[Any, int, float], PolicyHead]] = {
    spaces.Discrete: DiscretePolicyHead,
    spaces.MultiDiscrete: MultiDiscretePolicyHead,
    spaces.MultiBinary: MultiBinaryPolicyHead,
}


def make_policy_head(
    action_space: Space[Any],
    in_features: int,
    *,
    std: StdKind = "free",
    log_std_init: float = 0.0,
    init_gain: float = POLICY_GAIN,
) -> PolicyHead:
    """The policy head that fits an action space.

    Args:
        action_space: Discrete, MultiDiscrete, MultiBinary or Box.
        in_features: D.
        std: for a Box, whether the standard deviation is a parameter or computed from the features.
        log_std_init: for a Box, the log of the standard deviation at the start.
        init_gain: gain of the last layer; small means a near-uniform policy at the start.

    Raises:
        SettingError: the space is none of these, or `std` is neither free nor state.
    """
    if isinstance(action_space, spaces.Box):
        return BoxPolicyHead(action_space, in_features, init_gain, std, log_std_init)
    for space, head in _DISCRETE_HEADS.items():
        if isinstance(action_space, space):
            return head(action_space, in_features, init_gain)
    allowed = ", ".join(space.__name__ for space in _DISCRETE_HEADS)
    found = type(action_space).__name__
    raise SettingError(f"a policy cannot act in a {found} action space: it is one of {allowed}, Box")


__all__ = [
    "ActionDistribution",
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "MultiCategorical",
    "PolicyHead",
    "StdKind",
    "allow_any_if_none",
    "make_policy_head",
    "mask_logits",
]
