"""Embeddings of token ids. T rows, B columns, n tokens of one observation, E features of a token, D features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from gymnasium import Space, spaces
from torch import Tensor, nn

from triathlon.networks.attention import TransformerEncoder
from triathlon.networks.backbone import Backbone, Obs, State
from triathlon.networks.errors import SettingError, refuse_unread
from triathlon.networks.registry import BackboneConfig, register
from triathlon.networks.spaces import token_offsets


@dataclass(frozen=True)
class TokensConfig(BackboneConfig):
    """Settings of a token embedding."""

    kind: Annotated[str, "embedding of Discrete and MultiDiscrete observations"] = "tokens"
    embedding_size: Annotated[int, Gt(0), "features of a token"] = 64
    join: Annotated[Literal["concat", "sum", "mean"], "how the tokens of one observation become one vector"] = "concat"
    mixer_layers: Annotated[int, Ge(0), "transformer layers over the tokens of one observation, before the join"] = 0
    mixer_heads: Annotated[int, Gt(0), "attention heads of these layers; must divide embedding_size"] = 4


@register("tokens", TokensConfig)
class Tokens(Backbone):
    """One vector for each value that each token can take; a Discrete is one token, a MultiDiscrete a set of them.

    Each place of a MultiDiscrete has vectors of its own, so a vector says where its token stood as well as what it was.

    Raises:
        SettingError: the space is neither Discrete nor MultiDiscrete.
    """

    offsets: Tensor

    def __init__(self, space: Space[Any], config: TokensConfig) -> None:
        super().__init__()
        if isinstance(space, spaces.Discrete):
            offsets, size = torch.tensor([-int(space.start)]), int(space.n)
        elif isinstance(space, spaces.MultiDiscrete):
            offsets, size = token_offsets(space)
        else:
            raise SettingError(
                f"backbone 'tokens' reads Discrete or MultiDiscrete, not {type(space).__name__}: use kind: auto"
            )
        self.register_buffer("offsets", offsets, persistent=False)
        self.embedding = nn.Embedding(size, config.embedding_size)
        self.mixer: TransformerEncoder | None = None
        if not config.mixer_layers:
            refuse_unread(config, ("mixer_heads",), "mixer_layers is above 0", place="backbone.")
        else:
            self.mixer = TransformerEncoder(
                config.embedding_size, config.mixer_layers, config.mixer_heads, f"{config.kind} mixer"
            )
        self._join = config.join
        self.out_features = config.embedding_size * (len(offsets) if config.join == "concat" else 1)

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        tokens: Tensor = obs.long()  # type: ignore[union-attr]  # the space was no Dict
        rows, columns = tokens.shape[:2]
        x = self.embedding(tokens.reshape(rows * columns, -1) + self.offsets)  # [T * B, n, E]
        if self.mixer is not None:
            x = self.mixer(x)
        if self._join == "sum":
            x = x.sum(1)
        elif self._join == "mean":
            x = x.mean(1)
        return x.reshape(rows, columns, -1), ()


__all__ = ["Tokens", "TokensConfig"]
