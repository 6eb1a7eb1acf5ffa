"""What the policies of all agents share: a network, a generator, and weights that travel as one vector.

B environments, A actions, P numbers of a policy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from torch import Tensor

from triathlon.agents.cuda_graph import CudaGraph
from triathlon.networks.backbone import Obs, device_of, map_obs
from triathlon.networks.images import weights_rounded_once
from triathlon.networks.transfer import send


class NetworkPolicy:
    """The part of a `Policy` that does not depend on how an action is chosen.

    `_draw(obs, state, is_first, legal, …)` is what a kind of policy does to act with exploration: tensors on the
    network's device in and out, one row `[1, B, …]`. With `cuda_graphs` it is recorded and replayed.
    """

    def __init__(self, network: torch.nn.Module, generator: torch.Generator, cuda_graphs: bool = False) -> None:
        self.network, self.generator = network, generator
        self.columns = 0, 1
        self._explore: Callable[..., Any] = CudaGraph(self._draw, [generator]) if cuda_graphs else self._draw
        self._device = device_of(network)
        self._tensors = [*network.parameters(), *network.buffers()]

    def twin(self, generator: torch.Generator) -> Self:
        """A copy that learns nothing: with weights of its own, and drawing from `generator`."""
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network).requires_grad_(False)
        other.generator, other._explore = generator, other._draw
        other._tensors = [*other.network.parameters(), *other.network.buffers()]
        return other

    def _draw(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _draw")

    def weights(self) -> Tensor:
        """`[P]` float32: parameters, then running statistics."""
        return torch.cat([x.detach().reshape(-1).float() for x in self._tensors])

    def load_weights(self, weights: Tensor) -> None:
        """Take over what `weights()` of another copy gave."""
        parts = weights.to(self._device).split([x.numel() for x in self._tensors])
        with torch.no_grad():
            for x, part in zip(self._tensors, parts, strict=True):
                x.copy_(part.view(x.shape))

    def steady(self) -> AbstractContextManager[None]:
        """Inside, its network only acts: its weights are neither read nor changed."""
        return weights_rounded_once(self.network)

    def acting_state(self) -> dict[str, float]:
        """What of `weights()` changes without a gradient step: here nothing."""
        return {}

    def load_acting_state(self, state: dict[str, float]) -> None:
        """Take over what `acting_state()` of another copy gave."""

    def set_columns(self, first: int, total: int) -> None:
        """From now on it acts in columns `first`, `first + 1`, … of `total`; most policies act alike in all."""
        self.columns = first, total

    def _as_rows(self, obs: Obs, is_first: Tensor, legal: Tensor | None) -> tuple[Obs, Tensor, Tensor | None]:
        """What was seen in B environments, on the network's device and as a sequence of one row `[1, B, …]`."""

        def row(x: Tensor) -> Tensor:
            return send(x, self._device).unsqueeze(0)

        return map_obs(row, obs), row(is_first), None if legal is None else row(legal)
