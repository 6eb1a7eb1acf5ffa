"""The only loop: draw a batch, take a step, measure, save. Every random number is a function of the seed and the step.

T rows in time, B examples of a batch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triathlon.networks.backbone import State
from triathlon.networks.errors import SettingError
from triathlon.training import checkpoint, gpus
from triathlon.training.config import LoggingConfig, dump
from triathlon.training.errors import RunError
from triathlon.training.logger import Logger
from triathlon.training.machine import allow_tf32, pick_device
from triathlon.training.progress import Progress
from triathlon.training.stopping import stoppable
from triathlon.training.supervised.averaging import average_of, follow
from triathlon.training.supervised.config import SupervisedExperiment
from triathlon.training.supervised.examples import Dataset, Indices, digest
from triathlon.training.supervised.network import (
    INITIAL,
    compile_backbone,
    load_checkpoint,
    make_network,
    restore_network,
)
from triathlon.training.supervised.projector import write_projector
from triathlon.training.supervised.registry import make_task
from triathlon.training.supervised.schedule import learning_rate, make_optimizer, restore_optimizer, set_learning_rate
from triathlon.training.supervised.start_from import take_backbone
from triathlon.training.supervised.task import Evaluation

ORDER, AUGMENTATION, DROPOUT = INITIAL + 1, INITIAL + 2, INITIAL + 3  # what random numbers are drawn for


@dataclass
class FitResult:
    """How a run ended."""

    num_steps: int
    seconds: float
    checkpoint: Path
    interrupted: bool
    stopped_early: bool
    test: Evaluation | None = None


class FitProgress(Progress):
    """Shows steps and the last measure."""

    words = "no evaluation yet"

    def _shown(self) -> str:
        return self.words


class Fit:
    """One supervised run in one folder; it can be made from a checkpoint and go on to the bit."""

    def __init__(self, experiment: SupervisedExperiment, folder: Path, resume: bool = False) -> None:
        self.experiment, self.folder, config = experiment, folder, experiment.fit
        self.device = pick_device(experiment.device)
        if sentence := gpus.sentence(experiment.device, self.device):
            sys.stderr.write(f"{sentence}\n")
        allow_tf32(experiment.precision, self.device)
        last = load_checkpoint(folder / "checkpoints" / "last.safetensors", experiment) if resume else None
        self.task = make_task(experiment.task)
        if experiment.logging.embeddings and not self.task.can_embed:
            raise SettingError(
                f"logging.embeddings: task '{experiment.task.kind}' has no features to show; set it to 0"
            )
        if config.averaging is not None and self.task.averages:
            raise SettingError(
                f"fit.averaging: task '{experiment.task.kind}' averages by itself (task.averaging); set it to null"
            )
        self.network = make_network(experiment, self.task, self.device)
        self.taken = None
        if experiment.init_from is not None and last is None:
            self.taken = take_backbone(
                self.network.backbone, experiment.init_from, experiment.init_partly, self.task.facts, self.task.space
            )
        # What is measured and kept as the best. It runs as it is: measuring is too short to be worth compiling for.
        self.judged = self.network if config.averaging is None else average_of(self.network)
        if config.compile:
            compile_backbone(self.network, self.device)
        self.optimizer = make_optimizer(self.network, config)
        num_batches = len(self._batches_of(0))
        self.steps_per_epoch = num_batches // config.accumulate
        if not self.steps_per_epoch:
            raise RunError(
                f"fit.accumulate is {config.accumulate}, but an epoch has {num_batches} batches of "
                f"{config.batch_size}; make one of them smaller"
            )
        self.total_steps = config.num_epochs * self.steps_per_epoch
        self.num_steps, self.seconds = 0, 0.0
        self.best_score, self.num_bad = -np.inf, 0
        self._state: State | None = None
        self._order: list[Indices] | None = None
        self._generator = torch.Generator(self.device)
        self._loss, self._grad_norm = torch.zeros(2, device=self.device)
        self._num_logged = 0
        if last is not None:
            self._restore(last)
        self.logger = Logger(
            folder,
            LoggingConfig(experiment.logging.period, experiment.logging.tensorboard, experiment.logging.csv, False),
            env_id=None,
            resume_step=self.num_steps,
            configuration=f"```yaml\n{dump(experiment)}```",
        )

    def train(self) -> FitResult:
        """Fit until all epochs are done, nothing gets better, or somebody asks for a stop; then test the best."""
        config, period = self.experiment.fit, self.experiment.logging.period
        evaluation_period = config.evaluation_period or self.steps_per_epoch
        started = time.perf_counter() - self.seconds
        with stoppable() as wish, FitProgress(self.total_steps, self.num_steps) as progress:
            while self.num_steps < self.total_steps and not wish.to_stop and not self.gave_up:
                self._step()
                progress.update(self.num_steps, ())
                self.seconds = time.perf_counter() - started
                if self.num_steps % period == 0:
                    self._log()
                if self.num_steps % evaluation_period == 0 or self.num_steps == self.total_steps:
                    progress.words = self._evaluate()
                    self._save("last")
            self.seconds = time.perf_counter() - started
            path = self._save("last")
            stopped_early = self.gave_up and self.num_steps < self.total_steps
            result = FitResult(self.num_steps, self.seconds, path, wish.to_stop, stopped_early)
        if not result.interrupted:
            result.checkpoint, result.test = self._test()
        return result

    @property
    def gave_up(self) -> bool:
        """Whether nothing got better for as long as `fit.patience` allows."""
        return self.experiment.fit.patience is not None and self.num_bad >= self.experiment.fit.patience

    def close(self) -> None:
        """Close the files."""
        self.logger.close()

    # --- one step -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        config, task, network = self.experiment.fit, self.task, self.network
        epoch, place = divmod(self.num_steps, self.steps_per_epoch)
        if self._order is None or place == 0:
            self._order = self._batches_of(epoch)
        if place == 0:
            self._state = None
        network.train()
        set_learning_rate(self.optimizer, learning_rate(config, self.num_steps, self.total_steps))
        for number in range(self.num_steps * config.accumulate, (self.num_steps + 1) * config.accumulate):
            batch = task.splits.train.batch(self._order[number - epoch * self.steps_per_epoch * config.accumulate])
            batch = task.augment(batch, self._rng(AUGMENTATION, number)).to(self.device)
            self._generator.manual_seed(int(self._rng(DROPOUT, number).integers(2**63)))
            loss, state = task.loss(network, batch, self._state, self._generator)
            if task.carries_state:
                self._state = tuple(s.detach() for s in state)
            (loss / config.accumulate).backward()
            self._loss += loss.detach() / config.accumulate
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        longest = torch.inf if config.max_grad_norm is None else config.max_grad_norm
        self._grad_norm += torch.nn.utils.clip_grad_norm_(parameters, longest)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.num_steps += 1
        with torch.no_grad():
            task.after_step(network, self.num_steps)
            if config.averaging is not None:
                follow(self.judged, network, config.averaging, self.num_steps)
        self._num_logged += 1

    def _batches_of(self, epoch: int) -> list[Indices]:
        return self.task.splits.train.order(self.experiment.fit.batch_size, self._rng(ORDER, epoch))

    def _rng(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.experiment.seed, spawn_key=(purpose, number)))

    # --- what is written down -----------------------------------------------------------------------------------------

    def _log(self) -> None:
        loss = float(self._loss) / self._num_logged
        if not np.isfinite(loss):
            raise RunError(f"the loss is {loss} at step {self.num_steps}; try a smaller fit.learning_rate")
        config = self.experiment.fit
        num_examples = self.num_steps * config.accumulate * config.batch_size
        self.logger.scalars(
            {
                "train/loss": loss,
                "train/grad_norm": float(self._grad_norm) / self._num_logged,
                "train/learning_rate": learning_rate(config, self.num_steps - 1, self.total_steps),
                "train/epoch": self.num_steps / self.steps_per_epoch,
                "time/examples_per_second": num_examples / max(self.seconds, 1e-9),
                "time/time_elapsed": self.seconds,
            },
            self.num_steps,
        )
        self._loss.zero_()
        self._grad_norm.zero_()
        self._num_logged = 0

    def _evaluate(self) -> str:
        """Measure on the validation examples, and keep the weights if they are the best so far; says how good."""
        task = self.task
        found = self._measure("validation", task.splits.validation)
        value = found.metrics[task.metric]
        for name in ("loss", task.metric):  # also the loss: the accuracy of logits that are NaN is a number like others
            if not np.isfinite(measure := found.metrics.get(name, 0.0)):
                raise RunError(f"{name} is {measure} at step {self.num_steps}; try a smaller fit.learning_rate")
        score = value if task.higher_is_better else -value
        self.num_bad = 0 if score > self.best_score else self.num_bad + 1
        if score >= self.best_score:  # of equals the later one, which has learned longer
            self.best_score = score
            self._save("best")
        return f"validation {task.metric} {value:.4f}"

    def _measure(self, part: str, dataset: Dataset) -> Evaluation:
        self.judged.eval()
        with torch.no_grad():
            found = self.task.evaluate(self.judged, dataset, self.experiment.fit.batch_size, self.device)
        self.logger.scalars({f"{part}/{name}": value for name, value in found.metrics.items()}, self.num_steps)
        for name, picture in found.pictures.items():
            self.logger.picture(f"{part}/{name}", picture, self.num_steps)
        for name, text in found.texts.items():
            self.logger.text(f"{part}/{name}", text, self.num_steps)
        return found

    def _test(self) -> tuple[Path, Evaluation]:
        """Measure the best weights on the test examples, which nothing was chosen by."""
        path = self.folder / "checkpoints" / "best.safetensors"
        self.judged.load_state_dict(checkpoint.load(path)["network"])
        found = self._measure("test", self.task.splits.test)
        self._embed(self.task.splits.test)
        settings = {"task": self.experiment.task.kind, "backbone": self.experiment.backbone.kind}
        self.logger.hparams(settings, {f"hparam/test_{k}": v for k, v in found.metrics.items()}, self.num_steps)
        return path, found

    def _embed(self, dataset: Dataset) -> None:
        """Let TensorBoard's projector show some of the examples, from all over the data."""
        num, size = min(self.experiment.logging.embeddings, len(dataset)), self.experiment.fit.batch_size
        chosen = np.arange(num) * len(dataset) // max(1, num)
        batches = (dataset.batch(chosen[i : i + size]).to(self.device) for i in range(0, num, size))
        with torch.no_grad():
            found = [self.task.embed(self.judged, batch) for batch in batches]
        if found:
            write_projector(self.folder, found)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def _save(self, name: str) -> Path:
        path = self.folder / "checkpoints" / f"{name}.safetensors"
        state = {
            "task": self.experiment.task.kind,
            "facts": self.task.facts,
            "network": (self.judged if name == "best" else self.network).state_dict(),
            "num_steps": self.num_steps,
        }
        if name == "last":
            state |= {
                "data": self._data,
                "optimizer": self.optimizer.state_dict(),
                "state": self._state,
                "average": None if self.judged is self.network else self.judged.state_dict(),
                "best_score": self.best_score,
                "num_bad": self.num_bad,
                "seconds": self.seconds,
                "logged": [self._loss, self._grad_norm, self._num_logged],
            }
        checkpoint.save(path, state)
        return path

    @cached_property
    def _data(self) -> str:
        """What tells these data from others; where the facts do already, scenes are not made for it."""
        facts = self.task.facts
        return str(facts["sha256"]) if "sha256" in facts else digest(self.task.splits)

    def _restore(self, last: dict[str, Any]) -> None:
        path = self.folder / "checkpoints" / "last.safetensors"
        restore_network(self.network, last, path)
        if self.judged is not self.network:  # where nothing was averaged, the average starts from the weights
            restore_network(self.judged, {"network": last.get("average") or last["network"]}, path)
        if last["facts"] != self.task.facts or last.get("data", self._data) != self._data:
            raise RunError(f"the data of task '{self.experiment.task.kind}' are not those that {path} was saved with")
        restore_optimizer(self.optimizer, last["optimizer"], path)
        self.num_steps, self.seconds = last["num_steps"], last["seconds"]
        self.best_score, self.num_bad = last["best_score"], last["num_bad"]
        # With another fit.batch_size there are other columns, of which the memory knows nothing.
        if last["state"] is not None and all(len(s) == len(self._batches_of(0)[0]) for s in last["state"]):
            self._state = tuple(s.to(self.device) for s in last["state"])
        loss, grad_norm, self._num_logged = last["logged"]
        self._loss.copy_(loss)
        self._grad_norm.copy_(grad_norm)


def fit(
    experiment: SupervisedExperiment, folder: Path, resume: bool = False, on_start: Callable[[Fit], None] | None = None
) -> FitResult:
    """Fit in `folder`, from the start or from its last checkpoint, then test the best weights.

    `on_start` is called when all is made and the checkpoint was found to fit the settings.

    Raises:
        SettingError, RunError: the settings, the data or a file are at fault; nothing is half-written.
    """
    run = Fit(experiment, folder, resume)
    with closing(run):
        if on_start is not None:
            on_start(run)
        return run.train()


__all__ = ["Fit", "FitResult", "fit"]
