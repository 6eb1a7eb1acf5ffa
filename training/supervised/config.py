"""One supervised experiment: what is learned, by which backbone, how, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from triathlon.networks import registry as networks
from triathlon.networks.errors import SettingError
from triathlon.networks.registry import BackboneConfig
from triathlon.training import config as experiments
from triathlon.training import schema
from triathlon.training.config import Device
from triathlon.training.errors import RunError
from triathlon.training.supervised import registry as tasks
from triathlon.training.supervised.schedule import FitConfig
from triathlon.training.supervised.task import TaskConfig

KINDS: schema.Kinds = {TaskConfig: tasks.config_class, BackboneConfig: networks.config_class}


@dataclass(frozen=True)
class FitLoggingConfig:
    """What is written down while fitting."""

    period: Annotated[int, Gt(0), "steps between two rows of losses"] = 50
    tensorboard: Annotated[bool, "write TensorBoard event files"] = True
    csv: Annotated[bool, "write progress.csv (one row a period)"] = True
    embeddings: Annotated[int, Ge(0), "test examples whose features TensorBoard's projector shows; 0: none"] = 0

    def __post_init__(self) -> None:
        if self.embeddings and not self.tensorboard:
            raise SettingError(f"embeddings is {self.embeddings}, but tensorboard is false; leave one of them out")


@dataclass(frozen=True)
class SupervisedExperiment:
    """Everything that a supervised run depends on."""

    task: TaskConfig
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    init_from: Annotated[str | None, MinLen(1), "a run (of an agent or a task) whose backbone is started from"] = None
    init_partly: Annotated[bool, "with init_from: take the weights that fit and leave those that do not"] = False
    freeze_backbone: Annotated[bool, "only the head learns"] = False
    seed: Annotated[int, Ge(0), "all random numbers of the run descend from it"] = 1
    device: Annotated[Device, "where the network lives; auto: CUDA if there is any"] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        "what convolutions and patches compute in; auto: bfloat16 for pictures of 64 x 64, where the hardware can",
    ] = "auto"
    num_threads: Annotated[int | None, Gt(0), "CPU threads of PyTorch; null: chosen for the network's size"] = None
    name: Annotated[str | None, MinLen(1), "name of the run folder; null: backbone, seed and time"] = None
    root: Annotated[str, MinLen(1), "folder that run folders are made in"] = "runs"
    logging: FitLoggingConfig = field(default_factory=FitLoggingConfig)

    def __post_init__(self) -> None:
        if self.init_partly and self.init_from is None:
            raise SettingError("init_partly is true, but nothing reads it without init_from; leave it out")


def load(config: str | Path, overrides: Sequence[str] = ()) -> SupervisedExperiment:
    """The experiment of a file (a path, or the name of a shipped configuration) changed by command-line arguments.

    Raises:
        RunError: no such file, not YAML, or a setting is unknown, missing, of the wrong type or out of range.
    """
    mapping = experiments.read(config)
    if "agent" in mapping and "task" not in mapping:
        path = Path(config)
        command = f"evaluate {path.parent}" if path.name == "config.yaml" else f"train {config}"
        raise RunError(f"{config} is of an agent, without a task: triathlon {command}")
    return from_mapping(mapping, overrides)


def from_mapping(mapping: dict[str, Any], overrides: Sequence[str] = ()) -> SupervisedExperiment:
    """The experiment of a nested mapping changed by command-line arguments; raises RunError as `load` does."""
    return schema.build(SupervisedExperiment, experiments.override(mapping, overrides), KINDS)


__all__ = ["FitLoggingConfig", "SupervisedExperiment", "from_mapping", "load"]
