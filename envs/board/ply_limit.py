"""Games that are cut after so many moves, and how they then count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from triathlon.envs.board.planes import Planes
from triathlon.envs.errors import EnvError

AtLimit: TypeAlias = Literal["draw", "material"]

MOST = 0.5  # of a win, for all the pieces there are


def draw(state: Any) -> float:
    """Nobody has won."""
    return 0.0


@dataclass(frozen=True)
class PlyLimit:
    """`max_plies` moves of both sides together, dice and cards not counted; None: games are never cut."""

    max_plies: int | None = None
    result: Callable[[Any], float] = draw
    """What a cut game is worth to player 0, from -1 to 1."""

    def is_reached(self, num_plies: int) -> bool:
        """Is a game of so many moves cut?"""
        return self.max_plies is not None and num_plies >= self.max_plies


def make_limit(planes: Planes, name: str, max_plies: int | None, at_limit: AtLimit) -> PlyLimit:
    """The limit of a game called `name`.

    With `material` a cut game counts by what stands on the board: the worth of player 0's pieces less that of player
    1's, as a share of both, and half of that, so that who has taken everything still wants to win.

    Raises:
        EnvError: pieces are to be counted in a game whose pieces' worth is not known.
    """
    if at_limit == "draw":
        return PlyLimit(max_plies)
    worth = np.array(planes.layout.worth)
    if not len(worth):
        raise EnvError(
            f"env.board.at_limit is material, but what pieces are worth is not known in {name}, only in breakthrough, "
            "checkers and chess; set it to draw"
        )

    def material(state: Any) -> float:
        (seen,) = planes.see([state], np.zeros(1, np.intp))
        own, other = (worth * seen[: 2 * len(worth)].sum((1, 2)).reshape(2, -1)).sum(1)
        return float(MOST * (own - other) / (own + other)) if own + other else 0.0

    return PlyLimit(max_plies, material)


NO_LIMIT = PlyLimit()

__all__ = ["NO_LIMIT", "AtLimit", "PlyLimit", "draw", "make_limit"]
