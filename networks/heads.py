"""Heads over features: Q-values, their distributions, and state values.

A actions, D features, K quantiles, Z atoms; `...` any leading axes, `[N]` or `[T, B]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from triathlon.networks.distributions import allow_any_if_none
from triathlon.networks.errors import SettingError, nearest
from triathlon.networks.initialization import HIDDEN_GAIN, VALUE_GAIN, orthogonal
from triathlon.networks.noisy import NoisyLinear


@dataclass(frozen=True)
class QHeadConfig:
    """Settings of a Q-value head; those of a distribution are read by the kind they name."""

    kind: Annotated[
        Literal["expected", "c51", "qr", "iqn"],
        "learn the mean return, or its distribution by C51, QR or IQN",
    ] = "expected"
    dueling: Annotated[bool, "state value plus advantages (Wang 2016)"] = False
    noisy: Annotated[bool, "noise in the weights explores (Fortunato 2018)"] = False
    noisy_sigma: Annotated[float, Gt(0), "noise at the start, with noisy"] = 0.5
    hidden_size: Annotated[int, Ge(0), "units of a hidden layer in the head (in each stream if dueling); 0: none"] = 0
    num_atoms: Annotated[int, Gt(1), "c51: atoms of the distribution"] = 51
    v_min: Annotated[float, "c51: return of the lowest atom"] = -10.0
    v_max: Annotated[float, "c51: return of the highest atom"] = 10.0
    num_quantiles: Annotated[int, Gt(0), "qr: quantiles; iqn: quantiles drawn for a loss and taken for acting"] = 32
    num_cosines: Annotated[int, Gt(0), "iqn: cosines that embed a quantile's fraction"] = 64


class Quantiles(NamedTuple):
    """Quantiles of the return."""

    values: Tensor  # [..., A, K]
    taus: Tensor  # [K] or [..., K]: the fraction of which each value is the quantile


class QHead(nn.Module):
    """`features [..., D]` to the values of A actions. What `forward` gives is for the loss of that kind."""

    def __init__(self, num_actions: int, in_features: int, config: QHeadConfig, num_outputs: int = 1) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.num_outputs = num_outputs
        self.advantage = _stream(in_features, num_actions * num_outputs, config)
        self.value = _stream(in_features, num_outputs, config) if config.dueling else None
        self._noisy = [layer for layer in self.modules() if isinstance(layer, NoisyLinear)]

    def forward(self, features: Tensor, generator: Generator | None = None) -> Tensor | Quantiles:
        """The head's output: `[..., A]` values, `[..., A, Z]` log-probabilities, or `Quantiles`."""
        return self._outputs(features).squeeze(-1)

    def expectation(self, output: Tensor | Quantiles) -> Tensor:
        """`[..., A]`: the Q-values of what `forward` gave."""
        assert isinstance(output, Tensor)
        return output

    def q_values(self, features: Tensor, legal: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """`[..., A]`: expected returns; -inf where `legal [..., A]` is False, unless nothing is legal in that row."""
        q_values = self.expectation(self(features, generator))
        if legal is None:
            return q_values
        return q_values.masked_fill(~allow_any_if_none(legal), -torch.inf)

    def resample(self, generator: Generator | None) -> None:
        """Draw new noise for noisy layers; nothing to do without."""
        for layer in self._noisy:
            layer.resample(generator)

    def _outputs(self, features: Tensor) -> Tensor:
        """`[..., A, num_outputs]`: advantages, centred and added to the value if dueling (Wang et al. 2016, eq. 9)."""
        advantage: Tensor = self.advantage(features).float()
        advantage = advantage.view(*advantage.shape[:-1], self.num_actions, self.num_outputs)
        if self.value is None:
            return advantage
        value: Tensor = self.value(features).float().unsqueeze(-2)
        return value + advantage - advantage.mean(-2, keepdim=True)


class CategoricalQHead(QHead):
    """C51: a softmax over fixed returns (Bellemare, Dabney & Munos 2017, §4). `support [Z]` holds the returns."""

    support: Tensor

    def __init__(self, num_actions: int, in_features: int, config: QHeadConfig) -> None:
        if config.v_min >= config.v_max:
            raise SettingError(f"v_min ({config.v_min}) must be below v_max ({config.v_max})")
        super().__init__(num_actions, in_features, config, config.num_atoms)
        support = torch.linspace(config.v_min, config.v_max, config.num_atoms)
        self.register_buffer("support", support, persistent=False)

    def forward(self, features: Tensor, generator: Generator | None = None) -> Tensor:
        return F.log_softmax(self._outputs(features), -1)

    def expectation(self, output: Tensor | Quantiles) -> Tensor:
        assert isinstance(output, Tensor)
        return output.exp() @ self.support


class QuantileQHead(QHead):
    """QR-DQN: K quantiles at fixed fractions (Dabney et al. 2018, "Distributional RL with Quantile Regression", §4)."""

    taus: Tensor

    def __init__(self, num_actions: int, in_features: int, config: QHeadConfig) -> None:
        super().__init__(num_actions, in_features, config, config.num_quantiles)
        self.register_buffer("taus", _midpoints(config.num_quantiles), persistent=False)

    def forward(self, features: Tensor, generator: Generator | None = None) -> Quantiles:
        return Quantiles(self._outputs(features), self.taus)

    def expectation(self, output: Tensor | Quantiles) -> Tensor:
        assert isinstance(output, Quantiles)
        return output.values.mean(-1)


class ImplicitQuantileQHead(QHead):
    """IQN: the quantile at any fraction τ (Dabney et al. 2018, "Implicit Quantile Networks", §3).

    With a generator the fractions are drawn anew for each leading index; without, they are the midpoints of K equal
    parts, whose mean is the better estimate of a Q-value.
    """

    taus: Tensor
    frequencies: Tensor

    def __init__(self, num_actions: int, in_features: int, config: QHeadConfig) -> None:
        super().__init__(num_actions, in_features, config)
        self.embedding = orthogonal(nn.Linear(config.num_cosines, in_features))
        self.register_buffer("taus", _midpoints(config.num_quantiles), persistent=False)
        # The paper's sum starts at i = 0, whose cosine is the constant 1 that the bias already is.
        self.register_buffer("frequencies", math.pi * torch.arange(1, config.num_cosines + 1), persistent=False)

    def forward(self, features: Tensor, generator: Generator | None = None) -> Quantiles:
        taus = self.taus
        if generator is not None:
            size = (*features.shape[:-1], len(taus))
            taus = torch.rand(size, generator=generator, device=features.device)
        embedded = torch.relu(self.embedding(torch.cos(taus.unsqueeze(-1) * self.frequencies)))  # [..., K, D]
        values = self._outputs(features.unsqueeze(-2) * embedded)  # [..., K, A, 1]
        return Quantiles(values.squeeze(-1).transpose(-1, -2), taus)

    def expectation(self, output: Tensor | Quantiles) -> Tensor:
        assert isinstance(output, Quantiles)
        return output.values.mean(-1)


_KINDS: dict[str, Callable[[int, int, QHeadConfig], QHead]] = {
    "expected": QHead,
    "c51": CategoricalQHead,
    "qr": QuantileQHead,
    "iqn": ImplicitQuantileQHead,
}


# Settings that only some kinds read.
_READ_BY = {
    "num_atoms": ("c51",),
    "v_min": ("c51",),
    "v_max": ("c51",),
    "num_quantiles": ("qr", "iqn"),
    "num_cosines": ("iqn",),
}


def make_q_head(num_actions: int, in_features: int, config: QHeadConfig) -> QHead:
    """The Q-value head that `config` describes.

    Raises:
        SettingError: the kind is unknown, v_min is not below v_max, or a setting was changed that the kind does not
            read.
    """
    if config.kind not in _KINDS:
        allowed = ", ".join(_KINDS)
        raise SettingError(f"unknown Q-head kind '{config.kind}'{nearest(config.kind, _KINDS)}: it is one of {allowed}")
    for name, readers in _READ_BY.items():
        if config.kind not in readers:
            _refuse_changed(config, name, f"head.kind: {config.kind}", " or ".join(f"head.kind: {k}" for k in readers))
    if not config.noisy:
        _refuse_changed(config, "noisy_sigma", "head.noisy: false", "head.noisy: true")
    return _KINDS[config.kind](num_actions, in_features, config)


class ValueHead(nn.Module):
    """`features [..., D]` to the state's value `[...]`."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(in_features, 1), VALUE_GAIN)

    def forward(self, features: Tensor) -> Tensor:
        linear = self.linear
        return F.linear(features, linear.weight, linear.bias).float().squeeze(-1)


def _refuse_changed(config: QHeadConfig, name: str, given: str, wanted: str) -> None:
    value, default = getattr(config, name), getattr(QHeadConfig, name)
    if value != default:
        raise SettingError(f"head.{name} is {value}, but nothing reads it with {given}; leave it out or set {wanted}")


def _stream(in_features: int, out_features: int, config: QHeadConfig) -> nn.Module:
    """A linear layer, or two with a ReLU between them, noisy if the config says so."""
    sizes = [in_features, config.hidden_size, out_features] if config.hidden_size else [in_features, out_features]
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        if config.noisy:
            layers.append(NoisyLinear(inputs, outputs, config.noisy_sigma))
        else:
            gain = HIDDEN_GAIN if i < len(sizes) - 2 else VALUE_GAIN
            layers.append(orthogonal(nn.Linear(inputs, outputs), gain))
        layers.append(nn.ReLU())
    layers.pop()
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _midpoints(num_quantiles: int) -> Tensor:
    return (torch.arange(num_quantiles) + 0.5) / num_quantiles


__all__ = [
    "CategoricalQHead",
    "ImplicitQuantileQHead",
    "QHead",
    "QHeadConfig",
    "QuantileQHead",
    "Quantiles",
    "ValueHead",
    "make_q_head",
]
