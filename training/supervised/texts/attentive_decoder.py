"""Writes a sequence about another. T rows of the source, S of what is written, B sequences, D, W features, V tokens.

A backbone reads what was written so far, as it reads an agent's observations; cross-attention looks into the features
of the source.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.attention import check_heads
from triathlon.networks.backbone import State
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, make_backbone
from triathlon.training.supervised.heads import Network, drop, rows_of


class Source(NamedTuple):
    """What there is to look at, with the batch first, so that beams can be chosen from it."""

    key_value: tuple[Tensor, ...]  # of each layer [B, T, 2W]
    visible: Tensor  # [B, T] bool: the rows that are no padding
    tokens: Tensor  # [B, T]

    def repeat(self, num: int) -> Source:
        """Every sequence `num` times, one after another."""
        key_value = tuple(x.repeat_interleave(num, 0) for x in self.key_value)
        return Source(key_value, self.visible.repeat_interleave(num, 0), self.tokens.repeat_interleave(num, 0))


class CrossLayer(nn.Module):
    """Attention to the source and a feed-forward network, each after a LayerNorm and added to what came in."""

    def __init__(self, in_features: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_source = nn.LayerNorm(in_features)
        self.key_value = orthogonal(nn.Linear(in_features, 2 * width), 1.0)
        self.norm_attention = nn.LayerNorm(width)
        self.query = orthogonal(nn.Linear(width, width), 1.0)
        self.out = orthogonal(nn.Linear(width, width), 1.0)
        self.norm_feedforward = nn.LayerNorm(width)
        self.expand = orthogonal(nn.Linear(width, 2 * width))
        self.contract = orthogonal(nn.Linear(2 * width, width), 1.0)

    def forward(self, x: Tensor, key_value: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """`x [B, S, W]` with what the source says to it, and where it looked `[B, S, T]` (the mean of all heads)."""
        size, heads, width = x.shape[0], self.num_heads, x.shape[2] // self.num_heads
        query = self.query(self.norm_attention(x)).view(size, -1, heads, width).transpose(1, 2)
        key, value = key_value.view(size, -1, 2, heads, width).permute(2, 0, 3, 1, 4).unbind(0)
        score = query @ key.transpose(2, 3) * width**-0.5  # [B, h, S, T]
        weight = score.masked_fill(~visible[:, None, None], -torch.inf).softmax(-1)
        x = x + self.out((weight @ value).transpose(1, 2).flatten(2))
        return x + self.contract(F.gelu(self.expand(self.norm_feedforward(x)))), weight.mean(1)


class AttentiveDecoder(nn.Module):
    """`features [T, B, D]` of a source to something to look at, and from it, token by token, to what is written.

    Attention stands on the backbone that writes (Luong, Pham & Manning 2015, "Effective Approaches to Attention-based
    Neural Machine Translation", §3), in layers as a transformer's (Vaswani et al. 2017). With `copy` a token is written
    from the vocabulary or taken from the source, where it looks, in a proportion that is learned (See, Liu & Manning
    2017, "Get To The Point", §2.2); source and target share their vocabulary.

    Raises:
        SettingError: `num_heads` does not divide `width`.
    """

    def __init__(
        self,
        in_features: int,
        num_tokens: int,
        config: BackboneConfig,
        width: int,
        num_layers: int,
        num_heads: int,
        copy: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        check_heads(width, num_heads, "task")
        self.backbone = make_backbone(config, spaces.Discrete(num_tokens))
        self.enter = orthogonal(nn.Linear(self.backbone.out_features, width), 1.0)
        layers = nn.ModuleList(CrossLayer(in_features, width, num_heads) for _ in range(num_layers))
        self.layers: list[CrossLayer] = layers  # type: ignore[assignment]
        self.norm = nn.LayerNorm(width)
        self.logits = orthogonal(nn.Linear(width, num_tokens), 0.1)
        self.copy = orthogonal(nn.Linear(width, 1), 1.0) if copy else None
        self._dropout = dropout

    def look(self, features: Tensor, length: Tensor, tokens: Tensor, generator: torch.Generator | None) -> Source:
        """The source: `features [T, B, D]`, `length [B]` of each, its `tokens [T, B]`."""
        visible = rows_of(length, features.shape[0])
        assert visible is not None
        rows = drop(features, self._dropout, generator).transpose(0, 1)
        key_value = tuple(layer.key_value(layer.norm_source(rows)) for layer in self.layers)
        return Source(key_value, visible.T, tokens.T.long())

    def write(
        self, source: Source, tokens: Tensor, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State, Tensor]:
        """Log-probabilities `[S, B, V]` of what follows each of `tokens [S, B]`, the memory, and where it looked
        `[B, S, T]`.
        """
        features, state = self.backbone(tokens, state)
        x = self.enter(drop(features, self._dropout, generator)).transpose(0, 1)  # [B, S, W]
        weight = x.new_zeros(*x.shape[:2], source.tokens.shape[1])
        for layer, key_value in zip(self.layers, source.key_value, strict=True):
            x, weight = layer(x, key_value, source.visible)
        x = drop(self.norm(x), self._dropout, generator)
        if self.copy is None:
            return self.logits(x).log_softmax(-1).transpose(0, 1), state, weight
        share = torch.sigmoid(self.copy(x))
        written = self.logits(x).softmax(-1) * (1.0 - share)
        place = source.tokens.unsqueeze(1).expand_as(weight)
        both = written.scatter_add(2, place, weight * share)
        return both.clamp_min(1e-9).log().transpose(0, 1), state, weight


class Translator(Network):
    """A backbone that reads the source, as an agent's reads what it sees, and a decoder that writes about it.

    The rows after the end of a source are read too, but no row looks ahead and the decoder does not look at them.
    """

    head: AttentiveDecoder

    def look(self, tokens: Tensor, length: Tensor, generator: torch.Generator | None = None) -> Source:
        """What there is to look at in `tokens [T, B]`, of which the first `length [B]` are each sequence's own."""
        features, _ = self.backbone(tokens)
        return self.head.look(features, length, tokens, generator)


__all__ = ["AttentiveDecoder", "CrossLayer", "Source", "Translator"]
