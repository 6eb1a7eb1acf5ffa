"""Which of K classes: what all tasks of that form share. T rows in time, B examples, D features, N examples in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Lt
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.backbone import State
from triathlon.training.supervised.drawing import confusion_picture
from triathlon.training.supervised.examples import Batch, Dataset
from triathlon.training.supervised.heads import ClassHead, Network, Pooling, pool
from triathlon.training.supervised.losses import accuracy, balancing_weights, confusion, cross_entropy, macro_f1
from triathlon.training.supervised.task import Embeddings, Evaluation, Task, TaskConfig


@dataclass(frozen=True)
class ClassificationConfig(TaskConfig):
    """Settings of every task that chooses one of several classes."""

    label_smoothing: Annotated[float, Ge(0), Lt(1), "share of each target that is spread over all classes"] = 0.0
    balance_classes: Annotated[bool, "let rare classes count as much as frequent ones"] = False
    dropout: Annotated[float, Ge(0), Lt(1), "share of the features that the head does not see while it learns"] = 0.0
    pooling: Pooling = "last"


class Classification(Task):
    """One of K classes for a sequence. `facts["classes"]` are their names."""

    config: ClassificationConfig
    metric = "accuracy"
    can_embed = True

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.facts["classes"]
        return names

    def weigh_classes(self, target: NDArray[Any]) -> None:
        """Fix what each class counts, from the targets `[N]` that are learned from."""
        self.weights = balancing_weights(target, len(self.classes)) if self.config.balance_classes else None

    weights: Tensor | None = None

    def make_head(self, in_features: int) -> ClassHead:
        return ClassHead(in_features, len(self.classes), self.config.pooling, self.config.dropout)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        logits, state = network(batch.obs, state, batch.length, generator)
        weights = None if self.weights is None else self.weights.to(logits.device)
        return cross_entropy(logits, batch.target, self.config.label_smoothing, weights), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        all_logits, targets = [], []
        for batch in dataset.in_order(batch_size):
            batch = batch.to(device)
            all_logits.append(network(batch.obs, None, batch.length)[0].float().cpu())
            targets.append(batch.target.cpu())
        logits, target = torch.cat(all_logits), torch.cat(targets)
        guess = logits.argmax(-1).numpy()
        table = confusion(target.numpy(), guess, len(self.classes))
        metrics = {
            "loss": float(cross_entropy(logits, target)),
            "accuracy": accuracy(table),
            "macro_f1": macro_f1(table),
        }
        pictures = {"confusion": confusion_picture(table, self.classes)}
        found = Evaluation(metrics, pictures)
        self.show(found, network, dataset, logits.softmax(-1).numpy(), device)
        return found

    def embed(self, network: Network, batch: Batch) -> Embeddings:
        features = pool(network.backbone(batch.obs)[0], batch.length, self.config.pooling)
        return Embeddings(features, [self.classes[k] for k in batch.target.tolist()])

    def show(
        self, found: Evaluation, network: Network, dataset: Dataset, probability: NDArray[Any], device: torch.device
    ) -> None:
        """Add samples of what the network said, `probability [N, K]`, as pictures or texts."""

    def in_words(self, probability: NDArray[Any], num: int = 3) -> str:
        """The likeliest classes of one example, `probability [K]`."""
        best = np.argsort(-probability)[:num]
        return ", ".join(f"{self.classes[k]} {probability[k]:.2f}" for k in best)

    def sample_indices(self, probability: NDArray[Any], target: NDArray[Any], num: int) -> Sequence[int]:
        """Half mistakes (the surest first) and the rest from the start of the examples, as there are."""
        guess = probability.argmax(-1)
        wrong = np.flatnonzero(guess != target)
        wrong = wrong[np.argsort(-probability[wrong].max(-1), kind="stable")][: num // 2]
        rest = np.setdiff1d(np.arange(min(len(target), 2 * num)), wrong)[: num - len(wrong)]
        return [int(i) for i in (*wrong, *rest)]


__all__ = ["Classification", "ClassificationConfig"]
