"""Whether looking ahead while training pays: PPO at small board games with and without `self_play.search_share`.

    python benchmarks/look_ahead.py                                tic-tac-toe
    python benchmarks/look_ahead.py --game connect_four            on 4 x 4 fields
    python benchmarks/look_ahead.py --search-share 0 0.05 --search-coef 10 --seeds 1 2 3

Every row is one run at one moment: plies so far, CPU seconds of playing and learning (one thread, measuring left out),
exploitability of greedy play, and how often it gives away the result of perfect play, over all positions of the game in
which moves differ. The learning rate is not annealed, so that a shorter run is the beginning of a longer one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch

from triathlon.agents.registry import make_learner
from triathlon.envs.board.exact import GameGraph
from triathlon.envs.make import make_envs
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search_targets import board_of
from triathlon.training.board.sides import make_sides
from triathlon.training.board.strength import MAX_POSITIONS
from triathlon.training.collector import Collector
from triathlon.training.config import load
from triathlon.training.task import make_task

GAMES = {
    "tic_tac_toe": [],
    "connect_four": [
        *("--env.id", "board/connect_four", "--env.board.opening_plies", "12"),
        *("--env.board.parameters", "{rows: 4, columns: 4, x_in_row: 4}"),
    ],
}


def runs(
    game: str, seed: int, share: float, coef: float, steps: int, period: int
) -> Iterator[tuple[int, float, float, float]]:
    """Plies, CPU seconds, exploitability and share of mistakes, every `period` plies of a run."""
    settings = {"agent.anneal_learning_rate": "false", "seed": seed, "total_steps": steps, "num_threads": 1}
    settings |= {"self_play.search_share": share, "self_play.search_coef": coef} if share else {}
    overrides = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    experiment = load("tic_tac_toe_ppo", [*overrides, *GAMES[game]])
    envs = make_envs(experiment.env)
    task = make_task(experiment, envs, torch.device("cpu"), np.random.SeedSequence(seed))
    learner = make_learner(experiment.agent, experiment.backbone, task)
    sides = make_sides(experiment, [envs], learner.policy)
    collector = Collector(envs, learner.policy, seed, learner.state_period, sides.advise)
    graph = GameGraph(board_of(envs).game, MAX_POSITIONS)
    agent = AgentPlayer(learner.policy, board_of(envs).planes, "agent")
    num_steps, seconds, next_measure = 0, 0.0, period
    while num_steps < steps:
        start = time.process_time()
        segment = collector.collect(learner.num_rows)
        learner.update(segment)
        seconds += time.process_time() - start
        num_steps += segment.num_steps
        if num_steps >= next_measure:
            next_measure += period
            found = graph.exploitability(agent.greedy)
            yield num_steps, seconds, found.mean, found.mistakes
    sides.close()
    envs.close()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", choices=GAMES, default="tic_tac_toe")
    parser.add_argument("--search-share", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--search-coef", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=160_000)
    parser.add_argument("--period", type=int, default=40_000, help="plies between two measures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| search share | seed | plies | CPU s | exploitability | mistakes |\n|---|---|---|---|---|---|")
    for share in options.search_share:
        for seed in options.seeds:
            for row in runs(options.game, seed, share, options.search_coef, options.steps, options.period):
                print(f"| {share} | {seed} | {row[0]:,} | {row[1]:.1f} | {row[2]:.2f} | {row[3]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
