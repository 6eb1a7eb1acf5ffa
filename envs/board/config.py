"""Settings of board games as environments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from triathlon.envs.board.ply_limit import AtLimit
from triathlon.envs.errors import EnvError


@dataclass(frozen=True)
class BoardConfig:
    """Which variant of a board game, where games begin, and against whom.

    Raises:
        EnvError: the shares come to more than 1, openings may be as long as games, or games that are never cut are to
            be counted.
    """

    parameters: Annotated[dict[str, Any], "the game's own, such as rows or board_size; else as open_spiel has them"] = (
        field(default_factory=dict)
    )
    random_openings: Annotated[float, Ge(0), Le(1), "share of games that begin with random moves"] = 0.0
    opening_plies: Annotated[int, Ge(1), "at most so many random moves (of both sides together)"] = 8
    resume_share: Annotated[float, Ge(0), Le(1), "share of games that begin in the middle of a recent one"] = 0.0
    opponent: Annotated[str | None, "who plays the other side, such as random or mcts:100; null: self-play"] = None
    max_plies: Annotated[int | None, Gt(1), "moves (of both sides together) after which a game is cut"] = None
    at_limit: Annotated[
        AtLimit, "a cut game is a draw, or in training counts by what the pieces left are worth (material)"
    ] = "draw"
    symmetries: Annotated[
        bool, "in training, each game is seen mirrored or turned as its board allows, drawn at its start"
    ] = False

    def __post_init__(self) -> None:
        if self.random_openings + self.resume_share > 1:
            raise EnvError(
                f"random_openings and resume_share are shares of the same games and must come to at most 1, "
                f"found {self.random_openings} and {self.resume_share}"
            )
        if not self.random_openings and self.opening_plies != BoardConfig.opening_plies:
            raise EnvError(
                f"opening_plies is {self.opening_plies}, but nothing reads it unless random_openings is above 0"
            )
        if self.at_limit == "material" and self.max_plies is None:
            raise EnvError("at_limit is material, but games are never cut; set max_plies, or leave it out")
        if self.random_openings and self.max_plies is not None and self.max_plies <= self.opening_plies:
            raise EnvError(
                f"max_plies must be more than opening_plies, found {self.max_plies} and {self.opening_plies}"
            )


__all__ = ["BoardConfig"]
