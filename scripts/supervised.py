"""`triathlon supervised CONFIG [--key value …]`: learn from examples, test the result, and say where everything is."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from triathlon.scripts.main import INTERRUPTED, guarded, refuse_misplaced
from triathlon.training.errors import RunError
from triathlon.training.shipped import catalogue

if TYPE_CHECKING:  # --help does not wait for PyTorch
    from triathlon.training.run_folder import RunFolder
    from triathlon.training.supervised.config import SupervisedExperiment


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = ["triathlon", "supervised", *arguments]
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    parser = _parser()
    options, settings = parser.parse_known_args(arguments)
    if name is not None and options.resume:
        raise RunError("give a configuration or --resume, not both: a run that goes on has its own configuration")
    if name is None and not options.resume:
        if not options.help:
            refuse_misplaced(arguments, "supervised")
        stream = sys.stdout if options.help else sys.stderr
        print(f"{parser.format_help()}\nShipped configurations:\n{catalogue(supervised=True)}", file=stream)
        return 0 if options.help else 2
    from triathlon.training.config import help_text
    from triathlon.training.run_folder import open_run
    from triathlon.training.supervised import config

    earlier = open_run(options.resume) if options.resume else None
    experiment = config.load(earlier.path / "config.yaml" if earlier else str(name), settings)
    if options.help:
        print(parser.format_help())
        print(help_text(experiment))
        return 0
    if earlier:
        earlier.refuse_change(config.load(earlier.path / "config.yaml"), experiment)
    return _fit(experiment, earlier, command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triathlon supervised",
        usage="triathlon supervised (CONFIG | --resume RUN) [--path.to-setting value …]",
        description="CONFIG is a file or the name of a shipped configuration; with it, --help lists every setting.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this, and the settings of CONFIG")
    text = "go on with this run folder ('latest': the last one started or resumed)"
    parser.add_argument("--resume", metavar="RUN", help=text)
    return parser


def _fit(experiment: SupervisedExperiment, earlier: RunFolder | None, command: Sequence[str]) -> int:
    from triathlon.training.atomic_write import write_text
    from triathlon.training.folder_lock import locked
    from triathlon.training.run_folder import create_below
    from triathlon.training.supervised.fit import Fit, fit

    folder = earlier or create_below(experiment.task.kind, experiment.backbone.kind, experiment, command)
    print(f"Fitting in {folder.path}", flush=True)

    def begin(run: Fit) -> None:
        if earlier:  # settings are written down only once they have been found to fit the checkpoint
            earlier.write_experiment(experiment, command)
        if run.taken is not None:
            print(run.taken, flush=True)

    with locked(folder.path), nullcontext() if earlier else folder.discarded_if_empty():
        result = fit(experiment, folder.path, resume=earlier is not None, on_start=begin)
    resume = shlex.join(["triathlon", "supervised", "--resume", str(folder.path)])
    early = ", stopped early: nothing got better" if result.stopped_early else ""
    print(f"{result.num_steps:,} steps in {result.seconds:.1f} s{early}")
    if result.interrupted or result.test is None:
        print(f"Stopped. Go on with: {resume}")
        return INTERRUPTED
    write_text(folder.path / "score.json", json.dumps(result.test.metrics, indent=2) + "\n")
    print(f"Test:   {', '.join(f'{name} {value:.4f}' for name, value in result.test.metrics.items())}")
    print(f"Curves: tensorboard --logdir {shlex.quote(str(folder.path))}")
    print(f"Yours:  {shlex.join(['triathlon', 'predict', str(folder.path)])} FILE…")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
