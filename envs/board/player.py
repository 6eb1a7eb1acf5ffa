"""Whoever plays a side of a board game: a rule, a search, an engine, a network, a person. N games at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from triathlon.envs.errors import EnvError

if TYPE_CHECKING:
    import pyspiel


@runtime_checkable
class Player(Protocol):
    """Chooses moves in many games at once. It remembers nothing of a game: each state holds its own history."""

    name: str

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        """One legal action for each of N states, in each of which it is this player's turn.

        Raises:
            PlayerError: one of the games cannot go on; the error says which, and what was chosen before it.
            Resigned: this player gives one of them up.
        """
        ...

    def close(self) -> None:
        """End whatever runs outside this process. Closing twice does no harm."""
        ...


class PlayerError(EnvError):
    """A player failed in one game; the message is one sentence.

    In a match it loses that game and no other. As an opponent inside environments it ends the run: what is learned
    from games that were not played is worth nothing.

    Attributes:
        index: which of the states given to `choose` it failed in.
        chosen: the actions for the states before that one.
    """

    def __init__(self, sentence: str, index: int = 0, chosen: Sequence[int] = ()) -> None:
        super().__init__(sentence)
        self.index = index
        self.chosen = list(chosen)


class Resigned(PlayerError):
    """A player gives up one game, which it has lost; it has not failed, and can go on in others."""


def choose_all(player: Player, states: Sequence[pyspiel.State]) -> list[int | PlayerError]:
    """What `player` does in each of N states: a legal action, or the error that ends that game.

    The player is asked again for the states after the one that it failed in.
    """
    answers: list[int | PlayerError] = []
    while len(answers) < len(states):
        waiting = states[len(answers) :]
        try:
            chosen, error = player.choose(waiting), None
            if len(chosen) != len(waiting):
                raise EnvError(f"{player.name} chose {len(chosen)} actions in {len(waiting)} games; one each is needed")
        except PlayerError as failure:
            chosen, error = failure.chosen, failure
        for state, action in zip(waiting, chosen, strict=False):
            legal = action in state.legal_actions()
            answers.append(int(action) if legal else PlayerError(_illegal(player, state, action)))
        if error is not None:
            answers.append(error)
    return answers


def _illegal(player: Player, state: pyspiel.State, action: int) -> str:
    return f"{player.name} chose action {action}, which is not legal at ply {state.move_number()}"


__all__ = ["Player", "PlayerError", "Resigned", "choose_all"]
