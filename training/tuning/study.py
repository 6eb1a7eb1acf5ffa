"""The folder of a study: what is looked for, and a run folder for each trial. All that a stopped study goes on from.

<root>/<env>/tune-<agent>-<backbone>-<time>/
    study.json          the experiment, the settings that are looked for, and how
    trials/003/         a run folder, and beside its files
        trial.json      the settings of the trial, and what became of it
        reports.jsonl   a row each time that the metric was measured
    results.csv, results.json, best.yaml, study.png
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from triathlon.networks.errors import nearest
from triathlon.training import schema
from triathlon.training.atomic_write import write_text
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.run_folder import LATEST, RunFolder, file_name, missing_parents, versions
from triathlon.training.tuning.space import Settings, Space

Status = Literal["waiting", "running", "finished", "stopped", "failed"]
DONE = ("finished", "stopped")


@dataclass(frozen=True)
class TuneConfig:
    """How good settings are looked for."""

    trials: Annotated[int, Gt(0), "trials in all; the first one has the settings as they stand"] = 8
    scheduler: Annotated[
        Literal["asha", "pbt", "none"],
        "asha stops poor trials early; pbt lets poor trials go on from good ones with settings near theirs; none",
    ] = "asha"
    search: Annotated[
        Literal["random", "optuna"], "how settings are chosen: at random, or by Optuna from earlier trials"
    ] = "random"
    metric: Annotated[
        str | None,
        MinLen(1),
        "TensorBoard tag to judge by; null: eval/mean_reward if there is evaluation.period, else rollout/ep_rew_mean",
    ] = None
    mode: Annotated[Literal["max", "min"], "whether much or little of the metric is good"] = "max"
    grace_steps: Annotated[
        int | None, Gt(0), "asha: environment steps before a trial may be stopped; null: a ninth of total_steps"
    ] = None
    reduction_factor: Annotated[float, Gt(1), "asha: of so many trials one goes on, each so many times longer"] = 3.0
    perturb_steps: Annotated[
        int | None, Gt(0), "pbt: environment steps between two comparisons; null: a tenth of total_steps"
    ] = None
    concurrent: Annotated[int | None, Gt(0), "trials side by side; null: as many as there are CPUs for"] = None
    cpus: Annotated[int, Gt(0), "CPUs of a trial, and threads of PyTorch unless num_threads is set"] = 1
    gpus: Annotated[float, Ge(0), "GPUs of a trial; 0.25: four trials share one; 0: it computes on CPUs"] = 0.0

    def __post_init__(self) -> None:
        if self.scheduler == "pbt" and self.search != "random":
            raise RunError(f"search is {self.search}, but with scheduler pbt settings move as trials do: it is random")
        if self.scheduler == "pbt" and self.trials < 2:
            raise RunError("trials is 1, but with scheduler pbt trials learn from each other: give at least 2")


@dataclass
class Report:
    """The metric at one moment of a trial: environment steps, seconds of training, and the settings of that moment."""

    num_steps: int
    value: float
    seconds: float
    settings: Settings


@dataclass
class Trial:
    """One trial: a run with settings of its own."""

    number: int
    folder: Path
    settings: Settings = field(default_factory=dict)
    status: Status = "waiting"
    message: str | None = None  # why it failed

    @property
    def name(self) -> str:
        return f"{self.number:03d}"

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(self.folder)

    def write(self, status: Status, message: str | None = None) -> None:
        """Write down what became of it."""
        self.status, self.message = status, message
        content = {"number": self.number, "status": status, "settings": self.settings, "message": message}
        write_text(self.folder / "trial.json", json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Trial:
        """The trial of a folder; raises RunError where its record cannot be read."""
        path = folder / "trial.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(content["number"], folder, content["settings"], content["status"], content["message"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is not the record of a trial: {error}") from error

    def add(self, report: Report) -> None:
        """Write down a report."""
        with open(self.folder / "reports.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(report)) + "\n")

    def reports(self) -> list[Report]:
        """All reports in order. Of steps that were done twice, after a stop, the later ones count."""
        path = self.folder / "reports.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        reports: list[Report] = []
        for line in lines:
            try:
                report = Report(**json.loads(line))
            except (ValueError, TypeError):  # cut short by a kill
                continue
            while reports and reports[-1].num_steps >= report.num_steps:
                reports.pop()
            reports.append(report)
        return reports


@dataclass(frozen=True)
class Study:
    """A study and its folder."""

    path: Path
    space: Space
    config: TuneConfig
    total_steps: int
    made: tuple[Path, ...] = field(default=(), compare=False)  # to put it in, the innermost folder first

    @property
    def metric(self) -> str:
        assert self.config.metric is not None  # `create` chose one
        return self.config.metric

    def trials(self) -> list[Trial]:
        """All trials that were begun or wait, by number."""
        return [Trial.read(path.parent) for path in sorted(self.path.glob("trials/*/trial.json"))]

    def trial(self, number: int) -> Trial:
        """One trial, as its record has it."""
        return Trial.read(self.path / "trials" / f"{number:03d}")

    def add_trial(self, number: int, settings: Mapping[str, Any]) -> Trial:
        """Write down a trial that waits for its turn."""
        trial = Trial(number, self.path / "trials" / f"{number:03d}", dict(settings))
        trial.write("waiting")
        return trial

    def experiment(self, settings: Mapping[str, Any]) -> Experiment:
        """What a trial with these settings runs: no film and no final games, which cost time and choose nothing."""
        experiment = self.space.experiment(settings)
        evaluation = dataclasses.replace(experiment.evaluation, final_episodes=0, video=False, saliency=False)
        threads = experiment.num_threads or self.config.cpus
        device = "cpu" if not self.config.gpus and experiment.device == "auto" else experiment.device
        return dataclasses.replace(experiment, evaluation=evaluation, num_threads=threads, device=device)

    def changed(self, **changes: Any) -> Study:
        """The study with its `TuneConfig` changed, here and in its folder; only for who holds its folder `locked`.

        Raises:
            RunError: a value is not allowed; then nothing is written.
        """
        file = self.path / "study.json"
        content = _read(file)  # once more: another command may have changed it before it let go of the lock
        config = schema.build(TuneConfig, content["config"] | changes, {})
        if changes:
            write_text(file, json.dumps(content | {"config": schema.to_mapping(config)}, indent=2) + "\n")
        return dataclasses.replace(self, config=config)

    def discard_if_empty(self) -> None:
        """Remove the folder of a study that did not start, and those that were made for it alone."""
        if not any(self.path.glob("trials/*/reports.jsonl")):
            RunFolder(self.path, self.made).discard()


def create(base: dict[str, Any], changes: Sequence[str], params: Sequence[str], config: TuneConfig) -> Study:
    """Check a new study and make its folder.

    Raises:
        RunError: what is asked for makes no sense, or the folder cannot be made.
    """
    _refuse_unread(config)
    space = Space.parse(base, changes, params)
    experiment = space.experiment({})
    if experiment.engine != "native":
        raise RunError(f"engine is {experiment.engine}, but only engine native says how good it is while it trains")
    if experiment.device == "cuda" and not config.gpus:
        raise RunError("device is cuda, but --gpus is 0: trials have none; give --gpus 1, or 0.25 for four on each GPU")
    config = dataclasses.replace(config, metric=_metric(config.metric, experiment))
    path, made = _new_folder(experiment)
    content = {
        "config": schema.to_mapping(config),
        "params": space.texts(),
        "experiment": base,
        "changes": list(changes),
        "versions": versions(),
    }
    write_text(path / "study.json", json.dumps(content, indent=2) + "\n")
    return Study(path, space, config, experiment.total_steps, made)


def open_study(study: str | Path, root: str | Path = "runs") -> Study:
    """An earlier study; `latest` is the one below `root` that was begun last.

    Raises:
        RunError: there is no such folder, or it is not the folder of a study.
    """
    if str(study) == LATEST:
        begun = sorted(Path(root).glob("*/*/study.json"), key=lambda path: path.stat().st_mtime_ns)
        if not begun:
            raise RunError(f"there is no study below {Path(root).resolve()}, so none is the latest")
        study = begun[-1].parent
    path = Path(study).resolve()
    if not (path / "study.json").is_file():
        raise RunError(f"{study} is not the folder of a study: it has no study.json")
    content = _read(path / "study.json")
    space = Space.parse(content["experiment"], content["changes"], content["params"])
    config = schema.build(TuneConfig, content["config"], {})
    return Study(path, space, config, space.experiment({}).total_steps)


def _read(file: Path) -> dict[str, Any]:
    """What a study.json says; raises RunError where it is damaged."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        missing = {"config", "experiment", "changes", "params"} - set(content)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if missing:
        raise RunError(f"{file} is damaged: it has no {', '.join(sorted(missing))}")
    return content


# Settings that one scheduler alone reads.
READ_BY = {"grace_steps": "asha", "reduction_factor": "asha", "perturb_steps": "pbt"}


def _refuse_unread(config: TuneConfig) -> None:
    """Raises RunError if a setting is given that the chosen scheduler does not read; not for studies that go on."""
    for name, reader in READ_BY.items():
        value = getattr(config, name)
        if config.scheduler != reader and value != getattr(TuneConfig, name):
            raise RunError(f"{name} is {value}, but nothing reads it unless scheduler is {reader}")


# Tags that every run writes; what else there is depends on the agent and shows only while it learns.
KNOWN_METRICS = ("eval/mean_reward", "eval/mean_ep_length", "rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps")


def _metric(metric: str | None, experiment: Experiment) -> str:
    """The tag to judge by; raises RunError where the experiment will not write it."""
    period = experiment.evaluation.period
    if metric is None:
        return "eval/mean_reward" if period else "rollout/ep_rew_mean"
    if metric not in KNOWN_METRICS and (hint := nearest(metric, KNOWN_METRICS)) and not metric.startswith("train/"):
        raise RunError(f"--metric is {metric}, which no run writes{hint}")
    if metric.startswith("eval/") and not period:
        raise RunError(
            f"--metric is {metric}, but nothing is evaluated: give --evaluation.period, in environment steps"
        )
    return metric


def _new_folder(experiment: Experiment) -> tuple[Path, tuple[Path, ...]]:
    parent = Path(experiment.root).resolve() / file_name(experiment.env.id)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = file_name(experiment.name or f"tune-{experiment.agent.kind}-{experiment.backbone.kind}-{stamp}")
    path = parent / name
    made = missing_parents(path)
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise RunError(f"name: {path} is there already; choose another, or triathlon tune --resume {path}") from error
    except OSError as error:
        raise RunError(f"root: the folder {path} cannot be made: {error.strerror or error}") from error
    return path, made


__all__ = ["DONE", "Report", "Status", "Study", "Trial", "TuneConfig", "create", "open_study"]
