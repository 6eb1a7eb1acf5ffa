"""Players without search: uniformly random, and greedy by one ply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyspiel


class RandomPlayer:
    """Every legal action with the same probability: the zero of every rating."""

    def __init__(self, rng: np.random.Generator, name: str = "random") -> None:
        self.name = name
        self._rng = rng

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        legal = [state.legal_actions() for state in states]
        draws = self._rng.random(len(states))
        return [actions[int(draw * len(actions))] for actions, draw in zip(legal, draws, strict=True)]

    def close(self) -> None:
        pass


class GreedyPlayer:
    """Wins at once where it can; else draws a move that does not let the other side win at once; else any move.

    For games without hidden information: it looks at the positions after its moves.
    """

    def __init__(self, rng: np.random.Generator, name: str = "greedy") -> None:
        self.name = name
        self._rng = rng

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        return [self._choose(state) for state in states]

    def _choose(self, state: pyspiel.State) -> int:
        player = state.current_player()
        actions: list[int] = self._rng.permutation(state.legal_actions()).tolist()
        children = [state.child(action) for action in actions]
        for action, child in zip(actions, children, strict=True):
            if _has_won(child, player):
                return action
        for action, child in zip(actions, children, strict=True):
            if not _can_win_at_once(child, 1 - player):
                return action
        return actions[0]

    def close(self) -> None:
        pass


def _has_won(state: pyspiel.State, player: int) -> bool:
    return bool(state.is_terminal() and state.player_return(player) > 0)


def _can_win_at_once(state: pyspiel.State, player: int) -> bool:
    """Whether `player` has won or is to move and can win by that move."""
    if state.is_terminal() or state.current_player() != player:
        return _has_won(state, player)
    return any(_has_won(state.child(action), player) for action in state.legal_actions())


__all__ = ["GreedyPlayer", "RandomPlayer"]
