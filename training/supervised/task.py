"""What is learned: the contract between a task and the one loop that fits it.

T rows in time, B examples of a batch, D features, H height, W width, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray
from torch import Tensor, nn

from triathlon.networks.backbone import Backbone, State
from triathlon.training.supervised.examples import Batch, Dataset, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.transformer_start import start_with_order

Picture = NDArray[np.uint8]  # [H, W, 3]


@dataclass(frozen=True)
class TaskConfig:
    """What every task's settings derive from."""

    kind: Annotated[str, "which task"] = "image_classification"


@dataclass
class Evaluation:
    """How good a network is at some examples, and something to look at."""

    metrics: dict[str, float]
    pictures: dict[str, Picture] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, other: Evaluation) -> None:
        """Take up what was found with other examples, each thing named after them; losses are left out."""
        self.metrics |= {f"{name}_{key}": value for key, value in other.metrics.items() if key != "loss"}
        self.pictures |= {f"{name}_{key}": picture for key, picture in other.pictures.items()}
        self.texts |= {f"{name}_{key}": text for key, text in other.texts.items()}


@dataclass(frozen=True)
class Embeddings:
    """What a network makes of examples: vectors `[B, D]`, the name of each, and pictures `[B, H, W(, C)]` of bytes."""

    vectors: Tensor
    labels: list[str]
    pictures: NDArray[np.uint8] | None = None


class Task(ABC):
    """Data, the space of one observation, a head, a loss and measures.

    `facts` is what the task found out from its data (names of classes, a vocabulary, the size of a picture), in plain
    values. It is kept in checkpoints: a task made from facts reads no data, and can predict.
    """

    Config: ClassVar[type[TaskConfig]]
    metric: ClassVar[str]
    """The measure that chooses the best checkpoint."""
    higher_is_better: ClassVar[bool] = True
    carries_state: ClassVar[bool] = False
    """Does each batch go on where the one before it ended?"""
    can_embed: ClassVar[bool] = False
    """Is there `embed`?"""
    averages: ClassVar[bool] = False
    """Does the task average weights by itself?"""
    reads_in_order: ClassVar[bool] = False
    """Is what is read a text or a recording, of which a transformer should know the order from the start?"""

    space: Space[Any]
    facts: dict[str, Any]
    data: Splits | None

    @property
    def splits(self) -> Splits:
        """The data, which only a task that was made to learn has."""
        assert self.data is not None, "this task was made from facts"
        return self.data

    def make_head(self, in_features: int) -> nn.Module:
        """What stands on the backbone: `head(features [T, B, D], length, generator)`."""
        raise NotImplementedError(f"{type(self).__name__} must define make_head(in_features), or make_network")

    def make_network(self, backbone: Backbone) -> Network:
        """The backbone and this task's head; a task whose head reads more than features makes its own kind.

        Raises:
            SettingError: the backbone does not give what the head reads.
        """
        return Network(backbone, self.make_head(backbone.out_features))

    def prepare(self, network: Network) -> None:
        """Change the initial weights where this task knows better ones.

        Raises:
            SettingError: the network cannot learn this task so.
        """
        if self.reads_in_order:
            start_with_order(network)

    @abstractmethod
    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """The mean loss of a batch, and the memory after it."""

    def after_step(self, network: Network, num_steps: int) -> None:  # noqa: B027 (most tasks keep nothing)
        """Called without gradients after each step, `num_steps` in all so far.

        What a task keeps of its steps belongs into buffers of its head, which are saved and restored with the weights.
        """

    @abstractmethod
    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        """How good the network is at all of a data set; called without gradients."""

    def embed(self, network: Network, batch: Batch) -> Embeddings:
        """What the network makes of a batch, for TensorBoard's projector; called without gradients."""
        raise NotImplementedError(f"{type(self).__name__} sets can_embed, so it must define embed(network, batch)")

    @abstractmethod
    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """What the network says to each of a person's own files, a line each.

        Raises:
            RunError: a file cannot be read as what this task knows.
        """

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch changed at random as its target stays right; as it is, unless a task knows a way."""
        return batch


__all__ = ["Embeddings", "Evaluation", "Picture", "Task", "TaskConfig"]
