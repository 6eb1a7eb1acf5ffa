"""Players that search the game itself, without knowledge of it: Monte-Carlo tree search, alpha-beta, perfect play."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from triathlon.envs.board.exact import GameGraph
from triathlon.envs.board.games import spiel

if TYPE_CHECKING:
    import pyspiel

SOONER = 0.99  # what a win is worth a ply later: of two wins the sooner is played, of two losses the later
MCTS_MEMORY_MB = 1_000  # at a thousand simulations a few megabytes are used


class MctsPlayer:
    """open_spiel's C++ Monte-Carlo tree search with one random rollout a simulation (UCT, c = 2, solving proven nodes).

    Kocsis & Szepesvári 2006; Winands et al. 2008 for the proven nodes. Games with dice are searched through their
    chance nodes. Each move starts a new tree.
    """

    def __init__(
        self, game: pyspiel.Game, num_simulations: int, rng: np.random.Generator, name: str | None = None
    ) -> None:
        self.name = name or f"mcts:{num_simulations}"
        pyspiel = spiel(self.name)
        rollouts = pyspiel.RandomRolloutEvaluator(n_rollouts=1, seed=int(rng.integers(2**31)))
        self._bot = pyspiel.MCTSBot(
            game,
            rollouts,
            uct_c=2.0,
            max_simulations=num_simulations,
            max_memory_mb=MCTS_MEMORY_MB,
            solve=True,
            seed=int(rng.integers(2**31)),
            verbose=False,
        )

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        return [int(self._bot.step(state)) for state in states]

    def close(self) -> None:
        pass


class MinimaxPlayer:
    """Alpha-beta to a fixed depth in plies, random among equally good moves; exact once the end is within reach.

    A position at the depth limit counts as a draw: nothing is known of the game but its rules. Knuth & Moore 1975.
    """

    def __init__(self, depth: int, rng: np.random.Generator, name: str | None = None) -> None:
        self.name = name or f"minimax:{depth}"
        self._depth = depth
        self._rng = rng

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        return [self._choose(state) for state in states]

    def _choose(self, state: pyspiel.State) -> int:
        player = state.current_player()
        best, best_actions = -np.inf, [-1]
        for action in self._rng.permutation(state.legal_actions()).tolist():
            # Below the best by less than two values can differ: an equally good move gets its exact value too.
            value = _alpha_beta(state.child(action), player, self._depth - 1, best - 1e-9, np.inf)
            if value > best:
                best, best_actions = value, []
            if value == best:
                best_actions.append(action)
        return int(self._rng.choice(best_actions))

    def close(self) -> None:
        pass


def _alpha_beta(state: pyspiel.State, player: int, depth: int, alpha: float, beta: float) -> float:
    """The value for `player`, in [-1, 1] and worth less the later it comes; outside `(alpha, beta)` only a bound."""
    if state.is_terminal():
        return float(np.sign(state.player_return(player)))
    if depth == 0:
        return 0.0
    maximizing = state.current_player() == player
    value = -np.inf if maximizing else np.inf
    for action in state.legal_actions():
        found = SOONER * _alpha_beta(state.child(action), player, depth - 1, alpha / SOONER, beta / SOONER)
        if maximizing:
            value = max(value, found)
            alpha = max(alpha, value)
        else:
            value = min(value, found)
            beta = min(beta, value)
        if alpha >= beta:
            break
    return value


class PerfectPlayer:
    """Plays a small game by its exact solution, random among the moves that keep the best result.

    It does not prefer sooner wins. Solving takes seconds; games of more than a million positions are refused.
    """

    def __init__(self, game: pyspiel.Game, rng: np.random.Generator, name: str = "perfect") -> None:
        self.name = name
        self._graph = _solved(str(game))
        self._rng = rng

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        return [int(self._rng.choice(self._graph.best_actions(state))) for state in states]

    def close(self) -> None:
        pass


@lru_cache(maxsize=1)
def _solved(game: str) -> GameGraph:
    """The solution of a game by its text; the last one is kept, for players that are made again for the same game."""
    return GameGraph(spiel().load_game(game))


__all__ = ["MctsPlayer", "MinimaxPlayer", "PerfectPlayer"]
