"""Search at play: any trained agent looks ahead by its own policy and values, many games side by side.

N games, A actions, K columns of legal actions. One position of each game is looked at in a step, all of them by one
call of the network. Trees are made anew for each move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.agent import Decision, Policy
from triathlon.envs.board.games import is_perfect
from triathlon.envs.board.ply_limit import NO_LIMIT, PlyLimit
from triathlon.envs.board.vector import BoardEnvs
from triathlon.networks.backbone import Obs, State
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search_rules import RULES, Rule, SearchConfig
from triathlon.training.board.search_tree import Assess, Trees
from triathlon.training.errors import RunError

if TYPE_CHECKING:
    import pyspiel


@dataclass(frozen=True, slots=True)
class Found:
    """What a search of N positions came to."""

    actions: list[int]  # N, to be played
    probs: NDArray[np.float32]  # [N, A]: a better policy than the one that was searched with
    values: NDArray[np.float32]  # [N]: for the mover, in what the game pays


def search(
    states: Sequence[pyspiel.State],
    assess: Assess,
    config: SearchConfig,
    rngs: Sequence[np.random.Generator],
    limit: PlyLimit = NO_LIMIT,
) -> Found:
    """Search N positions of one game, in each of which somebody is to move; each draws from its own generator.

    `assess(states)` gives the probabilities `[n, A]` of actions and the values `[n]` for the movers. Where games are
    cut (`env.board.max_plies`), fewer moves than the `limit` were played so far.

    Raises:
        RunError: the game hides something from the players, which a search would see.
    """
    game = states[0].get_game()
    if not is_perfect(game.get_type()):
        raise RunError(f"a search cannot play {game}: it would see what is hidden from it; leave out --search")
    trees = Trees(states, assess, rngs, config.simulations, config.prove, limit)
    rule: Rule = RULES[config.kind](trees, config, rngs)
    for _ in range(config.simulations):
        trees.simulate(rule.choose_root, rule.choose)
    columns, probs, values = rule.outcome()
    actions: list[int] = trees.action[trees.roots, columns].tolist()
    return Found(actions, trees.by_action(trees.roots, probs, game.num_distinct_actions()), trees.in_utility(values))


class Assessor(Protocol):
    """What a search asks of a player, such as `AgentPlayer`."""

    name: str

    def assess(self, states: Sequence[pyspiel.State]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities `[N, A]` by the game's names of actions, and values `[N]` for the mover."""
        ...


class SearchPlayer:
    """Plays what a search over a player's policy and values finds best, or draws by its probabilities.

    It knows the `limit` at which a game is cut.
    """

    def __init__(
        self,
        player: Assessor,
        config: SearchConfig,
        rng: np.random.Generator,
        name: str | None = None,
        deterministic: bool = True,
        limit: PlyLimit = NO_LIMIT,
    ) -> None:
        self.config, self._player, self._rng, self._deterministic = config, player, rng, deterministic
        self._limit = limit
        self.name = name or f"{player.name}+{config.kind}:{config.simulations}"

    def search(self, states: Sequence[pyspiel.State]) -> Found:
        """The moves to play, with better probabilities and values."""
        rngs = [np.random.default_rng(seed) for seed in self._rng.integers(2**63, size=len(states))]
        return search(states, self._player.assess, self.config, rngs, self._limit)

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        found = self.search(states)
        return found.actions if self._deterministic else drawn(found.probs, self._rng)

    def improved(self, states: Sequence[pyspiel.State]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities `[N, A]` and values `[N]` to learn from: shares of visits (puct) or the improved policy."""
        found = self.search(states)
        return found.probs, found.values

    def close(self) -> None:
        """Nothing runs outside this process."""


def drawn(probs: NDArray[np.float32], rng: np.random.Generator) -> list[int]:
    """An action for each of N rows of probabilities `[N, A]`."""
    reached = probs.cumsum(1)
    chosen: list[int] = (reached > rng.random((len(probs), 1)) * reached[:, -1:]).argmax(1).tolist()
    return chosen


class SearchPolicy:
    """Acts in board games as a search over another policy finds best; it looks at the games, not at observations.

    Raises:
        RunError: the environments are no board games, or the policy has a memory.
    """

    def __init__(
        self, policy: Policy, envs: VectorEnv[Any, Any, Any], config: SearchConfig, rng: np.random.Generator
    ) -> None:
        games = envs.unwrapped
        if not isinstance(games, BoardEnvs):
            raise RunError("a search looks ahead in board games only (ids that begin with board/); leave out --search")
        self._games, self._rng = games, rng
        agent = AgentPlayer(policy, games.planes, "agent")
        self._player = SearchPlayer(agent, config, rng, limit=games.limit)
        self.generator = policy.generator

    def initial_state(self, batch_size: int) -> State:
        return ()

    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        """What the search finds in each of the games, drawn by its probabilities unless `deterministic`."""
        games = self._games
        playing = games.under_way
        actions = np.zeros(games.num_envs, np.int64)
        if playing:
            found = self._player.search([games.matches[i].state for i in playing])
            chosen = found.actions if deterministic else drawn(found.probs, self._rng)
            actions[playing] = (games.action_names()[playing] == np.array(chosen)[:, None]).argmax(1)
        return Decision(torch.from_numpy(actions), ())

    def env_action(self, action: np.ndarray) -> np.ndarray:
        return action


__all__ = ["Assessor", "Found", "SearchConfig", "SearchPlayer", "SearchPolicy", "drawn", "search"]
