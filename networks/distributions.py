"""Distributions over actions. Not torch.distributions, whose checks cost more than acting.

A actions, n numbers of an action; `...` any leading axes, `[B]` or `[T, B]`. Actions of discrete spaces count from 0,
whatever the space's `start`. `legal` is True where an action may be taken; a row in which nothing may be is read as a
row in which everything may.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

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

    def parameters(self) -> dict[str, Tensor]:
        """What it is made of, each with all leading axes: enough for `PolicyHead.distribution` to make it again."""
        raise NotImplementedError

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


class Categorical(ActionDistribution):
    """One choice out of A. `logits [..., A]`, `legal [..., A]` bool; actions `[...]` int64."""

    __slots__ = ("_log_probs", "logits")

    def __init__(self, logits: Tensor, legal: Tensor | None = None) -> None:
        self.logits = logits if legal is None else mask_logits(logits, legal)
        self._log_probs: Tensor | None = None

    def parameters(self) -> dict[str, Tensor]:
        return {"logits": self.logits}

    @property
    def log_probs(self) -> Tensor:
        """`[..., A]`: log-probability of each choice. Made when first asked for: drawing an action needs none."""
        if self._log_probs is None:
            self._log_probs = F.log_softmax(self.logits, -1)
        return self._log_probs

    def sample(self, generator: Generator | None = None) -> Tensor:
        # The exponential race: argmin of E_i / p_i over independent E_i ~ Exp(1) falls on i with probability p_i,
        # and what all p_i are divided by does not change who wins.
        race = torch.empty_like(self.logits).exponential_(generator=generator)
        return (self.logits - race.log_()).argmax(-1)

    def mode(self) -> Tensor:
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)


class MultiCategorical(ActionDistribution):
    """n independent choices. `logits [..., n, K]`, padded to the largest choice; actions `[..., *shape]` int64."""

    __slots__ = ("choices", "shape")

    def __init__(self, logits: Tensor, shape: tuple[int, ...]) -> None:
        self.choices = Categorical(logits)
        self.shape = shape

    def parameters(self) -> dict[str, Tensor]:
        return self.choices.parameters()

    def sample(self, generator: Generator | None = None) -> Tensor:
        return _shaped(self.choices.sample(generator), self.shape)

    def mode(self) -> Tensor:
        return _shaped(self.choices.mode(), self.shape)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.choices.log_prob(_flat(action, self.shape)).sum(-1)

    def entropy(self) -> Tensor:
        return self.choices.entropy().sum(-1)


class Bernoulli(ActionDistribution):
    """n independent bits. `logits [..., n]` of a 1; actions `[..., *shape]` int64."""

    __slots__ = ("logits", "shape")

    def __init__(self, logits: Tensor, shape: tuple[int, ...]) -> None:
        self.logits = logits
        self.shape = shape

    def parameters(self) -> dict[str, Tensor]:
        return {"logits": self.logits}

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

    def parameters(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "log_std": self.log_std.expand_as(self.mean)}

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


__all__ = [
    "ActionDistribution",
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "MultiCategorical",
    "allow_any_if_none",
    "mask_logits",
]
