"""Settings of training by self-play, and what they make of the environments that judge an agent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Gt, Le

from triathlon.envs.board.config import BoardConfig
from triathlon.envs.errors import EnvError
from triathlon.envs.make import EnvConfig
from triathlon.networks.errors import SettingError, refuse_unread

Fraction = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class SelfPlayConfig:
    """Opponents of a board game's training, and those it is measured against.

    Raises:
        SettingError: a setting that nothing reads beside the others, or a player who is twice on the ladder.
    """

    pool_share: Annotated[Fraction, "share of games against earlier selves and bots instead of itself"] = 0.0
    snapshot_period: Annotated[int, Gt(0), "environment steps between two earlier selves that are kept"] = 100_000
    num_snapshots: Annotated[int, Gt(0), "earlier selves that are kept"] = 12
    bots: Annotated[tuple[str, ...], "players that are in the pool from the start, such as random or mcts:100"] = ()
    prioritization: Annotated[
        float, Ge(0), "opponents are met in proportion to (share of points lost to them) to this power; 0: equally"
    ] = 1.0
    search_share: Annotated[
        Fraction, "share of rows in which a search looks ahead, from whose policy and values ppo learns too"
    ] = 0.0
    search_simulations: Annotated[int, Gt(0), "positions that it looks at, in each game of such a row"] = 16
    search_coef: Annotated[float, Gt(0), "weight of the cross-entropy between its policy and the agent's"] = 5.0
    judge: Annotated[str, "who the games of evaluations and of the final score are played against"] = "random"
    judge_opening_plies: Annotated[int, Ge(0), "random moves that these games begin with, so that they differ"] = 2
    exploitability: Annotated[bool, "measure it exactly at each evaluation and choose the best by it (small games)"] = (
        False
    )
    ladder: Annotated[
        tuple[str, ...], "players whose games with the agent at each evaluation give its Elo rating; random is 0"
    ] = ()
    ladder_games: Annotated[int, Gt(0), "games with each of them"] = 20

    def __post_init__(self) -> None:
        if not self.pool_share:
            pool = ("bots", "snapshot_period", "num_snapshots", "prioritization")
            refuse_unread(self, pool, "self_play.pool_share is above 0", place="")
        if not self.search_share:
            search = ("search_simulations", "search_coef")
            refuse_unread(self, search, "self_play.search_share is above 0", place="")
        if not self.ladder:
            refuse_unread(self, ("ladder_games",), "self_play.ladder names players", place="")
        if twice := sorted({name for name in self.ladder if self.ladder.count(name) > 1}):
            raise SettingError(f"ladder names {twice[0]!r} more than once; each player stands on it once")


def judged(env: EnvConfig, config: SelfPlayConfig | None) -> EnvConfig:
    """The environments that an agent is evaluated in: of a board game, those in which the judge is the other side."""
    if env.board is None or config is None:
        return env
    plies = config.judge_opening_plies
    board = replace(
        env.board,
        opponent=config.judge,
        resume_share=0.0,
        symmetries=False,
        at_limit="draw",
        random_openings=1.0 if plies else 0.0,
        opening_plies=plies or BoardConfig.opening_plies,
    )
    return replace(env, board=board)


def refuse_groups(env: EnvConfig, config: SelfPlayConfig | None) -> None:
    """Raises EnvError if groups of games, which step at the same time, would share opponents or a search.

    A player answers one at a time: an engine is spoken to over one pipe, a network and a generator have one state.
    """
    for setting in ("pool_share", "search_share"):
        if env.num_groups > 1 and (share := getattr(config, setting, 0.0)):
            raise EnvError(
                f"self_play.{setting} is {share} and env.num_groups is {env.num_groups}, but groups step at the same "
                "time and would share opponents and a search; set env.num_groups to 1, or the other to 0"
            )


__all__ = ["SelfPlayConfig", "judged", "refuse_groups"]
