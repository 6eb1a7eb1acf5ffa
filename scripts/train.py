"""`triathlon train CONFIG [--key value …]`: train an agent, score it, film it, and say where everything is."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from triathlon.scripts.main import INTERRUPTED, guarded, refuse_misplaced
from triathlon.training.errors import RunError
from triathlon.training.shipped import catalogue

if TYPE_CHECKING:  # --help does not wait for PyTorch
    from triathlon.training.config import Experiment
    from triathlon.training.run_folder import RunFolder

AUTO = "auto"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = ["triathlon", "train", *arguments]
    # The configuration is taken off by hand: argparse would take the value of a setting that it does not know for it.
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    parser = _parser()
    options, settings = parser.parse_known_args(arguments)
    auto = options.resume == AUTO
    if name is not None and options.resume and not auto:
        raise RunError("give a configuration or --resume, not both: a run that goes on has its own configuration")
    if name is None and (not options.resume or auto):
        if not options.help:
            refuse_misplaced(arguments, "train")
        stream = sys.stdout if options.help else sys.stderr
        print(f"{parser.format_help()}\nShipped configurations:\n{catalogue()}", file=stream)
        return 0 if options.help else 2
    from triathlon.training import config
    from triathlon.training.run_folder import open_run

    earlier = open_run(options.resume) if options.resume and not auto else None
    experiment = earlier.experiment(settings) if earlier else config.load(str(name), settings)
    if options.help:
        print(parser.format_help())
        print(config.help_text(experiment))
        return 0
    if earlier:
        earlier.refuse_change(earlier.experiment(), experiment)
    if options.seeds < 1 or (earlier and options.seeds > 1):
        raise RunError(f"--seeds is {options.seeds} but should be at least 1, and 1 with --resume")
    if options.seeds > 1:
        return _train_seeds(experiment, options.seeds, command, auto)
    code, _ = _train(experiment, earlier, command, auto)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triathlon train",
        usage="triathlon train (CONFIG [--resume auto] | --resume RUN) [--seeds N] [--path.to-setting value …]",
        description="CONFIG is a file or the name of a shipped configuration; with it, --help lists every setting.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this, and the settings of CONFIG")
    text = "go on with this run folder ('latest': the last one started or resumed); auto, with CONFIG and --name: with "
    text += "the run of that name if it has a checkpoint, else start it"
    parser.add_argument("--resume", metavar="RUN", help=text)
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train with N seeds, one after another")
    return parser


def _train(
    experiment: Experiment, earlier: RunFolder | None, command: Sequence[str], auto: bool
) -> tuple[int, float | None]:
    """Train one agent; returns the exit code and the mean score, if it was scored."""
    from triathlon.agents.ranks import join
    from triathlon.envs.atari_scores import human_normalized
    from triathlon.scripts.score import summary, write_score
    from triathlon.training.evaluate import JUDGING_SEED
    from triathlon.training.folder_lock import locked
    from triathlon.training.learners.follow import follow
    from triathlon.training.run_folder import begun, create, discard_unbegun
    from triathlon.training.runner import train

    if auto and (earlier := begun(experiment)):
        earlier.refuse_change(earlier.experiment(), experiment)
    ranks = join()
    if not ranks.is_first:  # the first process of several writes and tells all there is
        follow(experiment, ranks, earlier.path if earlier else None)
        return 0, None
    if auto and earlier is None:
        discard_unbegun(experiment)
    folder = earlier or create(experiment, command)
    print(f"Training in {folder.path}", flush=True)
    with locked(folder.path), nullcontext() if earlier else folder.discarded_if_empty():
        if earlier:  # its settings are written down only once they have been found to fit its checkpoint
            write = partial(earlier.write_experiment, experiment, command)
            result = train(experiment, folder.path, resume=True, on_start=write)
        else:
            result = train(experiment, folder.path)
    several = ["torchrun", "--nproc-per-node", str(ranks.size), "-m", "triathlon.scripts.main"]
    resume = shlex.join([*(several if ranks.size > 1 else ["triathlon"]), "train", "--resume", str(folder.path)])
    print(f"{result.num_steps:,} steps in {result.seconds:.1f} s")
    if result.bottleneck.num_steps:
        print(result.bottleneck.summary())
    if result.interrupted:
        print("Stopped." if experiment.engine == "rllib" else f"Stopped. Go on with: {resume}")
        return INTERRUPTED, None
    mean = None
    if result.returns:
        found = summary(result.returns)
        deterministic = experiment.evaluation.deterministic
        write_score(folder.path / "score.json", result.returns, result.checkpoint, JUDGING_SEED, deterministic)
        print(f"Score:  {found} ({found.num_scores} fresh episodes, {result.checkpoint.stem} checkpoint)")
        mean = found.mean
        if (normalized := human_normalized(experiment.env.id, mean)) is not None:
            print(f"        {normalized:.2f} where random play is 0 and a professional tester 1")
    if result.video:
        print(f"Video:  {result.video}")
    elif result.no_video:
        print(f"Video:  none: {result.no_video}")
    print(f"Curves: tensorboard --logdir {shlex.quote(str(folder.path))}")
    if experiment.engine != "rllib":  # whose runs cannot go on
        more = f"--total-steps {2 * experiment.total_steps}"
        if experiment.evaluation.goal is not None and result.num_steps < experiment.total_steps:
            more = "--evaluation.goal null"  # with its goal reached, it would train nothing more
        print(f"More:   {resume} {more}")
    return 0, mean


def _train_seeds(experiment: Experiment, num_seeds: int, command: Sequence[str], auto: bool) -> int:
    """Train with `seed`, `seed + 1`, …, and summarise the scores of all."""
    from triathlon.scripts.score import summary

    scores = []
    try:
        for seed in range(experiment.seed, experiment.seed + num_seeds):
            name = experiment.name and f"{experiment.name}-seed{seed}"
            code, score = _train(dataclasses.replace(experiment, seed=seed, name=name), None, command, auto)
            print()
            if code:
                return code
            if score is not None:
                scores.append(score)
    finally:  # what is done counts, whatever happens to a later seed
        if scores:
            listed = ", ".join(f"{score:.1f}" for score in scores)
            print(f"{len(scores)} seeds: {summary(scores)} (each: {listed})")
    print(f"Curves:  tensorboard --logdir {shlex.quote(str(Path(experiment.root)))}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
