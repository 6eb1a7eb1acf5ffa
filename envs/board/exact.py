"""Exact measures of small games: the value of perfect play, and how much a policy loses against its best opponent.

N positions in which someone moves, E moves between positions, A actions. A policy is a function
`states -> probs [N, A]`: the probability of every action in each of N states, 0 where an action is not legal.

Two-player zero-sum games without chance or hidden information become a graph of positions, level by level in plies,
solved from the last level to the first. Positions, not histories: tic-tac-toe has 4,520 of the first and 294,778 of the
second in which someone moves. Poker is measured by open_spiel's own `nash_conv`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.board.games import is_perfect, spiel
from triathlon.envs.board.player import Player
from triathlon.envs.errors import EnvError

if TYPE_CHECKING:
    import pyspiel

Position: TypeAlias = tuple[int, int, str]  # the ply, who is to move, and what open_spiel prints
BoardPolicy: TypeAlias = "Callable[[Sequence[pyspiel.State]], NDArray[np.floating]]"

# What ends these games, or is legal in them, depends on earlier positions. (xiangqi has no such rule in open_spiel.)
REPETITION_RULES = (
    *("antichess", "checkers", "chess", "crazyhouse", "cursor_go", "go", "lines_of_action", "oware", "shogi"),
)

BATCH = 4096  # states given to a policy at once


@dataclass(frozen=True, slots=True)
class Exploitability:
    """What a best response earns (in the game's returns) against a policy that plays first, and second.

    First means open_spiel's player 0, which moves first in every game that is small enough. `mistakes` is finer: how
    often the policy gives away the result of perfect play, over all positions in which some moves do and some do not.
    """

    against_first: float
    against_second: float
    mistakes: float

    @property
    def mean(self) -> float:
        """Half of NashConv: 0 for perfect play, the same number as `pyspiel.exploitability`."""
        return (self.against_first + self.against_second) / 2


class GameGraph:
    """All positions of a small game and the moves between them; made once (seconds), then measured against many times.

    Raises:
        EnvError: the game has chance, hidden information or more than `max_positions` positions, is not zero-sum, or
            what may follow a position depends on the moves before it.
    """

    states: list[pyspiel.State]  # N, by plies: a state stands for every history that leads to its position
    value: float  # of the game for the first player under perfect play

    def __init__(self, game: pyspiel.Game, max_positions: int = 1_000_000) -> None:
        refuse_unsolvable(game)
        self._game = game
        self._max_positions = max_positions
        self._build()
        self._values = self._induce(self._perfect)
        self.value = float(self._values[0])

    def best_actions(self, state: pyspiel.State) -> list[int]:
        """Every action that keeps the result of perfect play in this position.

        Raises:
            EnvError: the position does not belong to this game.
        """
        node = self._index.get(_position(state))
        if node is None:
            raise EnvError(f"this position is none of {self._game}:\n{state}")
        edges = slice(self._first_edge[node], self._first_edge[node + 1])
        after = self._after(self._values, edges)
        return [int(action) for action in self._action[edges][after == self._values[node]]]

    def exploitability(self, policy: BoardPolicy) -> Exploitability:
        """How much a best response earns against `policy` on each side.

        Raises:
            EnvError: the policy's probabilities have the wrong shape or do not sum to 1 over the legal actions.
        """
        probs = self._edge_probs(policy)
        second = self._induce(lambda values, edges, nodes: self._respond(1, probs, values, edges, nodes))
        first = self._induce(lambda values, edges, nodes: self._respond(0, probs, values, edges, nodes))
        return Exploitability(-float(second[0]), float(first[0]), self._mistakes(probs))

    def never_loses(self, policy: BoardPolicy) -> tuple[bool, bool]:
        """Whether no opponent can ever beat `policy` when it plays first, and when it plays second.

        Every action with a probability above 0 counts as played.

        Raises:
            EnvError: as `exploitability`.
        """
        played = self._edge_probs(policy) > 0
        as_first = self._induce(lambda values, edges, nodes: self._worst(0, played, values, edges, nodes))
        as_second = self._induce(lambda values, edges, nodes: self._worst(1, played, values, edges, nodes))
        return bool(as_first[0] >= 0), bool(as_second[0] <= 0)

    def _build(self) -> None:
        root = self._game.new_initial_state()
        self.states, self._index = [root], {_position(root): 0}
        actions: list[list[int]] = [root.legal_actions()]
        levels, target, result = [0], list[int](), list[float]()
        ends: dict[tuple[int, str], float] = {}  # the results of positions in which a game was over
        while levels[-1] < len(self.states):
            first, last = levels[-1], len(self.states)
            levels.append(last)
            for node in range(first, last):
                for action in actions[node]:
                    child = self.states[node].child(action)
                    over, position = child.is_terminal(), _position(child)
                    result.append(child.player_return(0) if over else 0.0)
                    target.append(-1 if over else self._node(child, position, actions))
                    self._refuse_memory(position, result[-1] if over else None, ends)
        self._levels = levels
        self._player = np.array([state.current_player() for state in self.states], np.int8)
        self._action = np.concatenate([np.array(row, np.int32) for row in actions])
        self._first_edge = np.concatenate([[0], np.cumsum([len(row) for row in actions])])
        self._target, self._result = np.array(target, np.int64), np.array(result, np.float64)

    def _node(self, state: pyspiel.State, position: Position, actions: list[list[int]]) -> int:
        """The node of a position, a new one if it was not met before."""
        node = self._index.setdefault(position, len(self.states))
        legal = state.legal_actions()
        if node == len(self.states):
            self.states.append(state)
            actions.append(legal)
            if node >= self._max_positions:
                raise EnvError(f"{self._game} is too large to be solved: more than {self._max_positions:,} positions")
        elif legal != actions[node]:
            raise EnvError(f"{self._game} cannot be solved by its positions: what is legal depends on the moves before")
        return node

    def _refuse_memory(self, position: Position, result: float | None, ends: dict[tuple[int, str], float]) -> None:
        """Raises EnvError where a position has this `result` (None: it goes on), and by other moves had another."""
        ply, _, text = position
        if result is None:
            same = (ply, text) not in ends
        else:
            goes_on = any((ply, player, text) in self._index for player in (0, 1))
            same = not goes_on and ends.setdefault((ply, text), result) == result
        if not same:
            raise EnvError(f"{self._game} cannot be solved by its positions: when it ends depends on the moves before")

    def _after(self, values: NDArray[np.float64], edges: slice) -> NDArray[np.float64]:
        """The value for the first player after each of these moves."""
        target = self._target[edges]
        return np.where(target < 0, self._result[edges], values[target])

    def _induce(
        self, node_values: Callable[[NDArray[np.float64], slice, slice], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Values `[N]` for the first player, from the last level to the first by one rule for each level's nodes."""
        values = np.zeros(len(self.states))
        for first, last in zip(self._levels[-2::-1], self._levels[:0:-1], strict=True):
            edges = slice(self._first_edge[first], self._first_edge[last])
            values[first:last] = node_values(values, edges, slice(first, last))
        return values

    def _reduce(self, ufunc: np.ufunc, x: NDArray[Any], edges: slice, nodes: slice) -> NDArray[Any]:
        """`ufunc` over the moves of each node."""
        reduced: NDArray[Any] = ufunc.reduceat(x, self._first_edge[nodes] - edges.start)
        return reduced

    def _perfect(self, values: NDArray[np.float64], edges: slice, nodes: slice) -> NDArray[np.float64]:
        after = self._after(values, edges)
        best, worst = (self._reduce(ufunc, after, edges, nodes) for ufunc in (np.maximum, np.minimum))
        return np.where(self._player[nodes] == 0, best, worst)

    def _respond(
        self, responder: int, probs: NDArray[np.float64], values: NDArray[np.float64], edges: slice, nodes: slice
    ) -> NDArray[np.float64]:
        """The responder's side plays its best move, the other side by the policy."""
        after = self._after(values, edges)
        best = self._reduce((np.maximum, np.minimum)[responder], after, edges, nodes)
        expected = self._reduce(np.add, probs[edges] * after, edges, nodes)
        return np.where(self._player[nodes] == responder, best, expected)

    def _mistakes(self, probs: NDArray[np.float64]) -> float:
        edges, nodes = slice(0, len(self._action)), slice(0, len(self.states))
        keeps = self._after(self._values, edges) == np.repeat(self._values, np.diff(self._first_edge))
        matters = ~self._reduce(np.logical_and, keeps, edges, nodes)
        return float(self._reduce(np.add, probs * ~keeps, edges, nodes)[matters].mean()) if matters.any() else 0.0

    def _worst(
        self, side: int, played: NDArray[np.bool_], values: NDArray[np.float64], edges: slice, nodes: slice
    ) -> NDArray[np.float64]:
        """Both sides do the worst for `side`, which is bound to what its policy may play."""
        after = self._after(values, edges)
        bound = np.repeat(self._player[nodes] == side, np.diff(self._first_edge[nodes.start : nodes.stop + 1]))
        after = np.where(bound & ~played[edges], (np.inf, -np.inf)[side], after)
        return self._reduce((np.minimum, np.maximum)[side], after, edges, nodes)

    def _edge_probs(self, policy: BoardPolicy) -> NDArray[np.float64]:
        """The policy's probability `[E]` of each move."""
        sources = np.repeat(np.arange(len(self.states)), np.diff(self._first_edge))
        probs = np.empty(len(self._action))
        for first in range(0, len(self.states), BATCH):
            last = min(first + BATCH, len(self.states))
            rows = checked_probs(policy, self.states[first:last], self._game)
            edges = slice(self._first_edge[first], self._first_edge[last])
            probs[edges] = rows[sources[edges] - first, self._action[edges]]
            sums = np.add.reduceat(probs[edges], self._first_edge[first:last] - edges.start)
            if not np.allclose(sums, 1, atol=1e-4):
                raise EnvError(f"a policy's probabilities of the legal actions must sum to 1, found {sums.min():.4f}")
        return probs


def nash_conv(game: pyspiel.Game, policy: BoardPolicy) -> float:
    """What both sides together could gain over `policy` (in the game's returns), for small games with hidden cards.

    The policy is asked once for each information state, with some state of that information: it must not look at what
    the mover does not see. Uniform play has 0.9167 in Kuhn poker and 4.7472 in Leduc poker (0.1 s).
    """
    known: dict[str, pyspiel.State] = {}
    waiting = [game.new_initial_state()]
    while waiting:
        state = waiting.pop()
        if state.is_terminal():
            continue
        if state.is_player_node():
            known.setdefault(state.information_state_string(), state)
        waiting += [state.child(action) for action in state.legal_actions()]
    probs = checked_probs(policy, list(known.values()), game)
    table = {
        name: [(action, float(row[action])) for action in state.legal_actions()]
        for (name, state), row in zip(known.items(), probs, strict=True)
    }
    return float(spiel().nash_conv(game, table))


def checked_probs(policy: BoardPolicy, states: Sequence[pyspiel.State], game: pyspiel.Game) -> NDArray[np.float64]:
    """`policy(states)` as `[N, A]`.

    Raises:
        EnvError: it has another shape.
    """
    probs = np.asarray(policy(states), np.float64)
    expected = (len(states), game.num_distinct_actions())
    if probs.shape != expected:
        raise EnvError(f"a policy for {game} must give probabilities of shape {expected}, found {probs.shape}")
    return probs


def uniform_policy(states: Sequence[pyspiel.State]) -> NDArray[np.float64]:
    """Every legal action with the same probability."""
    probs = np.zeros((len(states), states[0].num_distinct_actions()))
    for row, state in zip(probs, states, strict=True):
        legal = state.legal_actions()
        row[legal] = 1 / len(legal)
    return probs


def policy_of(player: Player) -> BoardPolicy:
    """The policy of a player that always does what it chooses now: 1 for that action."""

    def policy(states: Sequence[pyspiel.State]) -> NDArray[np.float64]:
        probs = np.zeros((len(states), states[0].num_distinct_actions()))
        probs[np.arange(len(states)), player.choose(states)] = 1
        return probs

    return policy


def refuse_unsolvable(game: pyspiel.Game) -> None:
    """Raise EnvError unless the game has two players, a zero sum, and neither chance nor hidden information."""
    kind = game.get_type()
    wants = {
        "two players": game.num_players() == 2,
        "a zero sum": kind.utility == kind.Utility.ZERO_SUM,
        "no chance": kind.chance_mode == kind.ChanceMode.DETERMINISTIC,
        "nothing hidden": is_perfect(kind),
        "one side to move at a time": kind.dynamics == kind.Dynamics.SEQUENTIAL,
        "no rule on repeated positions": kind.short_name not in REPETITION_RULES,
    }
    if missing := [name for name, holds in wants.items() if not holds]:
        raise EnvError(f"{game} cannot be solved by its positions: that needs a game with {' and '.join(missing)}")


def _position(state: pyspiel.State) -> Position:
    """What decides the rest of the game; the ply too, because some rules count moves."""
    return state.move_number(), state.current_player(), str(state)


__all__ = [
    "BoardPolicy",
    "Exploitability",
    "GameGraph",
    "checked_probs",
    "nash_conv",
    "policy_of",
    "refuse_unsolvable",
    "uniform_policy",
]
