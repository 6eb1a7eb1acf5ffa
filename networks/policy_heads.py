"""Policy heads: features to a distribution over actions.

D features, n numbers of an action, K the largest choice; `...` any leading axes, `[B]` or `[T, B]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.distributions import (
    ActionDistribution,
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    mask_logits,
)
from triathlon.networks.errors import SettingError, nearest
from triathlon.networks.initialization import POLICY_GAIN, orthogonal

StdKind = Literal["free", "state"]


class PolicyHead(nn.Module):
    """`head(features [..., D], legal=None) -> ActionDistribution`; made by `make_policy_head`."""

    __call__: Callable[..., ActionDistribution]

    def distribution(self, parameters: dict[str, Tensor]) -> ActionDistribution:
        """The distribution that had these `parameters()`: of many rows at once, what was seen of each alone."""
        raise NotImplementedError


class DiscretePolicyHead(PolicyHead):
    """Discrete actions: `legal [..., A]`."""

    def __init__(self, space: spaces.Discrete[Any], in_features: int, init_gain: float) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(in_features, int(space.n)), init_gain)

    def forward(self, features: Tensor, legal: Tensor | None = None) -> Categorical:
        linear = self.linear
        return Categorical(F.linear(features, linear.weight, linear.bias).float(), legal)

    def distribution(self, parameters: dict[str, Tensor]) -> Categorical:
        return Categorical(parameters["logits"])


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
        allowed = self.exists
        if legal is not None:
            allowed = legal[..., self.index] & self.exists
            allowed = allowed | (~allowed.any(-1, keepdim=True) & self.exists)
        return MultiCategorical(mask_logits(logits, allowed), self.shape)

    def distribution(self, parameters: dict[str, Tensor]) -> MultiCategorical:
        return MultiCategorical(parameters["logits"], self.shape)


class MultiBinaryPolicyHead(PolicyHead):
    """MultiBinary actions: `legal [..., n]`, where a bit may be 1."""

    def __init__(self, space: spaces.MultiBinary, in_features: int, init_gain: float) -> None:
        super().__init__()
        self.shape = tuple(space.shape)
        self.linear = orthogonal(nn.Linear(in_features, int(np.prod(self.shape))), init_gain)

    def forward(self, features: Tensor, legal: Tensor | None = None) -> Bernoulli:
        logits = self.linear(features).float()
        if legal is not None:  # every bit may be 0, so there is always something that may be done
            logits = torch.where(legal, logits, torch.finfo(logits.dtype).min)
        return Bernoulli(logits, self.shape)

    def distribution(self, parameters: dict[str, Tensor]) -> Bernoulli:
        return Bernoulli(parameters["logits"], self.shape)


class BoxPolicyHead(PolicyHead):
    """Box actions: a diagonal Gaussian around what the features say.

    Whoever plays the action clips it to the box, and rounds it where the box is of whole numbers.
    """

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

    def distribution(self, parameters: dict[str, Tensor]) -> DiagonalGaussian:
        return DiagonalGaussian(parameters["mean"], parameters["log_std"], self.shape)


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


__all__ = ["PolicyHead", "StdKind", "make_policy_head"]
