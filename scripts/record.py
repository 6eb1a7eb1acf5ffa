"""`triathlon record RUN --out FOLDER`: what a trained agent sees and does, or random play, for supervised tasks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triathlon.envs.make import make_envs
from triathlon.scripts.main import guarded
from triathlon.training import config
from triathlon.training.errors import RunError
from triathlon.training.restoring import load_policy
from triathlon.training.run_folder import open_run
from triathlon.training.supervised.played.recorder import RECORDING_SEED, record


def main(arguments: Sequence[str] | None = None) -> int:
    """Record as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="triathlon record", description="Write down what an agent sees and does.")
    text = "the folder of a run ('latest': the last one started); with --random also a configuration"
    parser.add_argument("run", metavar="RUN", help=text)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the recording goes")
    parser.add_argument("--steps", type=int, default=20_000, metavar="N", help="environment steps (default: 20000)")
    parser.add_argument("--deterministic", action="store_true", help="play the best action instead of drawing one")
    parser.add_argument("--epsilon", type=float, default=0.0, metavar="E", help="share of random actions (default: 0)")
    parser.add_argument("--random", action="store_true", help="play at random, without the agent")
    parser.add_argument("--seed", type=int, default=RECORDING_SEED, metavar="S", help="seed of the episodes")
    parser.add_argument("--checkpoint", choices=["best", "last"], help="default: the best if there is one")
    options = parser.parse_args(arguments)
    _check(options)

    if options.random and not Path(options.run).is_dir():
        experiment, checkpoint = config.load(options.run), None
    else:
        folder = open_run(options.run)
        experiment = folder.experiment()
        checkpoint = None if options.random else folder.checkpoint(options.checkpoint)
    policy = None if checkpoint is None else load_policy(checkpoint, experiment)
    env = experiment.judging_env
    envs = make_envs(env, min(env.num_envs, options.steps))
    try:
        found = record(policy, envs, options.steps, options.seed, env, options.deterministic, options.epsilon)
    finally:
        envs.close()
    played = "at random" if checkpoint is None else f"by {checkpoint}, random actions {options.epsilon:g}"
    found.save(options.out, note=f"played {played}")
    returns = found.returns()
    score = f", mean return {np.mean(returns):.2f}" if returns else ""
    print(f"{found.num_steps:,} steps, {len(returns)} whole episodes{score}, in {options.out}")
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.steps < 1:
        raise RunError(f"--steps is {options.steps} but should be at least 1")
    if not 0.0 <= options.epsilon <= 1.0:
        raise RunError(f"--epsilon is {options.epsilon:g} but should be from 0 to 1")
    if options.seed < 0:
        raise RunError(f"--seed is {options.seed} but should be at least 0")
    if options.random and (options.epsilon or options.deterministic or options.checkpoint):
        raise RunError("--random plays without the agent: leave out --epsilon, --deterministic and --checkpoint")
    if (options.out / "recording.json").exists():
        raise RunError(f"there is a recording in {options.out} already; choose another folder")


if __name__ == "__main__":
    sys.exit(guarded(main))
