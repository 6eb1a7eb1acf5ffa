"""A sum tree: priorities in the leaves, each node the sum of its children, so that drawing by priority is a descent.

N leaves in one call, F children of a node. The tree is wide instead of binary: a million leaves are five levels of
F = 16 and not twenty of 2, and numpy is as quick to look at 16 numbers in a row as at 2. All N descend together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FAN_OUT = 16


class SumTree:
    """Non-negative float64 priorities of `capacity` leaves, 0 at first (Schaul et al. 2016, B.2.1).

    A node is always summed anew from its children, never corrected by a difference: no rounding error gathers over a
    long run, and the inner nodes follow from the leaves to the bit.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        sizes = [-(-capacity // FAN_OUT)]
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // FAN_OUT))
        # Level 0 holds the leaves; every level is padded to whole families, [families, F], the last being one family.
        self._sums = [np.zeros((size, FAN_OUT)) for size in sizes]
        # What stands before each child of a family, and at the end the family's sum: kept, because there are more draws
        # than changes, and a draw then only compares.
        self._before = [np.zeros((size, FAN_OUT + 1)) for size in sizes]
        # The least positive priority below each node, inf where there is none; the leaves are their own.
        self._mins = [np.full((size, FAN_OUT), np.inf) for size in sizes[1:]]

    @staticmethod
    def nbytes(capacity: int) -> int:
        """Bytes of a tree of so many leaves, roughly: priorities, running sums, and a share for the levels above."""
        return 18 * capacity

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._before[-1][0, -1])

    @property
    def smallest(self) -> float:
        """The least priority that is not 0; inf if all are."""
        if self._mins:
            return float(self._mins[-1].min())
        return float(np.where(self._sums[0] > 0, self._sums[0], np.inf).min())

    def get(self, leaf: NDArray[np.int64]) -> NDArray[np.float64]:
        """The priorities of the leaves `[N]`."""
        priority: NDArray[np.float64] = self._sums[0].ravel()[leaf]
        return priority

    def set(self, leaf: NDArray[np.int64], priority: NDArray[np.float64] | float) -> None:
        """Give the leaves `[N]` new priorities; where a leaf is named twice the later one stands."""
        self._sums[0].ravel()[leaf] = priority
        family = leaf
        for depth, (sums, before) in enumerate(zip(self._sums, self._before, strict=True)):
            # One that is named twice comes to the same twice; at the top, where most would be, all are done once.
            family = family // FAN_OUT if len(family) < len(sums) else np.arange(len(sums))
            children = sums.take(family, 0)
            running = children.cumsum(1)
            before[family, 1:] = running
            if depth + 1 < len(self._sums):
                least = self._mins[depth - 1].take(family, 0) if depth else np.where(children > 0, children, np.inf)
                self._sums[depth + 1].ravel()[family] = running[:, -1]
                self._mins[depth].ravel()[family] = least.min(1)

    def find(self, prefix: NDArray[np.float64]) -> NDArray[np.int64]:
        """The leaves `[N]` at which the running sum of priorities first exceeds `prefix [N]`, each in [0, total)."""
        family = np.zeros(len(prefix), np.int64)
        for before in reversed(self._before):
            running = before.take(family, 0)
            # Rounding may carry the rest up to the family's own sum, where there is no child any more.
            prefix = np.minimum(prefix, np.nextafter(running[:, -1], 0))
            child = (running[:, 1:] > prefix[:, None]).argmax(1)
            prefix = prefix - before.ravel().take(family * (FAN_OUT + 1) + child)
            family = family * FAN_OUT + child
        return family

    def sample(self, num: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """`num` leaves drawn by priority, one from each of `num` equal shares of the total, in random order.

        Stratified as in Schaul et al. 2016, B.2.1. Shuffled so that any part of the answer is a fair minibatch.
        """
        share = (np.arange(num) + generator.random(num)) / num
        return generator.permutation(self.find(share * self.total))

    def state_dict(self) -> dict[str, Any]:
        """The leaves; a view, so copy it to keep it."""
        return {"priority": self._sums[0].ravel()[: self.capacity]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the leaves of a tree of the same capacity."""
        self.set(np.arange(self.capacity), state["priority"])


__all__ = ["SumTree"]
