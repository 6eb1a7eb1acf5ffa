"""Whether trials can go on from each other's checkpoints under other settings: tried before a study begins."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import closing
from pathlib import Path

from triathlon.envs.errors import EnvError
from triathlon.networks.errors import SettingError
from triathlon.training.config import Experiment, LoggingConfig
from triathlon.training.errors import RunError
from triathlon.training.runner import Run
from triathlon.training.tuning.study import Study
from triathlon.training.workers.config import WorkersConfig


def check_moves(study: Study) -> None:
    """Save a run after one update, and let it go on with each setting at both ends of its range.

    Raises:
        RunError: a setting cannot change on the way, such as the number of environments or what the weights depend on.
    """
    with tempfile.TemporaryDirectory(prefix="tune-") as name:
        folder = Path(name)
        with closing(Run(_alone(study.experiment({})), folder)) as run:
            run.learner.update(run.collector.collect(run.learner.num_rows))
            run.save()
        for param, distribution in study.space.params.items():
            for value in distribution.extremes():
                experiment = _alone(study.experiment({param: value}))
                try:
                    Run(experiment, folder, resume=True).close()
                except (RunError, SettingError, EnvError) as error:
                    said = str(error).replace(f"{folder}/", "")
                    raise RunError(
                        f"--param {param}: with --scheduler pbt trials go on from each other's checkpoints with other "
                        f"settings, and this one cannot change on the way: {said}"
                    ) from error


def _alone(experiment: Experiment) -> Experiment:
    """Without files of its own and without rollout workers, which change nothing here."""
    quiet = LoggingConfig(tensorboard=False, csv=False, histograms=False)
    return dataclasses.replace(experiment, workers=WorkersConfig(), logging=quiet)


__all__ = ["check_moves"]
