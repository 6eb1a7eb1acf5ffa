"""How strong players are, and how sure one can be of it: scores with intervals, and Elo ratings. P players.

Scores count a draw as half a win. Elo ratings are a Bradley-Terry model's strengths (Bradley & Terry 1952), fitted by
choix's I-LSR (Maystre & Grossglauser 2015), in units in which 400 points are odds of 10 to 1, relative to an anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from triathlon.training.errors import RunError

ELO_PER_NAT = 400 / log(10)


@dataclass(frozen=True, slots=True)
class Tally:
    """Games won, drawn and lost."""

    wins: int
    draws: int
    losses: int

    @property
    def num_games(self) -> int:
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float:
        """The share of points: a win 1, a draw ½. NaN without games."""
        return (self.wins + self.draws / 2) / self.num_games if self.num_games else float("nan")

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Wilson's interval of the score (Wilson 1927), which holds at 0 % and 100 % too.

        It takes points for games won and lost, so draws, which vary less, only make it wider than it need be.
        """
        n = self.num_games
        if n == 0:
            return 0.0, 1.0
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        center = (self.score + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * sqrt(self.score * (1 - self.score) / n + z * z / (4 * n * n))
        return max(0.0, center - half), min(1.0, center + half)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.wins + other.wins, self.draws + other.draws, self.losses + other.losses)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"+{self.wins} ={self.draws} -{self.losses}, {self.score:.1%} (95 % interval {low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class Rating:
    """A player's Elo rating and its interval `(low, high)`, relative to the anchor's 0."""

    name: str
    elo: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.name} {self.elo:+.0f} ({self.interval[0]:+.0f} to {self.interval[1]:+.0f})"


def elo_ratings(
    names: Sequence[str],
    wins: ArrayLike,
    draws: ArrayLike,
    rng: np.random.Generator,
    anchor: str = "random",
    confidence: float = 0.95,
    num_resamples: int = 200,
) -> list[Rating]:
    """Elo ratings of P players from `wins [P, P]` (row beats column) and `draws [P, P]` (symmetric), the anchor at 0.

    Every pair that met is given half a win for each side on top of its games, so that who won all of them stays finite:
    after 40 wins of 40 the distance is 763. The intervals are a Bayesian bootstrap (Rubin 1981): each pair's shares of
    wins, draws and losses are drawn from the Dirichlet distribution of those counts, so they are not empty where one
    side won every game, as resampling the games themselves would have it.

    Raises:
        RunError: the anchor is not among the players, the tables do not fit, or choix is not installed; or some
            player met nobody whose games lead to the anchor.
    """
    won, drawn = np.asarray(wins, np.float64), np.asarray(draws, np.float64)
    _check(names, won, drawn, anchor)
    met = (won + won.T + drawn) > 0
    shares = won + 0.5 * met
    fitted = _fit(shares + drawn / 2, names.index(anchor))
    resampled = np.empty((num_resamples, len(names)))
    for i in range(num_resamples):
        resampled[i] = _fit(_resample(shares, drawn, rng), names.index(anchor))
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    low, high = np.percentile(resampled, tails, axis=0)
    return [Rating(name, float(fitted[i]), (float(low[i]), float(high[i]))) for i, name in enumerate(names)]


def expected_score(difference: float) -> float:
    """The score that a player `difference` Elo points stronger is expected to make."""
    return float(1 / (1 + 10 ** (-difference / 400)))


def _fit(points: NDArray[np.float64], anchor: int) -> NDArray[np.float64]:
    """Elo `[P]` from points `[P, P]` that each row made against each column."""
    try:
        import choix
    except ImportError as error:
        raise RunError('Elo ratings need choix, which is not installed: pip install "triathlon[board]"') from error
    strengths = np.asarray(choix.ilsr_pairwise_dense(points, max_iter=1_000), np.float64)
    elo: NDArray[np.float64] = ELO_PER_NAT * (strengths - strengths[anchor])
    return elo


def _resample(shares: NDArray[np.float64], drawn: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Points `[P, P]` with the shares of each pair drawn anew and its number of games kept."""
    decided = rng.standard_gamma(shares)
    halves = np.triu(rng.standard_gamma(np.triu(drawn)))
    halves = halves + halves.T
    total = decided + decided.T + halves
    num_games = shares + shares.T + drawn
    points: NDArray[np.float64] = np.divide(num_games * (decided + halves / 2), total, where=total > 0, out=0 * total)
    return points


def _check(names: Sequence[str], won: NDArray[np.float64], drawn: NDArray[np.float64], anchor: str) -> None:
    num_players = len(names)
    if anchor not in names:
        raise RunError(f"anchor must be one of the players {', '.join(names)}, found {anchor!r}")
    if won.shape != (num_players, num_players) or drawn.shape != won.shape:
        raise RunError(
            f"wins and draws must be [{num_players}, {num_players}], found {list(won.shape)} and {list(drawn.shape)}"
        )
    if not all(isfinite(x) and x >= 0 for x in (*won.flat, *drawn.flat)) or (drawn != drawn.T).any():
        raise RunError("wins and draws must be counts of at least 0, and draws the same both ways")
    met = (won + won.T + drawn) > 0
    reached, waiting = {names.index(anchor)}, [names.index(anchor)]
    while waiting:
        new = set(np.flatnonzero(met[waiting.pop()]).tolist()) - reached
        reached |= new
        waiting += new
    if lost := [name for i, name in enumerate(names) if i not in reached]:
        raise RunError(f"no games lead from {', '.join(lost)} to the anchor {anchor}: they cannot be rated together")


__all__ = ["Rating", "Tally", "elo_ratings", "expected_score"]
