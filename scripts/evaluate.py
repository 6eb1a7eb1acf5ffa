"""`triathlon evaluate RUN`: score a trained agent on episodes that it has never seen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triathlon.envs.make import make_envs
from triathlon.scripts.board_run import add_search_options, looking_ahead
from triathlon.scripts.main import guarded
from triathlon.scripts.score import summary, write_score
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.evaluate import JUDGING_SEED, evaluate
from triathlon.training.judging import JUDGING_ENVS
from triathlon.training.restoring import load_policy
from triathlon.training.run_folder import RunFolder, open_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Score as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="triathlon evaluate", description="Score a trained agent on fresh episodes.")
    add_playing_options(parser, num_episodes=100)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the scores into this JSON file")
    options = parser.parse_args(arguments)
    folder, checkpoint, seed = check_playing_options(options)

    experiment = folder.experiment()
    deterministic = plays_best(options, experiment)
    policy = load_policy(checkpoint, experiment)
    envs = make_envs(experiment.judging_env, min(options.episodes, JUDGING_ENVS))
    try:
        actor = looking_ahead(policy, envs, options, np.random.default_rng(seed))
        played = evaluate(actor, envs, options.episodes, seed, deterministic)
    finally:
        envs.close()
    found = summary(played.returns)
    search = f"{options.search_kind}:{options.search}" if options.search else None
    how = (f", search {search}" if search else "") + ("" if deterministic else ", actions drawn")
    print(f"{folder.path}, {checkpoint.stem} checkpoint{how}, {found.num_scores} episodes of {experiment.env.id}")
    for label, value, (low, high) in (
        ("mean return", found.mean, found.mean_interval),
        ("interquartile mean", found.iqm, found.iqm_interval),
    ):
        print(f"  {label:<20} {value:10.2f}   95 % interval {low:.2f} to {high:.2f}")
    print(f"  mean length          {sum(played.lengths) / len(played.lengths):10.2f}   steps")
    if options.out:
        write_score(options.out, played.returns, checkpoint, seed, deterministic, search)
    return 0


def add_playing_options(parser: argparse.ArgumentParser, num_episodes: int) -> None:
    """The options of commands that play with a trained agent."""
    parser.add_argument("run", metavar="RUN", help="the folder of a run ('latest': the last one started)")
    text = f"episodes to play (default: {num_episodes})"
    parser.add_argument("--episodes", type=int, default=num_episodes, metavar="N", help=text)
    text = "seed of the episodes (default: one never trained on)"
    parser.add_argument("--seed", type=int, default=JUDGING_SEED, metavar="S", help=text)
    text = "draw actions, or play the best one (default: as evaluation.deterministic of the run says)"
    parser.add_argument("--stochastic", action=argparse.BooleanOptionalAction, help=text)
    parser.add_argument("--checkpoint", choices=["best", "last"], help="default: the best if there is one")
    add_search_options(parser)


def plays_best(options: argparse.Namespace, experiment: Experiment) -> bool:
    """Whether the likeliest action is played: as the run itself was scored, unless the options say how."""
    return experiment.evaluation.deterministic if options.stochastic is None else not options.stochastic


def check_playing_options(options: argparse.Namespace) -> tuple[RunFolder, Path, int]:
    """The run, its checkpoint and the seed that the options name.

    Raises:
        RunError: there is no such run or checkpoint, or a number is out of range.
    """
    if options.episodes < 1:
        raise RunError(f"--episodes is {options.episodes} but should be at least 1")
    if options.seed < 0:
        raise RunError(f"--seed is {options.seed} but should be at least 0")
    folder = open_run(options.run)
    return folder, folder.checkpoint(options.checkpoint), options.seed


if __name__ == "__main__":
    sys.exit(guarded(main))
