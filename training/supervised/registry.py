"""Which tasks there are: the kind named in a configuration, its settings and its class."""

from __future__ import annotations

import importlib
from typing import Any

from triathlon.networks.errors import SettingError, nearest
from triathlon.training.supervised.task import Task, TaskConfig

_ROOM = "triathlon.training.supervised"
_KINDS = {
    "xor": f"{_ROOM}.xor:Xor",
    "image_classification": f"{_ROOM}.pictures.image_classification:ImageClassification",
    "segmentation": f"{_ROOM}.pictures.segmentation:Segmentation",
    "detection": f"{_ROOM}.pictures.detection:Detection",
    "text_classification": f"{_ROOM}.texts.text_classification:TextClassification",
    "sequence_classification": f"{_ROOM}.signals.sequence_classification:SequenceClassification",
    "speech_classification": f"{_ROOM}.sounds.speech_classification:SpeechClassification",
    "speech_recognition": f"{_ROOM}.sounds.speech_recognition:SpeechRecognition",
    "text_generation": f"{_ROOM}.texts.text_generation:TextGeneration",
    "translation": f"{_ROOM}.texts.translation:Translation",
    "autoencoder": f"{_ROOM}.pictures.autoencoder:Autoencoder",
    "vae": f"{_ROOM}.pictures.variational_autoencoder:VariationalAutoencoder",
    "gan": f"{_ROOM}.pictures.adversarial:Gan",
    "behaviour_cloning": f"{_ROOM}.played.behaviour_cloning:BehaviourCloning",
    "frame_prediction": f"{_ROOM}.played.frame_prediction:FramePrediction",
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
