"""Losses and measures as pure functions. N examples, K classes, Z numbers of a code, `...` any leading axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, weights: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Mean of -log p(target) in nats. `logits [..., K]`, `target [...]` ints.

    Args:
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016, "Rethinking the
            Inception Architecture", §7).
        weights: `[K]`, how much an example of each class counts; the mean is over what they add up to.
        valid: `[...]`, which of the rows count at all.
    """
    num_classes = logits.shape[-1]
    logits, target = logits.reshape(-1, num_classes).float(), target.reshape(-1).long()
    if valid is not None:
        keep = valid.reshape(-1)
        logits, target = logits[keep], target[keep]
    return F.cross_entropy(logits, target, weights, label_smoothing=smoothing)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """`[N]`: KL(N(mean, variance) || N(0, 1)) in nats, from `[N, Z]` (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def balancing_weights(target: NDArray[Any], num_classes: int) -> Tensor:
    """`[K]`: N / (K · examples of that class), so that all classes count the same; 0 for a class without any."""
    counts = np.bincount(target.reshape(-1), minlength=num_classes)
    weights = np.divide(target.size, num_classes * counts, out=np.zeros(num_classes), where=counts > 0)
    return torch.from_numpy(weights).float()


def confusion(target: NDArray[Any], guess: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """`[K, K]`: how many examples of each class (rows) were taken for each class (columns)."""
    flat = np.bincount(target.reshape(-1) * num_classes + guess.reshape(-1), minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def accuracy(table: NDArray[np.int64]) -> float:
    """The share of examples that were taken for what they are, from their confusion table."""
    return float(np.trace(table) / table.sum())


def macro_f1(table: NDArray[np.int64]) -> float:
    """The mean over classes of 2 · hits / (examples + guesses), from their confusion table; absent classes left out."""
    there = table.sum(0) + table.sum(1)
    scores = 2 * np.diag(table)[there > 0] / there[there > 0]
    return float(scores.mean())


def auroc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive example scores higher than a negative one (a tie counts half); nan without both."""
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        return float("nan")
    _, rank, counts = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # of ties, counted from 1
    total = mean_rank[rank][positive].sum()
    return float((total - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))
