"""What turns features into answers. T rows, B sequences, D features, K classes."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor, nn

from triathlon.networks.backbone import Backbone, State
from triathlon.networks.initialization import POLICY_GAIN, orthogonal

Pooling: TypeAlias = Annotated[
    Literal["last", "mean", "max"], "what of a sequence decides: its last row, or the mean or largest of all its rows"
]


def drop(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Dropout (Srivastava et al. 2014) with random numbers of its own; without a generator nothing is dropped."""
    if generator is None or share == 0.0:
        return x
    keep = torch.rand(x.shape, generator=generator, device=x.device) >= share
    return x * keep / (1.0 - share)


def rows_of(length: Tensor | None, num_rows: int) -> Tensor | None:
    """`[T, B]`: which rows are no padding; None: all."""
    return None if length is None else torch.arange(num_rows, device=length.device).unsqueeze(1) < length


def pool(features: Tensor, length: Tensor | None, how: str) -> Tensor:
    """`[T, B, D]` to `[B, D]`; rows from `length [B]` on do not count."""
    if how == "last":
        if length is None:
            return features[-1]
        return features[length - 1, torch.arange(features.shape[1], device=features.device)]
    valid = rows_of(length, features.shape[0])
    if how == "max":
        masked = features if valid is None else features.masked_fill(~valid.unsqueeze(-1), -torch.inf)
        return masked.amax(0)
    if valid is None:
        return features.mean(0)
    return (features * valid.unsqueeze(-1)).sum(0) / valid.sum(0).unsqueeze(-1)


class ClassHead(nn.Module):
    """One answer for a sequence: `features [T, B, D]` to logits `[B, K]`."""

    def __init__(self, in_features: int, num_classes: int, pooling: str, dropout: float) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(in_features, num_classes), POLICY_GAIN)
        self._pooling, self._dropout = pooling, dropout

    def forward(self, features: Tensor, length: Tensor | None, generator: torch.Generator | None) -> Tensor:
        logits: Tensor = self.linear(drop(pool(features, length, self._pooling), self._dropout, generator))
        return logits


class RowHead(nn.Module):
    """An answer for each row: `features [T, B, D]` to logits `[T, B, K]`."""

    def __init__(self, in_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(in_features, num_classes), POLICY_GAIN)
        self._dropout = dropout

    def forward(self, features: Tensor, length: Tensor | None, generator: torch.Generator | None) -> Tensor:
        logits: Tensor = self.linear(drop(features, self._dropout, generator))
        return logits


class Network(nn.Module):
    """A backbone as an agent has one, and the head of a task."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(
        self,
        obs: Tensor,
        state: State | None = None,
        length: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """`obs [T, B, *obs]` to the head's answer and the memory after the last row; `generator` is for dropout."""
        features, state = self.backbone(obs, state)
        return self.head(features, length, generator), state

    @property
    def backbone_learns(self) -> bool:
        """Does the backbone, or only the head? A frozen one takes no gradients."""
        return any(parameter.requires_grad for parameter in self.backbone.parameters())

    def compile_backbone(self) -> None:
        """From now on the backbone runs compiled."""
        self.backbone.compile(dynamic=False)
