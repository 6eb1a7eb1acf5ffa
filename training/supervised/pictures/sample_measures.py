"""How good made pictures are, by what a classifier sees in them. N pictures, K classes, D features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def classifier_score(probability: Array) -> float:
    """exp(E KL(p(y | x) || p(y))) of `[N, K]`, from 1 to K: each picture is one thing, and all are many things.

    The inception score (Salimans et al. 2016, "Improved Techniques for Training GANs", §4) with a classifier of one's
    own: to be compared only with the same classifier's score of other pictures.
    """
    marginal = probability.mean(0, keepdims=True)
    tiny = np.finfo(np.float64).tiny
    terms = probability * (np.log(np.maximum(probability, tiny)) - np.log(np.maximum(marginal, tiny)))
    return float(np.exp(terms.sum(1).mean()))


def coverage(guess: Array, num_classes: int) -> tuple[float, float]:
    """Of guesses `[N]`: the share of classes that are there, and KL(guesses || uniform) in nats, 0 for all alike.

    A class is there if it has at least a tenth of an even share of the pictures.
    """
    share = np.bincount(guess, minlength=num_classes) / len(guess)
    there = share >= 0.1 / num_classes
    divergence = (share[share > 0] * np.log(share[share > 0] * num_classes)).sum()
    return float(there.mean()), float(divergence)


def frechet_distance(a: Array, b: Array) -> float:
    """Squared Fréchet distance of normal distributions with the means and covariances of `[N, D]` and `[M, D]`.

    |μ - ν|² + tr(A + B - 2 (A B)^½) (Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6). It is
    biased upwards for few pictures, so compare equally many.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # (A B)^½ and (A^½ B A^½)^½ have the same trace, and the latter is of a symmetric matrix
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2.0 * cross)


__all__ = ["classifier_score", "coverage", "frechet_distance"]
