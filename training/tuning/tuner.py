"""Runs the trials of a study on Ray Tune, says how far it is, and keeps the results up to date.

With `trial`, `schedulers` and `cluster` beside it the only place that imports Ray Tune.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np

from triathlon.training.tuning.cluster import cluster
from triathlon.training.tuning.moves import check_moves
from triathlon.training.tuning.space import Settings
from triathlon.training.tuning.study import DONE, Study, Trial

RETRIES = 2  # of a trial whose process died; one that fails by itself fails for good
RAY_FOLDER = "ray"  # what Ray Tune writes while it runs


class Watcher(Protocol):
    """Is told of what happens, for whoever is watching."""

    def reported(self, trial: Trial) -> None:
        """The metric of a trial was measured."""

    def ended(self, trial: Trial) -> None:
        """A trial finished, was stopped early, or failed."""


def run(study: Study, watcher: Watcher) -> bool:
    """Run all trials that are not done; returns whether they were, and not stopped by Ctrl-C or SIGTERM before.

    Raises:
        RunError: Ray or Optuna is not installed, the cluster has no room for a trial, or settings of population-based
            training cannot change on the way.
    """
    trials = study.trials()
    seed = study.space.experiment({}).seed
    if study.config.search == "random":
        trials = _drawn(study, np.random.default_rng([seed, 0]))
    if len(trials) >= study.config.trials and all(trial.status in DONE for trial in trials):
        return True
    if study.config.scheduler == "pbt" and not any(trial.reports() for trial in trials):
        check_moves(study)
    # A study that was stopped does not make the same moves again.
    moves = np.random.default_rng([seed, 1, sum(len(trial.reports()) for trial in trials)])
    with cluster(study.path, _bundles(study)):
        return _run(study, trials, moves, watcher)


def _drawn(study: Study, rng: np.random.Generator) -> list[Trial]:
    """All trials of a random search: the first with the experiment's own settings, the others drawn.

    All are drawn each time, so that a study that is stopped, or prolonged, has the trials of one that is not.
    """
    there = {trial.number: trial for trial in study.trials()}
    drawn: list[Settings] = [study.space.baseline()]
    while len(drawn) < study.config.trials:
        drawn.append(study.space.draw(rng))
    return [there.get(n) or study.add_trial(n, settings) for n, settings in enumerate(drawn)]


def _run(study: Study, trials: Sequence[Trial], rng: np.random.Generator, watcher: Watcher) -> bool:
    from ray import tune

    from triathlon.training.tuning.schedulers import make_scheduler, make_searcher
    from triathlon.training.tuning.trial import run_trial

    config, path = study.config, str(study.path)

    def trainable(settings: dict[str, Any]) -> None:
        run_trial(path, int(tune.get_context().get_trial_name()), settings["trial"]["settings"])

    todo = [trial for trial in trials if trial.status not in DONE]
    space: dict[str, Any] = {}
    searcher = None
    if config.search == "random":
        space["trial"] = tune.grid_search([{"number": t.number, "settings": t.settings} for t in todo])
    else:
        if not trials:
            trials = [study.add_trial(0, study.space.baseline())]
        searcher = make_searcher(study, trials)
    shutil.rmtree(study.path / RAY_FOLDER, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory(_bundles(study))),
        param_space=space,
        tune_config=tune.TuneConfig(
            scheduler=make_scheduler(study, trials, rng),
            search_alg=searcher,
            num_samples=1 if searcher is None else config.trials,
            max_concurrent_trials=config.concurrent,
            reuse_actors=True,  # a process that has imported PyTorch goes on with the next trial
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=RAY_FOLDER,
            storage_path=path,
            verbose=0,
            callbacks=[_callback(study, watcher)],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            # Population-based training wants to find the checkpoints of a trial that is a little ahead.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4),
        ),
    )
    with _stopped_by_sigterm():
        tuner.fit()
    shutil.rmtree(study.path / RAY_FOLDER, ignore_errors=True)
    trials = study.trials()
    return len(trials) >= config.trials and all(trial.status in (*DONE, "failed") for trial in trials)


def _name(trial: Any) -> str:
    return f"{trial.config['trial']['number']:03d}"


def _callback(study: Study, watcher: Watcher) -> Any:
    from ray import tune

    class Callback(tune.Callback):
        """Writes down what only Ray Tune knows: that it stopped a trial, or that the process of one is gone."""

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            watcher.reported(study.trial(int(str(trial))))

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            record = study.trial(int(str(trial)))
            if record.status == "running":
                record.write("stopped")
            watcher.ended(record)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            record = study.trial(int(str(trial)))
            if record.status != "failed":
                record.write("failed", f"its process died {RETRIES + 1} times, as when memory is full")
            watcher.ended(record)

    return Callback()


def _bundles(study: Study) -> list[dict[str, float]]:
    """What the cluster sets aside for a trial: for its learner, and for each rollout worker that it starts."""
    config, workers = study.config, study.space.experiment({}).workers
    bundles: list[dict[str, float]] = [{"CPU": config.cpus, **({"GPU": config.gpus} if config.gpus else {})}]
    if workers.kind == "ray":
        bundles += [{"CPU": workers.cpus_per_worker}] * workers.num
    return bundles


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does: trials are left where they are, and the results so far are written."""
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        with suppress(TypeError):  # a handler that was not set from Python
            signal.signal(signal.SIGTERM, before)


__all__ = ["Watcher", "run"]
