"""The multi-layer perceptron. T rows, B columns, D features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from gymnasium import Space
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.backbone import Backbone, Obs, State
from triathlon.networks.errors import SettingError, nearest
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, register
from triathlon.networks.spaces import flat_reader

Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise SettingError(f"activation '{name}' is unknown{nearest(name, ACTIVATIONS)}: it is one of {allowed}")
    return ACTIVATIONS[name]


@dataclass(frozen=True)
class MLPConfig(BackboneConfig):
    """Settings of a multi-layer perceptron."""

    kind: Annotated[str, "multi-layer perceptron"] = "mlp"
    hidden_sizes: Annotated[tuple[Annotated[int, Gt(0)], ...], "units of each layer, the last comes out"] = (
        64,
        64,
    )
    activation: Annotated[Activation, "after each layer: tanh, relu, elu, silu or gelu"] = "tanh"
    layer_norm: Annotated[bool, "normalise each layer before its activation"] = False


@register("mlp", MLPConfig)
class MLP(Backbone):
    """Reads anything that can be flattened: a Box of any shape, a MultiBinary, the one-hot of a Discrete."""

    def __init__(self, space: Space[Any], config: MLPConfig) -> None:
        super().__init__()
        self._flatten, size = flat_reader(space, config.kind)
        self._activation = activation(config.activation)
        self.layers: list[nn.Linear] = nn.ModuleList()  # type: ignore[assignment]
        self.norms: list[nn.LayerNorm] = nn.ModuleList()  # type: ignore[assignment]
        for width in config.hidden_sizes:
            self.layers.append(orthogonal(nn.Linear(size, width)))
            if config.layer_norm:
                self.norms.append(nn.LayerNorm(width))
            size = width
        self.out_features = size

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        x: Tensor = obs  # type: ignore[assignment]  # the space was no Dict
        if self._flatten is not None:
            x = self._flatten(x)
        if x.dtype is not torch.float32:
            x = x.float()
        # Functions, not modules: at a batch of 8 on a CPU a call of a module costs as much as its arithmetic.
        act = self._activation
        if self.norms:
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = act(norm(F.linear(x, layer.weight, layer.bias)))
            return x, ()
        for layer in self.layers:
            x = act(F.linear(x, layer.weight, layer.bias))
        return x, ()


__all__ = ["ACTIVATIONS", "MLP", "Activation", "MLPConfig", "activation"]
