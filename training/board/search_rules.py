"""How a search spends its simulations and what it makes of them: PUCT, and Gumbel AlphaZero's planning.

N games (game i has root i), n nodes, K columns of legal actions. Values are in [-1, 1], for whoever moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Annotated, Literal, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from triathlon.training.board.search_tree import Trees

C_BASE = 19_652  # Silver et al. 2018: visits at which exploration has grown by log 2
NEVER = -np.inf
LOST = -1.0


@dataclass(frozen=True)
class SearchConfig:
    """How a trained agent looks ahead before it moves."""

    kind: Annotated[Literal["puct", "gumbel"], "AlphaZero's search, or that of Gumbel AlphaZero"] = "puct"
    simulations: Annotated[int, Gt(0), "positions looked at before each move"] = 64
    c_puct: Annotated[float, Ge(0), "puct: how much is explored"] = 1.25
    fpu_reduction: Annotated[
        float, Ge(0), "puct: a move never tried counts as the mean of its position so far, less this"
    ] = 0.2
    prove: Annotated[bool, "positions whose result is certain are carried up and searched no further"] = True
    noise_share: Annotated[float, Ge(0), Le(1), "puct: share of noise in the root's priors; for training only"] = 0.0
    dirichlet_alpha: Annotated[float, Gt(0), "puct: the smaller, the fewer the moves that get the noise"] = 0.3
    num_considered: Annotated[int, Gt(1), "gumbel: moves at the root among which simulations are shared"] = 16
    gumbel_scale: Annotated[float, Ge(0), "gumbel: 1 in training; 0: no chance"] = 0.0
    c_visit: Annotated[float, Ge(0), "gumbel: visits that a value counts as beforehand"] = 50.0
    c_scale: Annotated[float, Gt(0), "gumbel: how much values count beside priors"] = 1.0


class Rule(Protocol):
    """Which columns simulations go through, and what the search comes to."""

    def choose_root(self, roots: NDArray[np.intp]) -> NDArray[np.intp]:
        """The columns of all N roots for the next simulation."""
        ...

    def choose(self, nodes: NDArray[np.intp]) -> NDArray[np.intp]:
        """The columns of nodes below the roots."""
        ...

    def outcome(self) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
        """The column to play `[N]`, better probabilities `[N, K]`, and values `[N]` for the movers."""
        ...


class Puct:
    """Silver et al. 2018, "A general reinforcement learning algorithm …", supplement (Search).

    The column of greatest Q + U, U = C(s) P(s, a) sqrt(N(s)) / (1 + N(s, a)), C(s) = log((1 + N(s) + c_base) / c_base)
    + c_puct; N(s) counts the look at the position itself, so that the first column tried is the likeliest. Played is
    the column visited most, of equals the one of the higher value. Columns that are proven to lose are left alone.
    """

    def __init__(self, trees: Trees, config: SearchConfig, rngs: Sequence[np.random.Generator]) -> None:
        self._trees, self._config = trees, config
        if config.noise_share:
            for root, rng in zip(trees.roots, rngs, strict=True):
                num_legal = int((trees.action[root] >= 0).sum())
                noise = rng.dirichlet(np.full(num_legal, config.dirichlet_alpha))
                prior = trees.prior[root, :num_legal]
                trees.prior[root, :num_legal] = (1 - config.noise_share) * prior + config.noise_share * noise

    def choose_root(self, roots: NDArray[np.intp]) -> NDArray[np.intp]:
        return self.choose(roots)

    def choose(self, nodes: NDArray[np.intp]) -> NDArray[np.intp]:
        trees, config = self._trees, self._config
        visits, total = trees.visits[nodes], trees.total[nodes]
        num_looks = 1 + visits.sum(1, keepdims=True)
        untried = _mean(trees, nodes, visits, total)[:, None] - config.fpu_reduction
        q = np.where(visits > 0, total / np.maximum(visits, 1), untried)
        c = np.log((num_looks + C_BASE) / C_BASE) + config.c_puct
        score = q + c * trees.prior[nodes] * np.sqrt(num_looks) / (1 + visits)
        best: NDArray[np.intp] = np.where(trees.exact[nodes] <= LOST, NEVER, score).argmax(1)
        return best

    def outcome(self) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
        roots = self._trees.roots
        visits, total = self._trees.visits[roots], self._trees.total[roots]
        weights = np.where(_playable(self._trees), visits, 0).astype(np.float32)
        # Where all that was visited is proven to lose, what was not is played by its prior.
        others = np.where(_playable(self._trees), self._trees.prior[roots], 0)
        weights = np.where(weights.any(1, keepdims=True), weights, others)
        merit = np.where(_playable(self._trees), weights + total / np.maximum(visits, 1) / 4, NEVER)
        values = np.where(self._trees.settled[roots], self._trees.own(roots), _mean(self._trees, roots, visits, total))
        return merit.argmax(1), weights / weights.sum(1, keepdims=True), values


class Gumbel:
    """Danihelka et al. 2022, "Policy improvement by planning with Gumbel" (Gumbel AlphaZero).

    At the root the likeliest columns (with Gumbel noise: drawn without replacement) share the simulations by sequential
    halving (Algorithm 2); below, visits follow the improved policy (section 5). That policy is the softmax of logits
    plus transformed values, those of columns never tried being completed by a mixed value (Appendix D).
    """

    def __init__(self, trees: Trees, config: SearchConfig, rngs: Sequence[np.random.Generator]) -> None:
        self._trees, self._config = trees, config
        legal = trees.action[trees.roots] >= 0
        self._noise = np.zeros(legal.shape)
        if config.gumbel_scale:
            for row, allowed, rng in zip(self._noise, legal, rngs, strict=True):
                row[allowed] = config.gumbel_scale * rng.gumbel(size=int(allowed.sum()))
        num_considered = np.minimum(legal.sum(1), config.num_considered)
        plans = {m: halving(m, config.simulations) for m in set(num_considered.tolist())}
        self._wanted = np.array([plans[m] for m in num_considered.tolist()])  # [N, simulations]
        self._num_done = 0

    def choose_root(self, roots: NDArray[np.intp]) -> NDArray[np.intp]:
        wanted = self._wanted[roots, self._num_done, None]
        self._num_done += 1
        return self._best_with(wanted, roots, self._trees.action[roots] >= 0)

    def choose(self, nodes: NDArray[np.intp]) -> NDArray[np.intp]:
        visits = self._trees.visits[nodes]
        behind = self._improved(nodes) - visits / (1 + visits.sum(1, keepdims=True))
        best: NDArray[np.intp] = np.where(self._trees.action[nodes] >= 0, behind, NEVER).argmax(1)
        return best

    def outcome(self) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
        roots = self._trees.roots
        playable = _playable(self._trees)
        most = np.where(playable, self._trees.visits[roots], 0).max(1, keepdims=True)
        probs = np.where(playable, self._improved(roots), 0)
        probs /= probs.sum(1, keepdims=True)
        values = (probs * self._completed(roots)).sum(1)
        return self._best_with(most, roots, playable), probs.astype(np.float32), values.astype(np.float32)

    def _best_with(
        self, num_visits: NDArray[np.int32], roots: NDArray[np.intp], allowed: NDArray[np.bool_]
    ) -> NDArray[np.intp]:
        """Of the allowed columns that were visited so often, the one of greatest logit, noise and value."""
        more = allowed.shape[1] - len(self._noise[0])  # columns that nodes below have needed since
        score = self._logits(roots) + np.pad(self._noise[roots], ((0, 0), (0, more))) + self._weighed(roots)
        best: NDArray[np.intp] = np.where(allowed & (self._trees.visits[roots] == num_visits), score, NEVER).argmax(1)
        return best

    def _improved(self, nodes: NDArray[np.intp]) -> NDArray[np.float64]:
        """The improved policy `[n, K]`."""
        score = np.where(self._trees.action[nodes] >= 0, self._logits(nodes) + self._weighed(nodes), NEVER)
        weights = np.exp(score - score.max(1, keepdims=True))
        improved: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
        return improved

    def _weighed(self, nodes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Values transformed to stand beside logits: the more visits, the more they count. From [-1, 1] to [0, 1]."""
        most = self._trees.visits[nodes].max(1, keepdims=True)
        scale = (self._config.c_visit + most) * self._config.c_scale
        weighed: NDArray[np.float64] = scale * (self._completed(nodes) + 1) / 2
        return weighed

    def _completed(self, nodes: NDArray[np.intp]) -> NDArray[np.float64]:
        visits, prior = self._trees.visits[nodes], self._trees.prior[nodes]
        q = self._trees.total[nodes] / np.maximum(visits, 1)
        tried, num_visits = visits > 0, visits.sum(1)
        weight = (prior * tried).sum(1)
        of_tried = np.divide((prior * tried * q).sum(1), weight, out=np.zeros_like(weight), where=weight > 0)
        mixed = (self._trees.own(nodes) + num_visits * of_tried) / (1 + num_visits)
        completed: NDArray[np.float64] = np.where(tried, q, mixed[:, None])
        return completed

    def _logits(self, nodes: NDArray[np.intp]) -> NDArray[np.float32]:
        prior = self._trees.prior[nodes]
        return np.log(prior, out=np.zeros_like(prior), where=prior > 0)


def halving(num_considered: int, num_simulations: int) -> list[int]:
    """How often the column for each simulation was visited before, by sequential halving (Karnin et al. 2013).

    Each of ceil(log2(m)) rounds gives the same number of simulations in all; after a round the better half remains.
    """
    num_rounds = max(1, ceil(log2(num_considered)))
    plan: list[int] = []
    remaining, done = num_considered, 0
    while len(plan) < num_simulations:
        for _ in range(max(1, num_simulations // (num_rounds * remaining))):
            plan += [done] * remaining
            done += 1
        remaining = max(min(2, num_considered), remaining // 2)
    return plan[:num_simulations]


def _playable(trees: Trees) -> NDArray[np.bool_]:
    """`[N, K]`: what may be played: where the result is settled what keeps it, else what is not proven to lose."""
    exact = trees.exact[trees.roots]
    keeps = exact == trees.own(trees.roots)[:, None]
    return np.where(trees.settled[trees.roots, None], keeps, ~(exact <= LOST))


def _mean(
    trees: Trees, nodes: NDArray[np.intp], visits: NDArray[np.int32], total: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The mean of all that was found at nodes and below `[n]`, for the movers."""
    mean: NDArray[np.float32] = ((trees.own(nodes) + total.sum(1)) / (1 + visits.sum(1))).astype(np.float32)
    return mean


RULES: dict[str, type[Puct] | type[Gumbel]] = {"puct": Puct, "gumbel": Gumbel}

__all__ = ["RULES", "Gumbel", "Puct", "Rule", "SearchConfig", "halving"]
