"""Runs the trials of a study on Ray Tune, says how far it is, and keeps the results up to date.

With `triathlon.training.tuning.trial` and `.schedulers` the only place that imports `ray.tune`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from triathlon.training.errors import RunError
from triathlon.training.machine import num_cores
from triathlon.training.tuning.space import Settings
from triathlon.training.tuning.study import DONE, Study, Trial
from triathlon.training.workers.ray_cluster import QUIET

RETRIES = 2  # of a trial whose process died; one that fails by itself fails for good
RAY_FOLDER = "ray"  # what Ray Tune writes while it runs
ENVIRONMENT = {
    **QUIET,
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # environments of one's own are found where the command was given
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a trial writes its own CSV and TensorBoard files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed before its first report has none
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",  # `_check_room` has said so before
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class Watcher(Protocol):
    """Is told of what happens, for whoever is watching."""

    def reported(self, trial: Trial) -> None:
        """The metric of a trial was measured."""

    def ended(self, trial: Trial) -> None:
        """A trial finished, was stopped early, or failed."""


def run(study: Study, watcher: Watcher) -> bool:
    """Run all trials that are not done; returns whether they were, and not stopped by Ctrl-C or SIGTERM before.

    Raises:
        RunError: Ray or Optuna is not installed, or the cluster has no room for a trial.
    """
    trials = study.trials()
    # Generators of one study, and of each part of it where it was stopped and gone on with.
    seeds = np.random.SeedSequence(study.space.experiment({}).seed).spawn(2)
    draw, move = np.random.default_rng(seeds[0]), np.random.default_rng([seeds[1].entropy, len(trials)])
    if study.config.search == "random":
        trials = _drawn(study, draw)
    if len(trials) >= study.config.trials and all(trial.status in DONE for trial in trials):
        return True
    with _cluster(study):
        return _run(study, trials, move, watcher)


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
        tune.with_resources(trainable, _room(study)),
        param_space=space,
        tune_config=tune.TuneConfig(
            scheduler=make_scheduler(study, trials, rng),
            search_alg=searcher,
            num_samples=1 if searcher is None else config.trials,
            max_concurrent_trials=config.concurrent,
            reuse_actors=True,  # a process that has imported PyTorch goes on with the next trial
            trial_name_creator=_name,
            trial_dirname_creator=_name,
            **({"metric": "value", "mode": config.mode} if config.scheduler == "none" else {}),
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


def _room(study: Study) -> Any:
    """What the cluster sets aside for a trial: for its learner, and for the rollout workers that it starts."""
    from ray.tune import PlacementGroupFactory

    config, workers = study.config, study.space.experiment({}).workers
    bundles: list[dict[str, float]] = [{"CPU": config.cpus, **({"GPU": config.gpus} if config.gpus else {})}]
    if workers.kind == "ray":
        bundles += [{"CPU": workers.cpus_per_worker}] * workers.num
    return PlacementGroupFactory(bundles)


@contextmanager
def _cluster(study: Study) -> Iterator[None]:
    """A Ray cluster: the one that `RAY_ADDRESS` names, else one on this machine, which goes when the block ends."""
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    try:
        import ray
        import ray.tune
    except ImportError as error:
        raise RunError('tuning needs Ray Tune, which is not installed: pip install "triathlon[tune]"') from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    # Ray's sockets and logs; not in the study, whose path may be longer than a socket's may be. The link finds them if
    # this process was killed and could not remove them.
    link = study.path / ".ray"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()
    folder = Path(tempfile.mkdtemp(prefix="tune-"))
    link.symlink_to(folder)
    if not address or address == "local":
        address = "local"
        quiet |= {"include_dashboard": False, "num_cpus": num_cores(), "object_store_memory": 200 * 2**20}
        quiet |= {"_temp_dir": str(folder)}
    try:
        try:
            ray.init(address=address, **quiet)
        except Exception as error:
            where = "on this machine" if address == "local" else f"at {address} (RAY_ADDRESS)"
            raise RunError(f"there is no Ray cluster {where}: {error}") from error
        _check_room(study, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        link.unlink(missing_ok=True)


def _check_room(study: Study, there: dict[str, float]) -> None:
    """Raises RunError where a trial would wait for ever."""
    needed: dict[str, float] = {}
    for bundle in _room(study).bundles:
        for name, amount in bundle.items():
            needed[name] = needed.get(name, 0.0) + amount
    for name, amount in needed.items():
        if amount > there.get(name, 0.0):
            raise RunError(f"a trial needs {amount:g} {name}, but the cluster has {there.get(name, 0.0):g}")


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
