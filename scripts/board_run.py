"""What commands share that play board games with trained agents: opening runs, and the options of a search."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv

from triathlon.agents.agent import Policy
from triathlon.envs.board.games import NAMESPACE, load_game
from triathlon.envs.board.planes import Planes
from triathlon.envs.board.symmetries import symmetries_of
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search_rules import SearchConfig
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.evaluate import Actor
from triathlon.training.restoring import load_policy
from triathlon.training.run_folder import RunFolder, open_run

if TYPE_CHECKING:
    import pyspiel


@dataclass(frozen=True)
class BoardRun:
    """A trained agent, and the game that it plays."""

    folder: RunFolder
    policy: Policy
    game: pyspiel.Game
    checkpoint: str
    experiment: Experiment

    @property
    def knows_values(self) -> bool:
        """Whether its values are in what the game pays."""
        return not scales_values(self.experiment)

    def player(self, name: str, deterministic: bool, symmetric: bool = False) -> AgentPlayer:
        """The agent as a player without search; `symmetric`: it plays by the mean over its board's symmetries.

        Raises:
            EnvError: no symmetry of the game is known.
        """
        planes, symmetries = Planes(self.game), None
        if symmetric:
            symmetries = symmetries_of(self.game, planes.layout.shape, "--symmetries", "leave it out")
        return AgentPlayer(self.policy, planes, name, deterministic, symmetries)


def open_board_run(run: str, checkpoint: str | None) -> BoardRun:
    """The agent of a run folder (`latest`: the last one started).

    Raises:
        RunError: there is no such run or checkpoint, or it is not one of a board game.
    """
    folder = open_run(run)
    experiment = folder.experiment()
    if experiment.env.board is None:
        raise RunError(f"{folder.path} is a run of {experiment.env.id}, which is no board game ({NAMESPACE}/…)")
    path = folder.checkpoint(checkpoint)
    game = load_game(experiment.env.id.removeprefix(f"{NAMESPACE}/"), experiment.env.board.parameters)
    return BoardRun(folder, load_policy(path, experiment), game, path.stem, experiment)


def scales_values(experiment: Experiment) -> bool:
    """Whether its agent learned values in another unit than what the game pays; what the unit is, no policy knows."""
    return bool(getattr(experiment.agent, "normalize_reward", False))


def add_symmetries_option(parser: argparse.ArgumentParser) -> None:
    """`--symmetries`."""
    text = "the agent sees each position in all ways that its board may be mirrored or turned, and plays by the mean"
    parser.add_argument("--symmetries", action="store_true", help=text)


def add_search_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """`--search` and `--search-kind`; with `several`, `--search` may be given again."""
    text = "positions that the agent looks ahead at before each move (0: none, the default)"
    if several:
        text += "; given more than once, the agent takes part with each"
        parser.add_argument("--search", type=int, action="append", metavar="N", help=text)
    else:
        parser.add_argument("--search", type=int, default=0, metavar="N", help=text)
    text = "AlphaZero's search (the default), or that of Gumbel AlphaZero"
    parser.add_argument("--search-kind", choices=["puct", "gumbel"], default="puct", help=text)


def search_config(num_simulations: int, kind: str, experiment: Experiment) -> SearchConfig | None:
    """The search that the options name for an agent of this experiment; None: it plays without one.

    Raises:
        RunError: the number is below 0, or the agent's values are not in what the game pays.
    """
    if num_simulations < 0:
        raise RunError(f"--search is {num_simulations} but should be at least 0")
    if num_simulations == 0:
        return None
    if scales_values(experiment):
        raise RunError(
            f"--search is {num_simulations}, and a search needs values in what the game pays, but this run's are "
            "scaled (agent.normalize_reward); leave out --search"
        )
    return SearchConfig(kind="gumbel" if kind == "gumbel" else "puct", simulations=num_simulations)


def looking_ahead(
    policy: Policy, envs: VectorEnv[Any, Any, Any], options: argparse.Namespace, rng: np.random.Generator
) -> Actor:
    """The policy as `--search` and `--search-kind` want it to play in these environments.

    Raises:
        RunError: the number is below 0, or there is a search, and the environments are no board games or the agent's
            values are not in what the game pays.
    """
    config = search_config(options.search, options.search_kind, open_run(options.run).experiment())
    if config is None:
        return policy
    from triathlon.training.board.search import SearchPolicy

    return SearchPolicy(policy, envs, config, rng)


__all__ = [
    "BoardRun",
    "add_search_options",
    "add_symmetries_option",
    "looking_ahead",
    "open_board_run",
    "search_config",
]
