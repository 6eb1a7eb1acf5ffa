"""Training by playing oneself: who the other side is, who looks ahead, and how strength is measured meanwhile.

N games, P players. Results are above 0 for a win, 0 for a draw, below 0 for a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from triathlon.agents.agent import Policy
from triathlon.agents.randomness import restore_generator
from triathlon.envs.board.player import Player
from triathlon.envs.board.players import make_player
from triathlon.envs.board.vector import BoardEnvs
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search_targets import SearchTargets, board_of
from triathlon.training.board.self_play_config import SelfPlayConfig
from triathlon.training.board.strength import Strength
from triathlon.training.errors import RunError

WINDOW = 0.98  # how much of what was known of an opponent is kept after a game


@dataclass
class _Member:
    """An opponent in the pool, and how the agent fares against it, 0 to 1, the latest games counting most."""

    player: Player
    points: float = 0.5
    snapshot: _Snapshot | None = None  # a bot is none


@dataclass
class _Snapshot:
    """An earlier self: the how manieth it was, its weights, and what it draws its moves from."""

    number: int
    weights: Tensor
    generator: torch.Generator


class OpponentPool:
    """Earlier selves and bots, met the more often the more they win (Vinyals et al. 2019, "AlphaStar", Methods).

    The first `pool_share` of all games are played against members of the pool.

    Raises:
        RunError: `pool_share` of the games comes to none when rounded.
    """

    def __init__(
        self, config: SelfPlayConfig, envs: Sequence[VectorEnv[Any, Any, Any]], policy: Policy, seed: int
    ) -> None:
        self.config, self._policy = config, policy
        self._games = [board_of(group) for group in envs]
        self._num_against = _shared_out(config.pool_share, [games.num_envs for games in self._games])
        self._rng, self._seed = np.random.default_rng(seed), seed
        game = self._games[0].game
        self.members = [_Member(make_player(name, game, self._rng)) for name in config.bots]
        self._next_snapshot = 0
        self._num_taken = 0
        self._dealt: list[list[int]] = []  # the members whom the next games of each group are against

    def before_rollout(self, num_steps: int) -> None:
        """Take a snapshot when it is time, count the games that ended, and deal out opponents for those to come."""
        if not self.config.pool_share:
            return
        if num_steps >= self._next_snapshot:
            self._next_snapshot = num_steps + self.config.snapshot_period
            self._add(self._policy.weights(), f"self at {num_steps:,}")
        self._dealt = []
        for games, num_against in zip(self._games, self._num_against, strict=True):
            self._count_results(games)
            self._dealt.append(self._rng.choice(len(self.members), num_against, p=self._chances()).tolist())
        self._deal()

    def _count_results(self, games: BoardEnvs) -> None:
        for player, result in games.take_results():
            for member in self.members:
                if member.player is player:
                    # Points as in the arena, whatever a game pays: chances are made of them.
                    member.points = WINDOW * member.points + (1 - WINDOW) * float(np.sign(result) + 1) / 2

    def _deal(self) -> None:
        for games, dealt in zip(self._games, self._dealt, strict=False):  # none are dealt before the first rollout
            opponents: list[Player | None] = [self.members[i].player for i in dealt]
            games.set_opponents(opponents + [None] * (games.num_envs - len(dealt)))

    def metrics(self) -> dict[str, float]:
        """How the agent fares against the pool on average, and against its hardest member; nothing without a pool."""
        points = [member.points for member in self.members]
        return (
            {"self_play/score_pool": float(np.mean(points)), "self_play/score_hardest": min(points)} if points else {}
        )

    def close(self) -> None:
        """End the bots."""
        for member in self.members:
            member.player.close()

    def state_dict(self) -> dict[str, Any]:
        """The snapshots, how the agent fares against everybody, and whom the next games are against."""
        for games in self._games:
            self._count_results(games)
        snapshots = [member.snapshot for member in self.members if member.snapshot is not None]
        return {
            "names": [member.player.name for member in self.members],
            "points": [member.points for member in self.members],
            "weights": [snapshot.weights for snapshot in snapshots],
            "numbers": [snapshot.number for snapshot in snapshots],
            "generators": [snapshot.generator.get_state() for snapshot in snapshots],
            "dealt": self._dealt,
            "next_snapshot": self._next_snapshot,
            "num_taken": self._num_taken,
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any], draws: bool = True) -> None:
        """Inverse of `state_dict`; without `draws` it keeps its own random numbers.

        A run may go on with other settings: bots are known by their names, of the earlier selves the newest
        `num_snapshots` are kept (none without a pool), and opponents are dealt anew if they are not the same.

        Raises:
            RunError: the state is of an earlier version.
        """
        if "dealt" not in state:
            raise RunError("its opponents were saved by an earlier version: it can be evaluated and watched, not go on")
        names, points = state["names"], state["points"]
        num_bots = len(names) - len(state["weights"])
        of_bots: dict[str, list[float]] = {}  # a bot may be there twice
        for name, its_points in zip(names[:num_bots], points[:num_bots], strict=True):
            of_bots.setdefault(name, []).append(its_points)
        for member in self.members:
            if waiting := of_bots.get(member.player.name):
                member.points = waiting.pop(0)
        num_kept = self.config.num_snapshots if self.config.pool_share else 0
        snapshots = zip(state["weights"], state["numbers"], state["generators"], strict=True)
        earlier = list(zip(names[num_bots:], points[num_bots:], snapshots, strict=True))
        for name, its_points, (weights, self._num_taken, drawing) in earlier[max(0, len(earlier) - num_kept) :]:
            added = self._add(weights, name)
            self.members[-1].points = its_points
            if draws:
                restore_generator(added.generator, drawing)
        self._next_snapshot = state["next_snapshot"] if num_kept else 0  # a pool that is set up again needs one at once
        self._num_taken = state["num_taken"]
        if draws:
            self._rng.bit_generator.state = state["rng"]
        is_same = [member.player.name for member in self.members] == names
        self._dealt = state["dealt"] if is_same else []
        self._deal()

    def _add(self, weights: Tensor, name: str) -> _Snapshot:
        num_bots = len(self.config.bots)
        if len(self.members) - num_bots == self.config.num_snapshots:
            del self.members[num_bots]  # the oldest; games under way against it go on
        seed = int(np.random.SeedSequence([self._seed, self._num_taken, 7]).generate_state(1)[0])
        generator = torch.Generator(self._policy.generator.device).manual_seed(seed)
        twin = self._policy.twin(generator)
        twin.load_weights(weights)
        snapshot = _Snapshot(self._num_taken, weights.clone(), generator)
        self._num_taken += 1
        player = AgentPlayer(twin, self._games[0].planes, name, deterministic=False)
        self.members.append(_Member(player, snapshot=snapshot))
        return snapshot

    def _chances(self) -> Any:
        lost = np.array([(1.0 - member.points) ** self.config.prioritization for member in self.members])
        return lost / lost.sum() if lost.sum() > 0 else None


def _shared_out(share: float, sizes: Sequence[int]) -> list[int]:
    """How many of each group's games are against the pool, so that of all games it is `share`, rounded."""
    total = sum(sizes)
    if share and not round(share * total):
        raise RunError(
            f"self_play.pool_share is {share}, which of {total} environments (env.num_envs) comes to none; set "
            f"self_play.pool_share above {0.5 / total:g}, or env.num_envs to at least {int(0.5 / share) + 1}"
        )
    bounds = [round(share * stop) for stop in accumulate(sizes, initial=0)]
    return [stop - start for start, stop in pairwise(bounds)]


class BoardSides:
    """The pool of opponents, the search and the measures of strength of one run.

    Raises:
        RunError: strength is to be measured in single positions, and the policy has a memory.
    """

    def __init__(
        self,
        config: SelfPlayConfig,
        envs: Sequence[VectorEnv[Any, Any, Any]],
        policy: Policy,
        seed: int,
        say: Callable[[str], None] | None = None,
    ) -> None:
        for setting in ("ladder", "exploitability"):
            if (value := getattr(config, setting)) and policy.initial_state(1):
                raise RunError(
                    f"self_play.{setting} is {value}, but it judges single positions, which a backbone with a memory "
                    "cannot do; leave it out, or use a backbone without a memory"
                )
        self._pool = OpponentPool(config, envs, policy, seed)
        self._strength = Strength(config, board_of(envs[0]), seed, say)
        self.advise = SearchTargets(config, board_of(envs[0]), policy, seed) if config.search_share else None
        self.before_rollout, self.metrics = self._pool.before_rollout, self._pool.metrics
        self.measure = self._strength.measure

    def state_dict(self) -> dict[str, Any]:
        """What the pool and the search need to go on."""
        search = {} if self.advise is None else {"search": self.advise.state_dict()}
        return self._pool.state_dict() | search

    def load_state_dict(self, state: dict[str, Any], draws: bool = True) -> None:
        """Inverse of `state_dict`; without `draws` both keep their own random numbers."""
        self._pool.load_state_dict(state, draws)
        if draws and self.advise is not None and "search" in state:  # a run may go on with a search that it had not
            self.advise.load_state_dict(state["search"])

    def close(self) -> None:
        """End all players."""
        self._pool.close()
        self._strength.close()


__all__ = ["BoardSides", "OpponentPool", "board_of"]
