"""An encoder for each key of a Dict space, joined. T rows, B columns, D features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from annotated_types import Gt
from gymnasium import Space, spaces
from torch import Tensor, nn

from triathlon.networks.backbone import Backbone, Obs, State
from triathlon.networks.errors import SettingError, nearest
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, make_encoder, register


@dataclass(frozen=True)
class DictConfig(BackboneConfig):
    """Settings of the encoder of a Dict space."""

    kind: Annotated[str, "an encoder for each key of a Dict observation, joined"] = "dict"
    encoders: Annotated[dict[str, BackboneConfig], "encoder of each key; a key that is not named gets auto"] = field(
        default_factory=dict
    )
    features: Annotated[int, Gt(0), "units of the layer that joins the keys"] = 256


@register("dict", DictConfig)
class DictEncoder(Backbone):
    """Each key through its own encoder, then concatenation, one layer and ReLU.

    Raises:
        SettingError: the space is no Dict, `encoders` names a key that it lacks, or an encoder has a memory.
    """

    def __init__(self, space: Space[Any], config: DictConfig) -> None:
        super().__init__()
        if not isinstance(space, spaces.Dict) or not space.spaces:
            raise SettingError(f"backbone '{config.kind}' reads Dict observations, not {space}: use kind: auto")
        for key in config.encoders:
            if key not in space.spaces:
                keys = ", ".join(space.spaces)
                raise SettingError(f"dict: encoders names '{key}'{nearest(key, space.spaces)}; the keys are {keys}")
        self.keys = tuple(space.spaces)
        self.encoders = nn.ModuleList(
            make_encoder(config.encoders.get(key, BackboneConfig()), child, f"dict key '{key}'")
            for key, child in space.spaces.items()
        )
        joined = sum(encoder.out_features for encoder in self.encoders)  # type: ignore[misc]
        self.linear = orthogonal(nn.Linear(joined, config.features))
        self.out_features = config.features

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        parts = [encoder(obs[key])[0] for key, encoder in zip(self.keys, self.encoders, strict=True)]  # type: ignore[index]
        return torch.relu(self.linear(torch.cat(parts, -1))), ()


__all__ = ["DictConfig", "DictEncoder"]
