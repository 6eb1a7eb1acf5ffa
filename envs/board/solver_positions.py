"""Connect four against the truth: positions of which a perfect solver knows the score of every move.

N positions, A = 7 columns. The scores count from the mover: above 0 it wins, 0 is a draw.
"""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.board.exact import BoardPolicy, checked_probs
from triathlon.envs.board.games import load_game, parameters_of
from triathlon.envs.errors import EnvError

if TYPE_CHECKING:
    import pyspiel

FILE = "connect_four_positions.json"
STANDARD = {"rows": 6, "columns": 7, "x_in_row": 4}


@dataclass(frozen=True)
class SolverPositions:
    """Positions with the outcome of every move: 250 from random play (`kind` "random") and 250 from mixed play."""

    game: pyspiel.Game
    states: list[pyspiel.State]  # N
    kinds: list[str]  # N
    outcomes: NDArray[np.int8]  # [N, A]: 1 the mover wins, 0 draw, -1 it loses, -2 the column is full

    @classmethod
    def load(cls, game: pyspiel.Game | None = None) -> SolverPositions:
        """The positions that come with Triathlon, as states of `game` (by default plain connect four).

        Raises:
            EnvError: the game is not connect four on 6×7.
        """
        game = load_game("connect_four") if game is None else game
        parameters = parameters_of(game)
        if game.get_type().short_name != "connect_four" or any(parameters[k] != v for k, v in STANDARD.items()):
            raise EnvError(f"the solver's positions are of connect four on 6 rows and 7 columns, not of {game}")
        text = importlib.resources.files("triathlon.envs.board").joinpath("data", FILE).read_text(encoding="utf-8")
        rows = json.loads(text)["positions"]
        states, outcomes = [], np.full((len(rows), game.num_distinct_actions()), -2, np.int8)
        for row, outcome in zip(rows, outcomes, strict=True):
            state = game.new_initial_state()
            for move in row["moves"]:
                state.apply_action(move)
            states.append(state)
            for column, score in row["score"].items():
                outcome[int(column)] = np.sign(score)
        return cls(game, states, [row["kind"] for row in rows], outcomes)

    def outcome_preserving_share(self, policy: BoardPolicy) -> dict[str, float]:
        """For each kind: the share of moves that keep the best outcome, over the positions in which moves differ.

        A policy that is not sure of its move counts by the probability that it gives to such moves: uniform play
        keeps 0.34 of both kinds.

        Raises:
            EnvError: the policy gives probabilities of another shape.
        """
        probs = checked_probs(policy, self.states, self.game)
        best = self.outcomes.max(axis=1, keepdims=True)
        keeps = self.outcomes == best
        differ = (~keeps & (self.outcomes > -2)).any(axis=1)
        share = (probs * keeps).sum(axis=1)
        kinds = np.array(self.kinds)
        return {kind: float(share[differ & (kinds == kind)].mean()) for kind in dict.fromkeys(self.kinds)}


__all__ = ["SolverPositions"]
