"""Which tasks there are: the kind named in a configuration, its settings and its class."""

from __future__ import annotations

import importlib
from typing import Any

from triathlon.networks.errors import SettingError, nearest
from triathlon.training.supervised.task import Task, TaskConfig

_ROOM = "triathlon.training.supervised"
_KINDS = {
    "xor": f"{_ROOM}.xor:Xor",
    "image_classification": f"{_ROOM}.image_classification:ImageClassification",
    "segmentation": f"{_ROOM}.segmentation:Segmentation",
    "detection": f"{_ROOM}.detection:Detection",
    "text_classification": f"{_ROOM}.text_classification:TextClassification",
    "sequence_classification": f"{_ROOM}.sequence_classification:SequenceClassification",
    "speech_classification": f"{_ROOM}.speech_classification:SpeechClassification",
    "speech_recognition": f"{_ROOM}.speech_recognition:SpeechRecognition",
    "text_generation": f"{_ROOM}.text_generation:TextGeneration",
    "translation": f"{_ROOM}.translation:Translation",
    "autoencoder": f"{_ROOM}.autoencoder:Autoencoder",
    "vae": f"{_ROOM}.variational_autoencoder:VariationalAutoencoder",
    "gan": f"{_ROOM}.adversarial:Gan",
    "behaviour_cloning": f"{_ROOM}.behaviour_cloning:BehaviourCloning",
    "frame_prediction": f"{_ROOM}.frame_prediction:FramePrediction",
}


def task_class(kind: str) -> type[Task]:
    """The class of a kind, imported when it is first asked for.

    Raises:
        SettingError: there is no such task.
    """
    if kind not in _KINDS:
        raise SettingError(
            f"task.kind: no task is called '{kind}'{nearest(kind, _KINDS)}: there are {', '.join(_KINDS)}"
        )
    module, _, name = _KINDS[kind].partition(":")
    cls: type[Task] = getattr(importlib.import_module(module), name)
    return cls


def config_class(kind: str) -> type[TaskConfig]:
    """The settings dataclass of a kind."""
    return task_class(kind).Config


def make_task(config: TaskConfig, facts: dict[str, Any] | None = None) -> Task:
    """The task that `config` describes: with its data, or from the facts in a checkpoint without them.

    Raises:
        RunError: the data are not there or cannot be read.
    """
    return task_class(config.kind)(config, facts)  # type: ignore[call-arg]  # every task is made so


def kinds() -> tuple[str, ...]:
    """The names of the tasks."""
    return tuple(_KINDS)


__all__ = ["config_class", "kinds", "make_task", "task_class"]
