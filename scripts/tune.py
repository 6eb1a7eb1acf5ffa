"""`triathlon tune CONFIG --param SETTING=DISTRIBUTION …`: look for good settings with Ray Tune."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triathlon.envs.errors import EnvError
from triathlon.networks.errors import SettingError
from triathlon.scripts.main import INTERRUPTED, guarded
from triathlon.training.errors import RunError

if TYPE_CHECKING:  # --help does not wait for PyTorch
    from triathlon.training.tuning.study import Study, Trial

# Command-line options of the same names as the fields of `TuneConfig`, which checks and explains them.
OPTIONS = (
    "trials",
    "scheduler",
    "search",
    "metric",
    "mode",
    "grace-steps",
    "reduction-factor",
    "perturb-steps",
    "concurrent",
    "cpus",
    "gpus",
)
WITH_RESUME = ("trials", "concurrent", "cpus", "gpus")


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    parser = _parser()
    options, settings = parser.parse_known_args(arguments)
    if options.help or (name is None) == (options.resume is None):
        print(_help(parser), file=sys.stdout if options.help else sys.stderr)
        return 0 if options.help else 2
    given = _given(options)
    from triathlon.training import config, schema
    from triathlon.training.folder_lock import locked
    from triathlon.training.tuning.study import TuneConfig, create, open_study

    if options.resume:
        if options.param or settings or (fixed := [key for key in given if key not in WITH_RESUME]):
            what = "--param" if options.param else settings[0] if settings else f"--{fixed[0]}"
            allowed = ", ".join(f"--{key}" for key in WITH_RESUME)
            raise RunError(f"{what} cannot be changed of a study that goes on; what can be: {allowed}")
        study = open_study(options.resume)
    else:
        study = create(config.read(str(name)), settings, options.param, schema.build(TuneConfig, given, {}))
    try:
        with locked(study.path):
            return _tune(study.changed(**given) if options.resume else study)
    except (SettingError, EnvError, RunError):
        if not options.resume:
            study.discard_if_empty()
        raise


def _tune(study: Study) -> int:
    from triathlon.training.tuning import picture, results, tuner

    print(f"Tuning in {study.path}", flush=True)
    watcher = Lines(study)
    is_complete = tuner.run(study, watcher)
    found = results.outcomes(study)
    results.write(study, found)
    print()
    print(results.table(study, found))
    print()
    for outcome in found:
        if outcome.trial.status == "failed":
            print(f"Trial {outcome.trial.name} failed: {outcome.trial.message}")
    path = picture.draw(study, found)
    print(f"Table:   {study.path / 'results.csv'}")
    print(f"Picture: {path or 'none: it needs matplotlib, which the extra plot brings'}")
    winner = results.best(found)
    if winner is not None:
        where = shlex.quote(str(results.best_path(study)))
        print(f"Best:    trial {winner.trial.name}; train it anew with: triathlon train {where}")
        if (winner.trial.folder / "checkpoints").is_dir():
            print(f"         or see what it learned: triathlon evaluate {shlex.quote(str(winner.trial.folder))}")
    if not is_complete:
        print(f"Stopped. Go on with: {shlex.join(['triathlon', 'tune', '--resume', str(study.path)])}")
        return INTERRUPTED
    return 0 if winner is not None else 1


class Lines:
    """Says on a line of its own what came of a trial, and now and then how far the others are."""

    PERIOD = 10.0  # seconds

    def __init__(self, study: Study) -> None:
        self._study, self._due = study, time.monotonic() + self.PERIOD
        self._steps: dict[int, tuple[int, float]] = {}

    def reported(self, trial: Trial) -> None:
        reports = trial.reports()
        if reports:
            self._steps[trial.number] = (reports[-1].num_steps, reports[-1].value)
        if time.monotonic() >= self._due and reports:
            self._due = time.monotonic() + self.PERIOD
            self._say(trial, f"{reports[-1].num_steps:,} of {self._study.total_steps:,} steps")

    def ended(self, trial: Trial) -> None:
        from triathlon.training.tuning import results

        reports = trial.reports()
        steps = f" at {reports[-1].num_steps:,} steps" if reports else ""
        self._say(trial, trial.status + steps)
        results.write(self._study, results.outcomes(self._study))

    def _say(self, trial: Trial, what: str) -> None:
        reports = trial.reports()
        value = f"  {self._study.metric} {reports[-1].value:.4g}" if reports else ""
        shown = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial.settings.items())
        why = f": {trial.message}" if trial.message else ""
        print(f"Trial {trial.name}  {what}{value}  ({shown}){why}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triathlon tune",
        usage="triathlon tune (CONFIG --param SETTING=DISTRIBUTION … | --resume STUDY) [--path.to-setting value …]",
        description="Look for good settings of an experiment, in trials on this machine or on a Ray cluster "
        "(RAY_ADDRESS). Other settings of CONFIG may be given as with triathlon train.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this")
    text = "a setting to look for, and what it may be, such as agent.learning_rate='loguniform(1e-5, 1e-2)'; repeat"
    parser.add_argument("--param", action="append", default=[], metavar="S=D", help=text)
    text = "go on with this study ('latest': the last one begun or changed)"
    parser.add_argument("--resume", metavar="STUDY", help=text)
    for name in OPTIONS:
        parser.add_argument(f"--{name}", metavar="X", help=argparse.SUPPRESS)
    return parser


def _help(parser: argparse.ArgumentParser) -> str:
    """The parser's help and a line for each option of the study."""
    from triathlon.training import schema, yaml_text
    from triathlon.training.tuning.distributions import SYNTAX
    from triathlon.training.tuning.study import TuneConfig

    rows = [(path.replace("_", "-"), value, text) for path, value, text in schema.settings(TuneConfig())]
    lines = [f"  --{name:<17} {yaml_text.dump_line(value):<7} {text}" for name, value, text in rows]
    return "\n".join([parser.format_help(), "how to look:", *lines, "", f"distributions: {', '.join(SYNTAX.values())}"])


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of the study that were given, as YAML has their values."""
    from triathlon.training import yaml_text

    given = {name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name in OPTIONS}
    return {name: yaml_text.parse_value(text, f"--{name}") for name, text in given.items() if text is not None}


if __name__ == "__main__":
    sys.exit(guarded(main))
