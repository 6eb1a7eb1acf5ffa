"""Priorities of what a replay holds, and drawing by them (Schaul et al. 2016, section 3.3).

N samples of a draw, L trained rows of each. A leaf is a place in the ring of starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.agents.sum_tree import SumTree

Index = NDArray[np.int64]
Floats = NDArray[np.float64]

SMALLEST_ERROR = 1e-6  # added to |TD error|: what was once learnt perfectly may still be drawn


class Priorities:
    """A sum tree over the leaves that can be drawn; what is new has the greatest priority that was ever given.

    The priority of a sequence is `eta * max + (1 - eta) * mean` of its absolute TD errors (R2D2: Kapturowski et al.
    2019, section 2.3), to the power of `exponent`.
    """

    def __init__(self, num_leaves: int, exponent: float, eta: float) -> None:
        self.exponent, self.eta = exponent, eta
        self.greatest = 1.0
        self.tree = SumTree(num_leaves)

    def admit(self, leaf: Index, playable: NDArray[np.bool_]) -> None:
        """Let leaves be drawn from now on where they are `playable`; those that already could keep their priority."""
        before = self.tree.get(leaf)
        self.tree.set(leaf, np.where(playable, np.where(before > 0, before, self.greatest), 0.0))

    def drop(self, leaf: Index) -> None:
        """Leaves that cannot be drawn any more."""
        self.tree.set(leaf, 0.0)

    def weights(self, leaf: Index, beta: float) -> NDArray[np.float32]:
        """Importance weights `(N P)^-beta` over the largest possible: N and the total cancel, the least remains."""
        weights: NDArray[np.float32] = ((self.tree.get(leaf) / self.tree.smallest) ** -beta).astype(np.float32)
        return weights

    def update(self, leaf: Index, alive: NDArray[np.bool_], td_error: NDArray[Any], trained: NDArray[np.bool_]) -> None:
        """New priorities of the leaves `[N]` that are `alive [N]`, from the errors `[L, N]` of the rows `trained`."""
        error = np.where(trained, np.abs(td_error.astype(np.float64, copy=False)), 0.0)
        mean = error.sum(0) / np.maximum(trained.sum(0), 1)
        size = self.eta * error.max(0) + (1 - self.eta) * mean
        priority = (size + SMALLEST_ERROR) ** self.exponent
        alive = alive & (self.tree.get(leaf) > 0)
        if alive.any():
            self.tree.set(leaf[alive], priority[alive])
            self.greatest = max(self.greatest, float(priority[alive].max()))

    def state_dict(self) -> dict[str, Any]:
        """The leaves, as a view, and the greatest priority."""
        return {"greatest": self.greatest, **self.tree.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`, for as many leaves."""
        self.greatest = state["greatest"]
        self.tree.load_state_dict(state)


__all__ = ["Priorities"]
