"""One trial of a study: an ordinary run in a folder of its own, which tells Ray Tune each time that it was measured.

Runs in a process of Ray. A trial goes on from its own last checkpoint if its process or the whole study was stopped,
and from another trial's where population-based training says so.
"""

from __future__ import annotations

import shutil
import traceback
from pathlib import Path
from typing import Any

from ray import tune

from triathlon.envs.errors import EnvError
from triathlon.networks.errors import SettingError, nearest
from triathlon.training.errors import RunError
from triathlon.training.runner import Run, train
from triathlon.training.tuning.study import Report, Study, Trial, open_study


def run_trial(study_path: str, number: int, settings: dict[str, Any]) -> None:
    """Train trial `number` with `settings` to its end, or until Ray Tune stops it.

    What a trial itself does wrong is written into its record and ends it; only the loss of its process is for Ray Tune.
    """
    study = open_study(study_path)
    trial = study.trial(number)
    trial.settings = settings
    try:
        _train(study, trial)
    except (SettingError, EnvError, RunError) as error:
        trial.write("failed", str(error))
    except Exception as error:
        (trial.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        trial.write("failed", f"{type(error).__name__}: {error} (all of it in {trial.folder / 'error.txt'})")


def _train(study: Study, trial: Trial) -> None:
    experiment = study.experiment(trial.settings)
    checkpoints = trial.folder / "checkpoints"
    if (given := tune.get_checkpoint()) is not None:
        with given.as_directory() as folder:
            _take_over(Path(folder), checkpoints)
    trial.write("running")
    trial.run_folder.write_experiment(experiment, ["triathlon", "tune", "--resume", str(study.path)])
    seen: set[str] = set()

    def report(run: Run, scalars: dict[str, float]) -> None:
        seen.update(scalars)
        if study.metric not in scalars:
            if study.metric.startswith("eval/") and any(tag.startswith("eval/") for tag in scalars):
                raise RunError(_unwritten(study.metric, seen))
            return
        value = float(scalars[study.metric])
        trial.add(Report(run.num_steps, value, run.seconds, trial.settings))
        metrics = {"value": value, "num_steps": run.num_steps}
        if study.config.scheduler == "pbt":
            run.save()
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(checkpoints))
        else:
            tune.report(metrics)

    resume = (checkpoints / "last.safetensors").is_file()
    train(experiment, trial.folder, resume=resume, on_report=report)
    if not trial.reports():
        raise RunError(_unwritten(study.metric, seen))
    trial.write("finished")


def _take_over(given: Path, checkpoints: Path) -> None:
    """Put the checkpoints of another trial, or earlier ones of this one, in the place of those that are there."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    for path in checkpoints.glob("*.safetensors"):  # the best of another past is not the best of this one
        path.unlink()
    for path in given.glob("*.safetensors"):
        shutil.copyfile(path, checkpoints / path.name)


def _unwritten(metric: str, seen: set[str]) -> str:
    hint = nearest(metric, seen)
    return f"--metric is {metric}, which the trial did not write{hint}; it wrote {', '.join(sorted(seen))}"


__all__ = ["run_trial"]
