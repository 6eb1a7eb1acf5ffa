"""How strong an agent is at a board game while it trains: exploitability where it is exact, and an Elo rating."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from triathlon.agents.agent import Policy
from triathlon.envs.board.exact import GameGraph
from triathlon.envs.board.player import Player
from triathlon.envs.board.players import make_player
from triathlon.envs.board.players.engine import EnginePlayer
from triathlon.envs.board.vector import BoardEnvs
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.arena import Crosstable, MatchResult, play_match, play_round_robin
from triathlon.training.board.self_play_config import SelfPlayConfig

MAX_POSITIONS = 200_000  # connect four 4 x 4 has 134,289; making the graph takes seconds for so many
AGENT, ANCHOR = "agent", "random"
RUNGS, MATCHES = 8, 9  # what is drawn by the seed, a number, and one of these: no two things draw the same numbers


class Strength:
    """Measures a policy at each evaluation; the games among the rungs of the ladder are played once, at the first.

    The rungs begin anew each time, with the same seeds: what they play hangs on no earlier evaluation, and so is the
    same in a run that was stopped and went on (engines have their own chance).

    Raises:
        EnvError: the game cannot be measured exactly, or a rung cannot be made.
    """

    def __init__(
        self, config: SelfPlayConfig, games: BoardEnvs, seed: int, say: Callable[[str], None] | None = None
    ) -> None:
        self._say = say or _tell
        self.config, self._game, self._planes = config, games.game, games.planes
        self._seed = seed
        self._graph = GameGraph(self._game, MAX_POSITIONS) if config.exploitability else None
        self._names = [ANCHOR, *(name for name in config.ladder if name != ANCHOR)] if config.ladder else []
        self._rungs = [self._make(number) for number in range(len(self._names))]
        self._among_rungs: Crosstable | None = None

    def measure(self, policy: Policy) -> dict[str, float]:
        """Scalars to log: `eval/exploitability` and `mistakes`, `eval/elo` with its interval, scores against rungs.

        `eval/forfeits`: how many of the games behind the rating one side could not play to their end.
        """
        found: dict[str, float] = {}
        if self._graph is None and not self._names:
            return found  # before a player is made of the policy: one with a memory can be none
        agent = AgentPlayer(policy, self._planes, AGENT)
        if self._graph is not None:
            exploitability = self._graph.exploitability(agent.greedy)
            found |= {"eval/exploitability": exploitability.mean, "eval/mistakes": exploitability.mistakes}
        if self._names:
            found |= self._climb(agent)
        return found

    def close(self) -> None:
        """End the players of the ladder."""
        for rung in self._rungs:
            rung.close()

    def _make(self, number: int) -> Player:
        return make_player(self._names[number], self._game, np.random.default_rng([self._seed, number, RUNGS]))

    def _fresh_rungs(self) -> list[Player]:
        """The rungs as they were when they had not played yet."""
        for number, rung in enumerate(self._rungs):
            rung.close()
            # A closed engine starts again when it is asked, where a failure to do so is a forfeit, not the run's end.
            if not isinstance(rung, EnginePlayer):
                self._rungs[number] = self._make(number)
        return self._rungs

    def _climb(self, agent: AgentPlayer) -> dict[str, float]:
        # Each thing has numbers of its own, so that all evaluations begin from the same openings.
        for_rungs, for_agent, for_ratings = (np.random.default_rng([self._seed, i, MATCHES]) for i in range(3))
        num_games = self.config.ladder_games + self.config.ladder_games % 2  # both sides as often
        plies = self.config.judge_opening_plies
        if self._among_rungs is None:
            rungs = self._fresh_rungs()
            self._among_rungs = play_round_robin(rungs, self._game, num_games, for_rungs, "random", plies)
        matches: dict[tuple[int, int], MatchResult] = dict(self._among_rungs.matches)
        last = len(self._names)
        for i, rung in enumerate(self._fresh_rungs()):
            matches[i, last] = play_match(rung, agent, self._game, num_games, for_agent, "random", plies)
        table = Crosstable([*self._among_rungs.names, AGENT], matches)
        rating = table.ratings(for_ratings, ANCHOR)[-1]
        forfeits = [error for match in matches.values() for error in match.errors]
        if forfeits:
            num = sum(len(match.games) for match in matches.values())
            self._say(
                f"{len(forfeits)} of the {num} games behind eval/elo were forfeited and count as lost; the first: "
                f"{forfeits[0]}"
            )
        scores = {f"eval/score_{name}": table.tallies()[last][i].score for i, name in enumerate(self._names)}
        return scores | {
            "eval/elo": rating.elo,
            "eval/elo_low": rating.interval[0],
            "eval/elo_high": rating.interval[1],
            "eval/forfeits": float(len(forfeits)),
        }


def _tell(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


__all__ = ["Strength"]
