"""`triathlon train CONFIG [--key value …]`: train an agent, score it, film it, and say where everything is."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from triathlon.scripts.main import INTERRUPTED, guarded
from triathlon.training import config, schema
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.run_folder import RunFolder, create, open_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = ["triathlon", "train", *arguments]
    # The configuration is taken off by hand: argparse would take the value of a setting that it does not know for it.
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    options, settings = _parser().parse_known_args(arguments)
    if name is not None and options.resume:
        raise RunError("give a configuration or --resume, not both: a run that goes on has its own configuration")
    if name is None and not options.resume:
        _parser().print_help()
        return 0 if options.help else 2
    earlier = open_run(options.resume) if options.resume else None
    experiment = earlier.experiment(settings) if earlier else config.load(str(name), settings)
    if options.help:
        print(_parser().format_help())
        print(config.help_text(experiment))
        return 0
    if options.seeds < 1 or (earlier and options.seeds > 1):
        raise RunError(f"--seeds is {options.seeds} but should be at least 1, and 1 with --resume")
    if options.seeds == 1:
        return _train(experiment, earlier, command)[0]
    return _train_seeds(experiment, options.seeds, command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triathlon train",
        usage="triathlon train (CONFIG | --resume RUN) [--seeds N] [--path.to-setting value …]",
        description="CONFIG is a file or the name of a shipped configuration; with it, --help lists every setting.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this, and the settings of CONFIG")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run folder ('latest': the last one started)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train with N seeds, one after another")
    return parser


def _train(experiment: Experiment, earlier: RunFolder | None, command: Sequence[str]) -> tuple[int, float | None]:
    """Train one agent; returns the exit code and the mean score, if it was scored."""
    from triathlon.training.runner import Run

    folder = earlier or create(experiment, command)
    run = None
    try:
        run = Run(experiment, folder.path, resume=earlier is not None)
        if earlier:
            earlier.write_experiment(experiment, command)
        print(f"Training in {folder.path}", flush=True)
        result = run.train()
    except BaseException:
        if not earlier and (run is None or run.num_steps == 0):
            folder.discard()  # nothing was learnt
        raise
    finally:
        if run is not None:
            run.close()
    resume = shlex.join(["triathlon", "train", "--resume", str(folder.path)])
    print(f"{result.num_steps:,} steps in {result.seconds:.1f} s")
    if result.interrupted:
        print(f"Stopped. Go on with: {resume}")
        return INTERRUPTED, None
    mean = _finish(experiment, folder, result.num_steps)
    print(f"Curves:  tensorboard --logdir {shlex.quote(str(folder.path))}")
    print(f"More:    {resume} --total-steps {2 * experiment.total_steps}")
    return 0, mean


def _finish(experiment: Experiment, folder: RunFolder, num_steps: int) -> float | None:
    """Score and film what was trained, and enter both in the logs."""
    from triathlon.scripts.play import SCORE_SEED, film, score, write_scores
    from triathlon.training.logger import Logger

    evaluation, checkpoint = experiment.evaluation, folder.checkpoint()
    logger = Logger(folder.path, experiment.logging, experiment.env.id, resume_step=num_steps)
    mean = None
    if evaluation.final_episodes:
        played = score(experiment, checkpoint, evaluation.final_episodes, SCORE_SEED, evaluation.deterministic)
        found = write_scores(folder.path / "score.json", played, checkpoint, SCORE_SEED, evaluation.deterministic)
        print(f"Score:   {found} ({found.num_scores} fresh episodes, {checkpoint.stem} checkpoint)")
        logger.hparams(schema.to_mapping(experiment), {"eval/final_mean_reward": found.mean}, num_steps)
        mean = found.mean
    if evaluation.video:
        out = folder.path / "videos" / f"{checkpoint.stem}.mp4"
        try:
            _, frames, fps = film(experiment, checkpoint, out, 1, SCORE_SEED + 1, evaluation.deterministic)
            logger.video("eval/video", frames, fps, num_steps)
            print(f"Video:   {out}")
        except Exception as error:  # drawing libraries raise anything; the training itself went well
            print(f"Video:   none ({error})")
    logger.close()
    return mean


def _train_seeds(experiment: Experiment, num_seeds: int, command: Sequence[str]) -> int:
    """Train with `seed`, `seed + 1`, …, and summarise the scores of all."""
    from triathlon.scripts.play import summary

    scores = []
    for seed in range(experiment.seed, experiment.seed + num_seeds):
        name = experiment.name and f"{experiment.name}-seed{seed}"
        code, score = _train(dataclasses.replace(experiment, seed=seed, name=name), None, command)
        if code:
            return code
        if score is not None:
            scores.append(score)
    if scores:
        listed = ", ".join(f"{score:.1f}" for score in scores)
        print(f"\n{num_seeds} seeds: {summary(scores, experiment.seed)} (each: {listed})")
    print(f"Curves:  tensorboard --logdir {shlex.quote(str(Path(experiment.root)))}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
