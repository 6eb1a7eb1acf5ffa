"""What PPO minimises, row by row.

A actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from triathlon.networks.distributions import ActionDistribution, Categorical


def policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_coef: Tensor) -> tuple[Tensor, Tensor]:
    """The clipped surrogate of each row, negated, and the log of the probability ratio (PPO paper, equation 7)."""
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_coef, 1.0 + clip_coef)
    return -torch.minimum(advantage * ratio, advantage * clipped), log_ratio


def value_loss(value: Tensor, old_value: Tensor, returns: Tensor, clip_coef: float | None) -> Tensor:
    """The squared error of each row; with a clip, the worse of the free and the clipped value's error."""
    loss = (value - returns).square()
    if clip_coef is not None:
        clipped = old_value + (value - old_value).clamp(-clip_coef, clip_coef)
        loss = torch.maximum(loss, (clipped - returns).square())
    return loss


def search_loss(distribution: ActionDistribution, policy: Tensor) -> Tensor:
    """Each row's cross-entropy between the better `policy [..., A]` that a search found and the distribution."""
    assert isinstance(distribution, Categorical)
    return -(policy * distribution.log_probs).sum(-1)


__all__ = ["policy_loss", "search_loss", "value_loss"]
