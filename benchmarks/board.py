"""Plies per second of stepping board games, beside PettingZoo's connect four if it is installed.

    python benchmarks/board.py                       every game of the table
    python benchmarks/board.py --games chess hex     some
    python benchmarks/board.py --num-envs 256 --rounds 5

Random legal play; the time that choosing takes is not counted, everything else is: applying the move, whose turn it is,
results, new games, observations and masks of the side to move. What is printed is the median of the rounds, in plies
per second of CPU time of one thread, so that other work on the machine counts less.

Peer: `pip install pettingzoo pygame`, whose `connect_four_v3` is stepped the same way, one game after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from triathlon.envs import EnvConfig, make_envs
from triathlon.envs.board import BoardConfig

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


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each game in each round")
    options = parser.parse_args()
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
