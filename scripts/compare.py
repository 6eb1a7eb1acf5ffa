"""`triathlon compare CONFIG --engines native,rllib,sb3 --seeds 3`: the same experiment by several engines."""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triathlon.networks.errors import nearest
from triathlon.scripts.main import INTERRUPTED, guarded
from triathlon.training import config
from triathlon.training.config import Experiment
from triathlon.training.engines.comparison import add_cpu_seconds, draw, is_finished, read_runs, table, write_json
from triathlon.training.engines.refusals import check_made
from triathlon.training.engines.settings import NAMES
from triathlon.training.errors import RunError
from triathlon.training.figures import require_drawing
from triathlon.training.folder_lock import locked
from triathlon.training.run_folder import RunFolder, file_name
from triathlon.training.stopping import stoppable

ENGINES = ("native", *NAMES)
# What is the same for all, and would only hide how fast an engine trains.
QUIET = {"period": "null", "goal": "null", "video": "false", "saliency": "false"}
QUIET_ARGUMENTS = [part for name, value in QUIET.items() for part in (f"--evaluation.{name}", value)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not trained yet, then draw and print; returns the exit code."""
    options, settings = _parser().parse_known_args(arguments)
    base, planned = plan(options, settings)
    require_drawing(options.out)  # before hours of training
    for turn in zip(*planned.values(), strict=True):  # engines take turns: what else the machine does meets them all
        for experiment in turn:
            if not is_finished(_folder(experiment)) and (code := _train(options.config, settings, experiment)):
                if code == INTERRUPTED:
                    print("Stopped; the same command goes on.")
                    return code
                raise RunError(f"the run {_folder(experiment)} failed with exit code {code}; its message is above")
    runs = [read_runs(engine, [_folder(e) for e in experiments]) for engine, experiments in planned.items()]
    print(table(runs))
    write_json(options.out.with_suffix(".json"), runs)
    draw(runs, options.out, f"{base.env.id} by {base.agent.kind}, {base.backbone.kind}")
    print(f"Picture: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triathlon compare",
        usage="triathlon compare CONFIG [--engines E,…] [--seeds N] [--out FILE] [--path.to-setting value …]",
        description="Train one configuration by several engines with several seeds, each run in a process of its own, "
        "and draw their learning curves. Started again, it goes on: a finished run is not run again. Unless told "
        "otherwise, nothing is evaluated or filmed before the end.",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", help="a file or the name of a shipped configuration")
    parser.add_argument("--engines", default=",".join(ENGINES), metavar="E,…", help=f"default: {','.join(ENGINES)}")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each engine (default: 3)")
    text = "what the runs are called, followed by engine and seed (default: compare- and the configuration's name)"
    parser.add_argument("--name", metavar="NAME", help=text)
    text = "the picture to write; the numbers stand beside it as .json (default: compare.png)"
    parser.add_argument("--out", type=Path, default=Path("compare.png"), metavar="FILE", help=text)
    return parser


def plan(options: argparse.Namespace, settings: Sequence[str]) -> tuple[Experiment, dict[str, list[Experiment]]]:
    """What is compared, and its experiment for each engine and seed.

    Raises:
        SettingError, RunError: an engine cannot run it, or an earlier run of that name was another.
    """
    engines = _engines(options.engines)
    if options.seeds < 1:
        raise RunError(f"--seeds is {options.seeds} but should be at least 1")
    name = options.name or f"compare-{Path(options.config).name.removesuffix('.yaml')}"
    base = config.load(options.config, [*QUIET_ARGUMENTS, *settings])
    _refuse_unreadable(base)
    planned = {
        engine: [
            dataclasses.replace(base, engine=engine, seed=base.seed + i, name=f"{name}-{engine}-seed{base.seed + i}")
            for i in range(options.seeds)
        ]
        for engine in engines
    }
    for engine, experiments in planned.items():
        if engine != "native":
            check_made(experiments[0])
        for experiment in experiments:
            _check_earlier(experiment)
    return base, planned


def _refuse_unreadable(base: Experiment) -> None:
    """Raises RunError if the runs would not write down what is compared."""
    if not base.evaluation.final_episodes:
        raise RunError("evaluation.final_episodes is 0, but scores are compared; leave it out, or say how many")
    if not base.logging.csv:
        raise RunError("logging.csv is false, but learning curves are compared; leave it out")
    if base.logging.period > base.total_steps:
        raise RunError(
            f"logging.period is {base.logging.period} and total_steps {base.total_steps}, but learning curves are "
            "compared; make the period shorter"
        )


def _engines(text: str) -> list[Any]:
    engines: list[Any] = text.split(",")
    for engine in engines:
        if engine not in ENGINES:
            raise RunError(
                f"--engines: there is no engine '{engine}'{nearest(engine, ENGINES)}; there are {', '.join(ENGINES)}"
            )
    if len(set(engines)) < len(engines):
        raise RunError(f"--engines is {text}, which names an engine twice")
    return engines


def _folder(experiment: Experiment) -> Path:
    return Path(experiment.root) / file_name(experiment.env.id) / file_name(str(experiment.name))


def _check_earlier(experiment: Experiment) -> None:
    """Raises RunError where a run of that name has other settings."""
    path = _folder(experiment)
    if (path / "config.yaml").is_file() and RunFolder(path).experiment() != experiment:
        raise RunError(f"{path} is a run with other settings; give this comparison another --name, or remove the run")


def _train(name: str, settings: Sequence[str], experiment: Experiment) -> int:
    """Train in a process of its own, so that no engine loads another's library; returns its exit code."""
    path = _folder(experiment)
    command = [sys.executable, "-m", "triathlon.scripts.main", "train"]
    begun = path.is_dir()
    if begun and experiment.engine != "rllib" and (path / "checkpoints" / "last.safetensors").is_file():
        command += ["--resume", str(path)]
    else:
        if begun:
            with locked(path):
                RunFolder(path).discard()
        chosen = {"--engine": experiment.engine, "--seed": str(experiment.seed), "--name": str(experiment.name)}
        command += [name, *QUIET_ARGUMENTS, *settings, *(part for pair in chosen.items() for part in pair)]
    before = os.times()
    code = _wait_for(subprocess.Popen(command))
    after = os.times()
    if path.is_dir():
        spent = after.children_user - before.children_user + after.children_system - before.children_system
        add_cpu_seconds(path, spent)
    return code


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; whoever asks this process to stop asks that one, which saves what it has before it ends."""
    with stoppable(patient=True) as wish:
        is_told = False
        while True:
            try:
                code = process.wait(0.2)
                # It may not have come to where it hears of it, and then ends as the signal has it.
                return INTERRUPTED if wish.to_stop and code else code
            except subprocess.TimeoutExpired:
                if wish.to_stop and not is_told:
                    process.terminate()
                    is_told = True


if __name__ == "__main__":
    sys.exit(guarded(main))
