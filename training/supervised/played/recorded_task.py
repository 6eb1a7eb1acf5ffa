"""What tasks that learn from a recording share. N played rows, T rows of a sequence, B columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Gt, MinLen
from gymnasium import Space

from triathlon.networks.errors import SettingError
from triathlon.training.errors import RunError
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.played import space_json
from triathlon.training.supervised.played.minari_source import read_recording
from triathlon.training.supervised.played.recording import Recording
from triathlon.training.supervised.played.rows import RecordedRows, splits_of
from triathlon.training.supervised.task import Evaluation, Task, TaskConfig

PREDICT_BATCH = 256


@dataclass(frozen=True)
class RecordedTaskConfig(TaskConfig):
    """Settings of all tasks that learn from a recording."""

    source: Annotated[str, MinLen(1), "folder of a recording, or minari:NAME, or a folder of Minari"] = "recording"
    num_rows: Annotated[int, Gt(0), "rows of a sequence that gradients flow through; 1: without a memory"] = 1


class RecordedTask(Task):
    """Episodes to learn from, to choose by and to test on, and the spaces of what was seen and done in them."""

    metric = "loss"
    higher_is_better = False
    carries_state = True
    config: RecordedTaskConfig
    action_space: Space[Any]

    @property
    def reads_actions(self) -> bool:
        """Whether what is learned depends on what was done."""
        return True

    def __init__(self, config: RecordedTaskConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        if facts is None:
            recording = self.choose(read_recording(config.source))
            facts = self.facts_of(recording)
            self.data = splits_of(recording, config.num_rows)
        self.facts = facts
        self.space = space_json.from_json(facts["observation_space"])
        self.action_space = space_json.from_json(facts["action_space"])

    def choose(self, recording: Recording) -> Recording:
        """The part of the recording that is learned from and tested on."""
        return recording

    def facts_of(self, recording: Recording) -> dict[str, Any]:
        """What a checkpoint keeps of a recording."""
        return {
            "observation_space": space_json.to_json(recording.observation_space),
            "action_space": space_json.to_json(recording.action_space),
            "num_steps": recording.num_steps,
        }

    def prepare(self, network: Network) -> None:
        if self.config.num_rows == 1 and network.backbone.initial_state(1):
            raise SettingError(
                "task.num_rows is 1, but the backbone has a memory, which learns from sequences; set it to 16, "
                "for example"
            )

    def measured(
        self, network: Network, files: Iterable[Path], device: torch.device
    ) -> Iterator[tuple[Path, Evaluation]]:
        """A person's own recordings, and how good the network is at each.

        Raises:
            RunError: a recording is damaged, or of other observations or actions.
        """
        for file in files:
            recording = read_recording(str(file))
            if space_json.to_json(recording.observation_space) != self.facts["observation_space"]:
                raise RunError(f"{file} is a recording of {recording.observation_space}, not of {self.space}")
            if self.reads_actions and space_json.to_json(recording.action_space) != self.facts["action_space"]:
                raise RunError(f"{file} is a recording of actions {recording.action_space}, not of {self.action_space}")
            yield file, self.evaluate(network, RecordedRows(recording, self.config.num_rows), PREDICT_BATCH, device)


__all__ = ["RecordedTask", "RecordedTaskConfig"]
