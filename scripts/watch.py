"""`triathlon watch RUN`: see a trained agent play, in a window or as a film."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gymnasium.vector import AutoresetMode, SyncVectorEnv

from triathlon.envs.make import make_env
from triathlon.scripts.main import guarded, has_screen
from triathlon.scripts.play import SCORE_SEED, film
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.evaluate import Evaluation, evaluate
from triathlon.training.run_folder import open_run
from triathlon.training.runner import load_policy


def main(arguments: Sequence[str] | None = None) -> int:
    """Show or film as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="triathlon watch", description="See a trained agent play.")
    parser.add_argument("run", metavar="RUN", help="the folder of a run ('latest': the last one started)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="film it into this .mp4 or .gif; default: a window")
    parser.add_argument("--episodes", type=int, default=1, metavar="N", help="episodes to play (default: 1)")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the episodes (default: one never trained on)")
    parser.add_argument("--stochastic", action="store_true", help="draw actions instead of playing the best one")
    parser.add_argument("--checkpoint", choices=["best", "last"], help="default: the best if there is one")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        raise RunError(f"--episodes is {options.episodes} but should be at least 1")
    if options.out is None and not has_screen():
        raise RunError("there is no screen to open a window on: film it with --out film.mp4")

    folder = open_run(options.run)
    checkpoint = folder.checkpoint(options.checkpoint)
    experiment = folder.experiment()
    seed = SCORE_SEED if options.seed is None else options.seed
    if options.out is None:
        played = _show(experiment, checkpoint, options.episodes, seed, not options.stochastic)
    else:
        played, _, _ = film(experiment, checkpoint, options.out, options.episodes, seed, not options.stochastic)
        print(f"Video:   {options.out}")
    print(f"Returns: {', '.join(f'{value:.1f}' for value in played.returns)}")
    return 0


def _show(experiment: Experiment, checkpoint: Path, num_episodes: int, seed: int, deterministic: bool) -> Evaluation:
    """Play whole episodes in a window, at the speed that the environment asks for."""
    envs = SyncVectorEnv([lambda: make_env(experiment.env, "human")], autoreset_mode=AutoresetMode.NEXT_STEP)
    try:
        return evaluate(load_policy(checkpoint, experiment), envs, num_episodes, seed, deterministic)
    finally:
        envs.close()


if __name__ == "__main__":
    sys.exit(guarded(main))
