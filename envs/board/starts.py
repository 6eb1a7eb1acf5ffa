"""Where games begin: at the start, after random moves, or in the middle of a game that was played before.

A network that only sees the positions its own play leads to is beaten by whoever leaves them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError

NUM_KEPT = 256  # finished games that can be resumed
NUM_TRIES = 100  # until an opening is found that has not ended


@dataclass
class Match:
    """One game under way: its position, the plies played (dice and cards do not count), who made the first of them."""

    state: Any
    num_plies: int = 0
    first: int = -1
    resigned: int | None = None  # the side that gave up

    def play(self, action: int, rng: np.random.Generator) -> None:
        """Play a move, and whatever chance then decides."""
        self.apply(action)
        self.settle(rng)

    def apply(self, action: int) -> None:
        """Play a move, or a decision of chance."""
        player = self.state.current_player()
        if player >= 0:
            self.num_plies += 1
            if self.first < 0:
                self.first = player
        self.state.apply_action(action)

    def settle(self, rng: np.random.Generator) -> None:
        """Let chance decide until somebody is to move or the game is over."""
        while self.state.is_chance_node():
            self.state.apply_action(_drawn(self.state.chance_outcomes(), rng.random()))
        if self.first < 0:
            self.first = self.state.current_player()


def plies_of(state: Any) -> int:
    """The moves of both sides that led to a `pyspiel.State`; decisions of chance do not count."""
    return sum(move.player >= 0 for move in state.full_history())


def _drawn(outcomes: Sequence[tuple[int, float]], draw: float) -> int:
    """The outcome of chance that a number from 0 to 1 means."""
    for action, probability in outcomes:
        draw -= probability
        if draw < 0:
            return action
    return outcomes[-1][0]  # probabilities that come to a little less than 1


class Starts:
    """Draws where a game begins, and keeps the last finished games to go on from."""

    def __init__(self, game: Any, random_openings: float, opening_plies: int, resume_share: float) -> None:
        self.game = game
        self.random_openings = random_openings
        self.opening_plies = opening_plies
        self.resume_share = resume_share
        self.finished: deque[NDArray[np.int32]] = deque(maxlen=NUM_KEPT)  # all actions of each, those of chance too

    def keep(self, match: Match) -> None:
        """Remember a finished game, if games are resumed at all."""
        if self.resume_share > 0:
            self.finished.append(np.array(match.state.history(), np.int32))

    def draw(self, rng: np.random.Generator) -> Match:
        """A game that is not over and in which somebody is to move.

        Raises:
            EnvError: the game keeps ending during the opening.
        """
        share = rng.random()
        for _ in range(NUM_TRIES):
            if share < self.random_openings:
                match = self._opening(rng)
            elif share < self.random_openings + self.resume_share and self.finished:
                match = self._middle(rng)
            else:
                match = self.replay((), rng)
            if not match.state.is_terminal():
                return match
        raise EnvError(
            f"board/{self.game.get_type().short_name}: {NUM_TRIES} openings of up to {self.opening_plies} random plies "
            f"all ended the game; set env.board.opening_plies lower"
        )

    def replay(self, actions: Sequence[int], rng: np.random.Generator) -> Match:
        """The game after these actions of the players and of chance, and whatever chance then decides."""
        match = Match(self.game.new_initial_state())
        for action in actions:
            match.apply(action)
        match.settle(rng)
        return match

    def _opening(self, rng: np.random.Generator) -> Match:
        match = self.replay((), rng)
        for _ in range(int(rng.integers(1, self.opening_plies + 1))):
            if match.state.is_terminal():
                break
            actions = match.state.legal_actions()
            match.play(actions[int(rng.integers(len(actions)))], rng)
        return match

    def _middle(self, rng: np.random.Generator) -> Match:
        actions = self.finished[int(rng.integers(len(self.finished)))]
        return self.replay(actions[: int(rng.integers(len(actions)))].tolist(), rng)


__all__ = ["Match", "Starts", "plies_of"]
