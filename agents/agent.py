"""What the rest of the house sees of an agent: a policy that acts, and a learner that improves it from segments.

T rows in time, B environments, A actions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from triathlon.agents.gradient_step import GradientStep
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs, State

# Named results of one update. A number or 0-d tensor is a scalar, a tensor with elements is shown as a histogram.
# Tensors stay on the learner's device until somebody logs them, so that an update never waits for the device.
Metrics: TypeAlias = dict[str, Tensor | float]


@dataclass(slots=True)
class Decision:
    """What a policy decided for B environments: `action [B, ...]`, the memory after it, `extras {name: [B, ...]}`."""

    action: Tensor
    state: State
    extras: dict[str, Tensor] = field(default_factory=dict)


class Policy(Protocol):
    """Acts in B environments at once; the memory is data that the caller passes from step to step."""

    generator: torch.Generator  # all its random choices are drawn from it
    columns: tuple[int, int]  # the first column of the run that it acts in next, of how many

    @property
    def network(self) -> nn.Module:
        """Backbones and heads, and `norm`, the scale of observations or None.

        `init_from`, `freeze_backbone` and the other engines read and change it.
        """
        ...

    def initial_state(self, batch_size: int) -> State:
        """The memory before the first observation, each tensor `[batch_size, ...]`."""
        ...

    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        """Choose actions for `obs [B, *obs]`, `is_first [B]`, `legal [B, A]`; no gradients are recorded."""
        ...

    def twin(self, generator: torch.Generator) -> Policy:
        """A copy that learns nothing: with weights of its own, and drawing from `generator`."""
        ...

    def assess(self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities of A single actions, `[B, A]`, and what the rows are worth, `[B]`: what a search asks."""
        ...

    def env_action(self, action: np.ndarray) -> np.ndarray:
        """The action as the environment's action space wants it (clipped, offset or unravelled)."""
        ...

    def weights(self) -> Tensor:
        """Everything that `act` depends on as one flat float32 vector (parameters, then running statistics)."""
        ...

    def load_weights(self, weights: Tensor) -> None:
        """Take over what another copy of this policy gave as `weights()`."""
        ...

    def steady(self) -> AbstractContextManager[None]:
        """Inside, it only acts: what follows from its weights need not be computed again for each row."""
        ...

    def acting_state(self) -> dict[str, float]:
        """What of `weights()` changes without a gradient step, such as epsilon: a few numbers by name."""
        ...

    def load_acting_state(self, state: dict[str, float]) -> None:
        """Take over what another copy of this policy gave as `acting_state()`."""
        ...

    def set_columns(self, first: int, total: int) -> None:
        """Which columns of the run it acts in from now on: `first`, `first + 1`, … of `total`."""
        ...


class Learner(Protocol):
    """Improves a policy from segments. Everything that it knows goes through `state_dict`."""

    policy: Policy
    step: GradientStep
    num_rows: int  # rows that it wants in each segment (T)
    state_period: int  # the memory is stored before every so many rows (P)

    def update(self, segment: Segment) -> Metrics:
        """Learn from new experience; returns the metrics of this update, few if there was nothing to learn from yet.

        `loss` is among them once it has learned, and only then: `triathlon doctor` waits for it.
        """
        ...

    def state_dict(self, with_experience: bool = True) -> dict[str, Any]:
        """All that is needed to go on to the bit; without experience, what is needed to act and be taken home."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        ...
