"""`triathlon evaluate RUN`: score a trained agent on episodes that it has never seen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from triathlon.scripts.main import guarded
from triathlon.scripts.play import SCORE_SEED, score, write_scores
from triathlon.training.errors import RunError
from triathlon.training.run_folder import open_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Score as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="triathlon evaluate", description="Score a trained agent on fresh episodes.")
    parser.add_argument("run", metavar="RUN", help="the folder of a run ('latest': the last one started)")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="episodes to play (default: 100)")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the episodes (default: one never trained on)")
    parser.add_argument("--stochastic", action="store_true", help="draw actions instead of playing the best one")
    parser.add_argument("--checkpoint", choices=["best", "last"], help="default: the best if there is one")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        raise RunError(f"--episodes is {options.episodes} but should be at least 1")
    if options.seed is not None and options.seed < 0:
        raise RunError(f"--seed is {options.seed} but should be at least 0")

    folder = open_run(options.run)
    checkpoint = folder.checkpoint(options.checkpoint)
    experiment = folder.experiment()
    seed = SCORE_SEED if options.seed is None else options.seed
    played = score(experiment, checkpoint, options.episodes, seed, not options.stochastic)
    found = write_scores(folder.path / "score.json", played, checkpoint, seed, not options.stochastic)
    lengths = sum(played.lengths) / len(played.lengths)
    print(f"{folder.path}, {checkpoint.stem} checkpoint, {found.num_scores} episodes of {experiment.env.id}")
    for label, value, (low, high) in (
        ("mean return", found.mean, found.mean_interval),
        ("interquartile mean", found.iqm, found.iqm_interval),
    ):
        print(f"  {label:<20} {value:10.2f}   95 % interval {low:.2f} to {high:.2f}")
    print(f"  mean length          {lengths:10.1f}   steps")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
