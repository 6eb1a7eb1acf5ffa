"""Returns and distributional targets: pure functions of tensors, without in-place writes and without host syncs.

T rows in time, B columns, N samples, K atoms or predicted quantiles, J target quantiles. Time-major, `[T, B]`.
Row t is *valid* when its action was played, `~is_first[t + 1]`. The row that is not valid is the last observation of an
episode; the row before it may have terminated, and if it has not, it bootstraps from the value of that observation.

Where two sides play in turn, rewards and values are of the side that moves at their row; `next_sign[t]` is -1 if
another side moves at row t + 1: what that row is worth to it is worth the opposite to the side of row t (Littman 1994,
"Markov games as a framework for multi-agent reinforcement learning"). None means 1 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def _scan_back(delta: Tensor, carry: Tensor) -> Tensor:
    """`x[t] = delta[t] + carry[t] * x[t + 1]` with `x[T] = 0`, one fused operation a row."""
    x, rows = torch.zeros_like(delta[0]), []
    for delta_t, carry_t in zip(reversed(delta.unbind()), reversed(carry.unbind()), strict=True):
        x = torch.addcmul(delta_t, carry_t, x)
        rows.append(x)
    return torch.stack(rows[::-1])


def gae(
    reward: Tensor,
    value: Tensor,
    terminated: Tensor,
    is_first: Tensor,
    gamma: float,
    gae_lambda: float,
    next_sign: Tensor | None = None,
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16), `[T, B]`.

    `reward`, `terminated`, `next_sign` are `[T, B]`; `value`, `is_first` are `[T+1, B]`. With the one-step error
    `d[t] = r[t] + gamma * s[t] * (1 - terminated[t]) * V[t+1] - V[t]`, s the sign, valid rows get
    `A[t] = d[t] + gamma * s[t] * gae_lambda * (1 - terminated[t]) * A[t+1]`, `A[T] = 0`.

    Rows that are not valid get 0: nothing was done there, and the 0 is what stops the sum of the episode that ends on
    them from running on into the next one.
    """
    valid = ~is_first[1:]
    discount = _discount(gamma, valid & ~terminated, next_sign)
    delta = torch.where(valid, reward + discount * value[1:] - value[:-1], 0.0)
    return _scan_back(delta, gae_lambda * discount)


class VTrace(NamedTuple):
    """What `vtrace` gives, each `[T, B]`."""

    targets: Tensor  # what the values are pulled to
    advantage: Tensor  # of the action played, not yet weighted
    rho: Tensor  # the weight of a row in a policy gradient: the clipped ratio


def vtrace(
    log_ratio: Tensor,
    reward: Tensor,
    value: Tensor,
    terminated: Tensor,
    is_first: Tensor,
    gamma: float,
    lambda_: float,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    next_sign: Tensor | None = None,
) -> VTrace:
    """Targets and advantages of a policy other than the one that acted (IMPALA: Espeholt et al. 2018, section 4.1).

    `log_ratio [T, B]` is the log-probability of each action now less that when it was played; `value [T+1, B]` is of
    now; the rest is as for `gae`. With `rho = min(rho_clip, ratio)`, `c = lambda_ * min(c_clip, ratio)`, the one-step
    error `d[t]` of `gae`, s the sign and `w[t] = gamma * s[t] * (1 - terminated[t])`:
    `targets[t] = value[t] + x[t]`, `x[t] = rho[t] * d[t] + w[t] * c[t] * x[t+1]`, `x[T] = 0` (equation 1), and
    `advantage[t] = d[t] + lambda_ * w[t] * x[t+1]`, which the policy gradient weights by `rho[t]` (equation 4).

    `lambda_` 1 is the paper's; below it, the advantage bootstraps from `lambda_ * target + (1 - lambda_) * value`. So
    with ratio 1 the targets are the lambda-returns and the advantages those of `gae`. Rows that are not valid get
    their value, 0 and 0.
    """
    valid = ~is_first[1:]
    discount = _discount(gamma, valid & ~terminated, next_sign)
    delta = torch.where(valid, reward + discount * value[1:] - value[:-1], 0.0)
    ratio = log_ratio.exp()
    rho = torch.where(valid, ratio.clamp(max=rho_clip), 0.0)
    carry = torch.where(valid, lambda_ * ratio.clamp(max=c_clip), 0.0) * discount
    x = _scan_back(rho * delta, carry)
    following = torch.cat([x[1:], torch.zeros_like(x[:1])])
    return VTrace(value[:-1] + x, delta + lambda_ * discount * following, rho)


def _discount(gamma: float, goes_on: Tensor, next_sign: Tensor | None) -> Tensor:
    return gamma * goes_on if next_sign is None else gamma * goes_on * next_sign


def lambda_returns(
    reward: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    is_first: Tensor,
    gamma: float,
    lambda_: float,
    next_sign: Tensor | None = None,
) -> Tensor:
    """Lambda-returns of Q-learning without replay (PQN: Gallici et al. 2024, section 4), `[T, B]`.

    `reward`, `terminated`, `next_sign` are `[T, B]`, `is_first` is `[T+1, B]`; `next_value[t]` is the bootstrap value
    of row t + 1 (for instance its largest Q-value). For valid rows, s being the sign,
    `G[t] = r[t] + gamma * s[t] * (1 - terminated[t]) * ((1 - lambda_) * next_value[t] + lambda_ * G[t+1])`,
    where G of a row that is not valid, and of row T, is the bootstrap value of that row itself. So a truncated episode
    bootstraps from its own last observation and no return crosses into another episode.

    Rows that are not valid carry no loss; 0 is given for them.
    """
    valid = ~is_first[1:]
    discount = _discount(gamma, valid & ~terminated, next_sign)
    # A row goes on to the return of the next row only if that one was played; else all weight is on its value.
    goes_on = torch.cat([valid[1:], torch.zeros_like(valid[:1])])
    carry = lambda_ * goes_on * discount
    return _scan_back(torch.where(valid, reward + (discount - carry) * next_value, 0.0), carry)


def n_step_targets(
    reward: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    is_first: NDArray[np.bool_],
    gamma: float,
    n_step: int,
    next_sign: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """n-step returns without their bootstrap value (Sutton & Barto 2018, section 7.1), for the rows that see n ahead.

    `reward`, `terminated`, `next_sign` are `[T, B]`, `is_first` is `[T+1, B]`; numpy, for the replay works on the host.
    Gives `returns`, `discount` and `steps`, each `[T - n_step + 1, B]`, such that the target of row t is
    `returns[t] + discount[t] * value[t + steps[t]]`.

    `steps` is n, or less where the episode ends sooner: the sum then stops at the last observation of the episode and
    bootstraps there. `discount` is `gamma ** steps` with the signs on the way, or 0 if the episode terminated there.
    Rows that are not valid get 0, 1 and 0: their return is their own value.
    """
    num_rows = reward.shape[0] - n_step + 1
    valid = ~is_first[1:]
    going = valid[:num_rows]
    keep = ~terminated * np.float32(gamma) * (np.float32(1) if next_sign is None else next_sign)
    returns, discount, steps = (
        reward[:num_rows] * going,
        np.where(going, keep[:num_rows], np.float32(1)),
        going.astype(np.int64),
    )
    for k in range(1, n_step):
        rows = slice(k, k + num_rows)
        going = going & valid[rows]
        returns += discount * reward[rows] * going
        discount = np.where(going, discount * keep[rows], discount)
        steps += going
    return returns, discount, steps


def value_rescale(x: Tensor, eps: float = 1e-3) -> Tensor:
    """`h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x` (Pohlen et al. 2018, section 3.2; eps of R2D2)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + eps * x


def value_unscale(x: Tensor, eps: float = 1e-3) -> Tensor:
    """The inverse of `value_rescale` (Pohlen et al. 2018, proposition A.2).

    Written with the difference of roots multiplied out: the printed form subtracts two nearly equal numbers and then
    divides by `2 eps`, which in float32 leaves four digits.
    """
    y = x.abs() + 1 + eps
    root = 2 * y / ((1 + 4 * eps * y).sqrt() + 1)
    return x.sign() * (root.square() - 1)


def categorical_projection(probs: Tensor, returns: Tensor, discount: Tensor, support: Tensor) -> Tensor:
    """The distribution of `returns + discount * z` put back on the atoms z (C51: Bellemare et al. 2017, algorithm 1).

    `probs [N, K]` over evenly spaced, ascending `support [K]`; `returns`, `discount` are `[N]`. Gives `[N, K]`.
    Each moved atom shares its mass between its two neighbours in inverse proportion to the distance. Scattering is
    linear in K; `torch.use_deterministic_algorithms` makes it repeatable to the bit on CUDA, which CPU always is.
    """
    spacing = (support[-1] - support[0]) / (support.shape[0] - 1)
    moved = (returns.unsqueeze(1) + discount.unsqueeze(1) * support).clamp(support[0], support[-1])
    position = (moved - support[0]) / spacing
    # The last atom counts as the upper neighbour of the one before it, so that `lower + 1` is always an atom.
    lower = position.floor().clamp(min=0, max=support.shape[0] - 2)
    upper_mass = probs * (position - lower)
    below = lower.long()
    projected = torch.zeros_like(probs).scatter_add(1, below, probs - upper_mass)
    return projected.scatter_add(1, below + 1, upper_mass)


def quantile_huber_loss(predicted: Tensor, target: Tensor, taus: Tensor, kappa: float = 1.0) -> Tensor:
    """Quantile Huber loss, `[N]` (QR-DQN: Dabney et al. 2018a, eq. 10; IQN: 2018b, eq. 3).

    `predicted [N, K]` at the fractions `taus [N, K]` (or `[K]`) against `target [N, J]`, which gets no gradient: summed
    over the predicted quantiles, averaged over the target's. `kappa = 0` is the plain quantile loss.
    """
    error = target.detach().unsqueeze(1) - predicted.unsqueeze(2)  # [N, K, J]
    size = error.abs()
    if kappa > 0:
        size = functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=kappa) / kappa
    weight = (taus.unsqueeze(-1) - (error.detach() < 0).to(error.dtype)).abs()
    return (weight * size).mean(2).sum(1)


def explained_variance(
    predicted: Tensor, target: Tensor, mask: Tensor, total: Callable[[Tensor], Tensor] = lambda x: x
) -> Tensor:
    """`1 - Var[target - predicted] / Var[target]` over the rows where `mask` is True: a scalar, NaN if Var is 0.

    `total` sums a number over all processes that have rows of their own.
    """
    weight, count = mask.to(target.dtype), total(mask.sum())

    def variance(x: Tensor) -> Tensor:
        mean = total((weight * x).sum()) / count
        return total((weight * (x - mean).square()).sum()) / count

    of_target = variance(target)
    return 1 - variance(target - predicted) / of_target.where(of_target > 0, torch.nan)


__all__ = [
    "VTrace",
    "categorical_projection",
    "explained_variance",
    "gae",
    "lambda_returns",
    "n_step_targets",
    "quantile_huber_loss",
    "value_rescale",
    "value_unscale",
    "vtrace",
]
