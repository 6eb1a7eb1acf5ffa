"""Hands an experiment to the engine that it names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from triathlon.training.config import Experiment
from triathlon.training.engines.settings import check
from triathlon.training.judging import Result


def train(
    experiment: Experiment, folder: Path, resume: bool = False, on_start: Callable[[], None] | None = None
) -> Result:
    """As `triathlon.training.runner.train`, by the library of `experiment.engine`, which is imported only here.

    Raises:
        SettingError, EnvError, RunError: the library is not installed, cannot honour a setting, or a file is at fault.
    """
    check(experiment)
    engine = importlib.import_module(f"triathlon.training.engines.{experiment.engine}")
    result: Result = engine.train(experiment, folder, resume, on_start)
    return result


__all__ = ["train"]
