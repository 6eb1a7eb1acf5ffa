"""The trees of N games that are searched side by side, in arrays: a row for each node, a column for each legal action.

N games, M nodes of all trees, K columns (as many as the widest node needs), A actions of the game.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.board.ply_limit import NO_LIMIT, PlyLimit
from triathlon.envs.board.starts import plies_of

if TYPE_CHECKING:
    import pyspiel

# Probabilities [N, A] of the game's actions, and values [N] for whoever is to move, of N positions.
Assess: TypeAlias = "Callable[[Sequence[pyspiel.State]], tuple[NDArray[np.floating], NDArray[np.floating]]]"
Choose: TypeAlias = Callable[[NDArray[np.intp]], NDArray[np.intp]]  # a column for each of some nodes

NONE = -1
UNKNOWN, NO_COLUMN = np.nan, -2.0
CHANCE, TERMINAL = -1, -4  # open_spiel's numbers of who is to move where nobody is
TAIL = 1e-12  # what rounding may leave of a probability


class Trees:
    """Node i < N is the root of game i. Values are in [-1, 1]: 1 is the most that the game can pay.

    Where the dice decide there is a node of its own, left by an outcome drawn from the game's generator. A node's
    `worth` is for player 0, an edge's `total` for whoever moves there, so that a value changes its sign only where the
    mover changes. A game that reaches the `limit` is cut.

    With `prove`, a position whose result is certain is carried up (Winands et al. 2008, "Monte-Carlo Tree Search
    Solver", and draws by the same token): it is won if a move wins, and settled once all its moves are. What is settled
    is not searched further.
    """

    def __init__(
        self,
        states: Sequence[pyspiel.State],
        assess: Assess,
        rngs: Sequence[np.random.Generator],
        num_simulations: int,
        prove: bool = True,
        limit: PlyLimit = NO_LIMIT,
    ) -> None:
        self.num_games, self.num_nodes = len(states), 0
        self.states: list[pyspiel.State] = []
        self._assess, self._rngs, self._prove, self._limit = assess, rngs, prove, limit
        self._most = float(states[0].get_game().max_utility())
        rows, columns = self.num_games * (num_simulations + 1), max(len(state.legal_actions()) for state in states)
        self.mover = np.full(rows, TERMINAL, np.int8)  # [M]
        self.worth = np.zeros(rows, np.float32)  # [M]: of the position by itself; of a settled one the result
        self.settled = np.zeros(rows, np.bool_)  # [M]: the result is known
        self.num_plies = np.zeros(rows, np.int32)  # [M]: from the beginning of the game; counted if there is a limit
        self.parent = np.full(rows, NONE, np.int32)  # [M]
        self.via = np.full(rows, NONE, np.int32)  # [M]: the column of the parent
        self.action = np.full((rows, columns), NONE, np.int32)  # [M, K]: the game's name of it; -1: no such column
        self.prior = np.zeros((rows, columns), np.float32)
        self.visits = np.zeros((rows, columns), np.int32)
        self.total = np.zeros((rows, columns), np.float32)  # of the values found below
        self.exact = np.full((rows, columns), NO_COLUMN, np.float32)  # the result where it is known, else NaN
        self.child = np.full((rows, columns), NONE, np.int32)
        num_plies = [0 if limit.max_plies is None else plies_of(state) for state in states]
        self.roots = np.array(list(map(self._add, states, num_plies)), np.intp)
        self._look(self.roots)

    def simulate(self, choose_root: Choose, choose: Choose) -> None:
        """One more leaf in each game that is not settled, all looked at together, and its value carried up.

        `choose_root` is asked for the columns of roots, `choose` for those of nodes below in which somebody moves.
        """
        at, games = self.roots.copy(), np.flatnonzero(~self.settled[self.roots])
        if not len(games):
            return
        path: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]] = []
        fresh: list[int] = []
        columns = choose_root(at[games])
        while True:
            nodes = at[games]
            path.append((games, nodes, columns))
            below = self.child[nodes, columns].astype(np.intp)
            goes_on = below != NONE
            for i in np.flatnonzero(~goes_on).tolist():
                below[i] = node = self._grow(nodes[i], columns[i])
                if self.mover[node] >= 0:
                    fresh.append(node)
                goes_on[i] = self.mover[node] == CHANCE
            at[games] = below
            games = games[goes_on & ~self.settled[below]]
            if not len(games):
                break
            columns = self._leave(at[games], games, choose)
        if fresh:
            self._look(np.array(fresh, np.intp))
        found = self.worth[at]
        for games, nodes, columns in path:
            self.visits[nodes, columns] += 1
            self.total[nodes, columns] += found[games] * self.sign(nodes)
        if self._prove:
            for node in at[self.settled[at]].tolist():
                self._carry_up(node)

    def sign(self, nodes: NDArray[np.intp]) -> NDArray[np.int8]:
        """What turns a value for player 0 into one for the mover; 0 where nobody moves."""
        movers = self.mover[nodes]
        signs: NDArray[np.int8] = (movers == 0).astype(np.int8) - (movers == 1)
        return signs

    def own(self, nodes: NDArray[np.intp]) -> NDArray[np.float32]:
        """`[n]`: what the positions by themselves are worth to the movers."""
        return self.worth[nodes] * self.sign(nodes)

    def by_action(self, nodes: NDArray[np.intp], values: NDArray[Any], num_actions: int) -> NDArray[np.float32]:
        """Values `[n, K]` of columns as `[n, A]`; 0 for what is not legal."""
        spread = np.zeros((len(nodes), num_actions), np.float32)
        rows, columns = np.nonzero(self.action[nodes] >= 0)
        spread[rows, self.action[nodes][rows, columns]] = values[rows, columns]
        return spread

    def in_utility(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values in what the game pays."""
        return values * np.float32(self._most)

    def _leave(self, nodes: NDArray[np.intp], games: NDArray[np.intp], choose: Choose) -> NDArray[np.intp]:
        drawn = self.mover[nodes] == CHANCE
        if not drawn.any():
            return choose(nodes)
        columns = np.empty(len(nodes), np.intp)
        columns[~drawn] = choose(nodes[~drawn])
        for i in np.flatnonzero(drawn):
            reached = np.cumsum(self.prior[nodes[i]], dtype=np.float64)
            columns[i] = np.searchsorted(reached, self._rngs[games[i]].random() * (reached[-1] - TAIL), side="right")
        return columns

    def _grow(self, node: int, column: int) -> int:
        """The position after an action that was never tried."""
        after = self.states[node].child(int(self.action[node, column]))
        child = self._add(after, int(self.num_plies[node]) + int(self.mover[node] >= 0))
        self.child[node, column], self.parent[child], self.via[child] = child, node, column
        return child

    def _carry_up(self, node: int) -> None:
        """What follows for the positions above from a settled one. Dice are not looked through."""
        while (parent := int(self.parent[node])) != NONE and self.mover[parent] != CHANCE:
            column, sign = self.via[node], 1 if self.mover[parent] == 0 else -1
            if self.exact[parent, column] == (result := sign * self.worth[node]):
                return
            self.exact[parent, column] = result
            self.total[parent, column] = result * self.visits[parent, column]
            best = self.exact[parent].max() if result < 1 else result
            if np.isnan(best):
                return
            self.settled[parent], self.worth[parent] = True, sign * best
            node = parent

    def _add(self, state: pyspiel.State, num_plies: int) -> int:
        node, mover = self.num_nodes, state.current_player()
        is_cut = mover != TERMINAL and self._limit.is_reached(num_plies)
        self.num_nodes += 1
        self.states.append(state)
        if mover == TERMINAL or is_cut:
            self._reserve(0)
            mover, result = TERMINAL, self._limit.result(state) if is_cut else state.player_return(0)
            self.settled[node], self.worth[node] = True, result / self._most
        elif mover == CHANCE:
            outcomes = state.chance_outcomes()
            self._reserve(len(outcomes))
            self.action[node, : len(outcomes)], self.prior[node, : len(outcomes)] = zip(*outcomes, strict=True)
        else:
            actions = state.legal_actions()
            self._reserve(len(actions))
            self.action[node, : len(actions)] = actions
            self.exact[node, : len(actions)] = UNKNOWN
        self.mover[node], self.num_plies[node] = mover, num_plies
        return node

    def _look(self, nodes: NDArray[np.intp]) -> None:
        """Ask about new positions, all at once."""
        probs, values = self._assess([self.states[node] for node in nodes])
        actions = self.action[nodes]
        priors = np.where(actions >= 0, np.take_along_axis(np.asarray(probs), np.maximum(actions, 0), 1) + TAIL, 0)
        self.prior[nodes] = priors / priors.sum(1, keepdims=True)
        self.worth[nodes] = np.clip(np.asarray(values) / self._most, -1, 1) * self.sign(nodes)

    def _reserve(self, num_columns: int) -> None:
        """Room for the last node, and for that many actions of it."""
        rows, columns = self.action.shape
        more_rows = rows if self.num_nodes > rows else 0
        more_columns = max(num_columns - columns, columns // 2) if num_columns > columns else 0
        if not more_rows and not more_columns:
            return
        of_edges = {"action": NONE, "prior": 0, "visits": 0, "total": 0, "exact": NO_COLUMN, "child": NONE}
        of_nodes = {"mover": TERMINAL, "worth": 0, "settled": False, "num_plies": 0, "parent": NONE, "via": NONE}
        for name, filler in (of_edges | of_nodes).items():
            old = getattr(self, name)
            more = ((0, more_rows), (0, more_columns))[: old.ndim]
            setattr(self, name, np.pad(old, more, constant_values=filler))


__all__ = ["Assess", "Choose", "Trees"]
