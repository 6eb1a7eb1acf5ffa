"""Plies per second of stepping board games, beside PettingZoo's connect four if it is installed.

    python benchmarks/board.py                       every game of the table
    python benchmarks/board.py --games chess hex     some
    python benchmarks/board.py --num-envs 256 --rounds 5
    python benchmarks/board.py --only search         what looking ahead costs

Random legal play; the time that choosing takes is not counted, everything else is: applying the move, whose turn it is,
results, new games, observations and masks of the side to move. What is printed is the median of the rounds, in plies
per second of CPU time of one thread, so that other work on the machine counts less.

`--only search`: milliseconds of CPU time a move of a search in connect four, over an MLP of 2 x 256 that has learnt
nothing, from positions four plies into the game; so many games side by side as `--num-envs` says.

Peer: `pip install pettingzoo pygame`, whose `connect_four_v3` is stepped the same way, one game after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any, Literal

import numpy as np
import torch

from triathlon.agents.registry import make_learner
from triathlon.envs import EnvConfig, make_envs
from triathlon.envs.board import BoardConfig
from triathlon.envs.board.games import load_game
from triathlon.envs.board.planes import Planes
from triathlon.envs.board.player import Player
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search import SearchConfig, SearchPlayer
from triathlon.training.config import from_mapping
from triathlon.training.task import make_task

GAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "tic_tac_toe": ("tic_tac_toe", {}),
    "connect_four": ("connect_four", {}),
    "othello": ("othello", {}),
    "go9": ("go", {"board_size": 9}),
    "go19": ("go", {}),
    "chess": ("chess", {}),
    "hex": ("hex", {}),
    "breakthrough": ("breakthrough", {}),
    "checkers": ("checkers", {}),
    "backgammon": ("backgammon", {}),
}


def measure(name: str, num_envs: int, seconds: float) -> float:
    """Plies per CPU second of one game."""
    game, parameters = GAMES[name]
    envs = make_envs(EnvConfig(f"board/{game}", num_envs, board=BoardConfig(parameters=parameters)))
    _, info = envs.reset(seed=0)
    rng, spent, num_plies, over = np.random.default_rng(0), 0.0, 0, np.zeros(num_envs, bool)
    while spent < seconds:
        mask = info["action_mask"]
        actions = np.argmax(rng.random(mask.shape, np.float32) * mask, axis=1)
        start = time.process_time()
        _, _, terminated, _, info = envs.step(actions)
        spent += time.process_time() - start
        num_plies += num_envs - int(over.sum())
        over = terminated
    return num_plies / spent


def measure_pettingzoo(seconds: float) -> float:
    """Plies per CPU second of PettingZoo's connect four.

    Raises:
        ImportError: it is not installed.
    """
    from pettingzoo.classic import connect_four_v3

    env = connect_four_v3.env()
    rng, spent, num_plies = np.random.default_rng(0), 0.0, 0
    while spent < seconds:
        start = time.process_time()
        env.reset()
        obs, _, terminated, _, _ = env.last()
        spent += time.process_time() - start
        while not terminated:
            action = int(rng.choice(np.flatnonzero(obs["action_mask"])))
            start = time.process_time()
            env.step(action)
            obs, _, terminated, _, _ = env.last()
            spent += time.process_time() - start
            num_plies += 1
    return num_plies / spent


def measure_search(kind: Literal["puct", "gumbel"] | None, simulations: int, num_games: int, seconds: float) -> float:
    """Milliseconds of CPU time a move; kind None: of the policy without a search."""
    settings = {"env": {"id": "board/connect_four"}, "agent": "ppo", "total_steps": 1, "num_threads": 1}
    experiment = from_mapping({**settings, "backbone": {"kind": "mlp", "hidden_sizes": [256, 256]}})
    envs = make_envs(experiment.env, 1)
    learner = make_learner(
        experiment.agent,
        experiment.backbone,
        make_task(experiment, envs, torch.device("cpu"), np.random.SeedSequence(0)),
    )
    game, rng = load_game("connect_four"), np.random.default_rng(0)
    agent = AgentPlayer(learner.policy, Planes(game), "agent")
    player: Player = agent
    if kind is not None:
        player = SearchPlayer(agent, SearchConfig(kind=kind, simulations=simulations), rng)
    positions = []
    for _ in range(num_games):
        state = game.new_initial_state()
        for _ in range(4):
            state.apply_action(int(rng.choice(state.legal_actions())))
        positions.append(state)
    player.choose(positions)
    spent, num_moves = 0.0, 0
    while spent < seconds:
        start = time.process_time()
        player.choose(positions)
        spent += time.process_time() - start
        num_moves += num_games
    return 1_000 * spent / num_moves


def show_search(options: argparse.Namespace) -> None:
    """A table of searches."""
    torch.set_num_threads(1)
    print(f"| search, {options.num_envs} games together | ms a move |\n|---|---|")
    searches: list[tuple[Literal["puct", "gumbel"] | None, int]] = [(None, 0)]
    searches += [(kind, simulations) for kind in ("puct", "gumbel") for simulations in (16, 64, 200)]
    for kind, simulations in searches:
        costs = [measure_search(kind, simulations, options.num_envs, options.seconds) for _ in range(options.rounds)]
        name = f"{kind}:{simulations}" if kind else "none"
        print(f"| {name} | {statistics.median(costs):.3f} |", flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["stepping", "search"], default="stepping")
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each game in each round")
    options = parser.parse_args()
    if options.only == "search":
        show_search(options)
        return
    print(f"| game | plies/s, {options.num_envs} games together |\n|---|---|")
    for name in options.games:
        speeds = [measure(name, options.num_envs, options.seconds) for _ in range(options.rounds)]
        print(f"| {name} | {statistics.median(speeds):,.0f} |", flush=True)
    try:
        peer = statistics.median(measure_pettingzoo(options.seconds) for _ in range(options.rounds))
        print(f"| PettingZoo connect_four_v3 | {peer:,.0f} |")
    except ImportError as error:
        print(f"\nPettingZoo's connect four is left out ({error}): pip install pettingzoo pygame")


if __name__ == "__main__":
    main()
