"""A transformer that remembers: causal attention over a window of rows, cached. T rows, B columns, D features.

L layers, M rows of memory, h heads. A row sees itself and the M rows before it, in its own episode only. What counts is
how far back a row is, not its place, so features do not depend on where a sequence was cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from annotated_types import Gt
from gymnasium import Space
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.attention import check_heads
from triathlon.networks.backbone import Backbone, Obs, State
from triathlon.networks.errors import refuse_unread
from triathlon.networks.initialization import orthogonal
from triathlon.networks.registry import BackboneConfig, make_encoder, register


@dataclass(frozen=True)
class TransformerConfig(BackboneConfig):
    """Settings of a transformer with memory."""

    kind: Annotated[str, "gated transformer with memory"] = "transformer"
    encoder: Annotated[BackboneConfig, "what reads each observation before the memory does"] = field(
        default_factory=BackboneConfig
    )
    width: Annotated[int, Gt(0), "features of a row inside, and what comes out"] = 64
    num_layers: Annotated[int, Gt(0), "layers; what can be recalled reaches back num_layers times memory_length"] = 2
    num_heads: Annotated[int, Gt(0), "attention heads; must divide the width"] = 4
    feedforward_size: Annotated[int, Gt(0), "units of the feed-forward network in a layer"] = 256
    memory_length: Annotated[int, Gt(0), "rows before the present one that each layer can see"] = 64
    gated: Annotated[bool, "GRU gates in place of residual sums (Parisotto 2020)"] = True
    gate_bias: Annotated[float, "with gated: how closed the gates are at the start"] = 2.0


class Gate(nn.Module):
    """GRU gating of a residual branch (Parisotto et al. 2020, "Stabilizing Transformers for RL", §3.2)."""

    def __init__(self, width: int, bias: float) -> None:
        super().__init__()
        self.branch = orthogonal(nn.Linear(width, 3 * width, bias=False), 1.0)
        self.stream = orthogonal(nn.Linear(width, 2 * width, bias=False), 1.0)
        self.candidate = orthogonal(nn.Linear(width, width, bias=False), 1.0)
        self.bias = nn.Parameter(torch.full((width,), -bias))

    def forward(self, stream: Tensor, branch: Tensor) -> Tensor:
        reset, update, candidate = self.branch(branch).chunk(3, -1)
        stream_reset, stream_update = self.stream(stream).chunk(2, -1)
        update = torch.sigmoid(update + stream_update + self.bias)
        candidate = torch.tanh(candidate + self.candidate(torch.sigmoid(reset + stream_reset) * stream))
        return torch.lerp(stream, candidate, update)


class _Layer(nn.Module):
    """One layer: LayerNorm before attention and before the feed-forward network, a gate or a sum after each."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query = orthogonal(nn.Linear(width, width), 1.0)
        self.key_value = orthogonal(nn.Linear(width, 2 * width), 1.0)
        self.out = orthogonal(nn.Linear(width, width), 1.0)
        # Added to the attention of a head to the row d before (Raffel et al. 2020, "T5", §2.1, without its buckets).
        self.distance_bias = nn.Parameter(torch.zeros(config.num_heads, config.memory_length + 1))
        self.norm_feedforward = nn.LayerNorm(width)
        self.expand = orthogonal(nn.Linear(width, config.feedforward_size))
        self.contract = orthogonal(nn.Linear(config.feedforward_size, width), 1.0)
        self.gates = nn.ModuleList(Gate(width, config.gate_bias) for _ in range(2)) if config.gated else None

    def remember(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """`x [B, T, D]` normalised, and the keys and values `[B, M + T, 2D]` of the memory and of x."""
        normalised = self.norm_attention(x)
        return normalised, torch.cat([memory, self.key_value(normalised)], 1)

    def forward(self, x: Tensor, normalised: Tensor, key_value: Tensor, distance: Tensor, visible: Tensor) -> Tensor:
        """`visible [B, T, M + T]`: which rows each row may see; `distance [T, M + T]`: how far before it they are."""
        bias = torch.where(visible.unsqueeze(1), self.distance_bias[:, distance], -torch.inf)  # [B, h, T, M + T]
        size, heads = x.shape[0], self.num_heads
        query = self.query(normalised).view(size, -1, heads, x.shape[2] // heads).transpose(1, 2)
        split = key_value.view(size, -1, 2, heads, x.shape[2] // heads)
        key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value, bias)  # [B, h, T, d]
        attended = self.out(attended.transpose(1, 2).flatten(2))
        if self.gates is None:
            x = x + attended
            return x + self.contract(F.gelu(self.expand(self.norm_feedforward(x))))  # type: ignore[no-any-return]
        x = self.gates[0](x, torch.relu(attended))
        branch = self.contract(F.gelu(self.expand(self.norm_feedforward(x))))
        return self.gates[1](x, torch.relu(branch))  # type: ignore[no-any-return]


@register("transformer", TransformerConfig)
class Transformer(Backbone):
    """GTrXL (Parisotto et al. 2020, "Stabilizing Transformers for Reinforcement Learning", §3) with cached keys.

    State: a tensor `[B, M, 2D]` for each layer, keys and values of the last M rows, the latest last; then `count [B]`,
    how many of these rows belong to the episode that goes on. No gradient flows into what was cached.

    Raises:
        SettingError: `num_heads` does not divide `width`, or the encoder has a memory of its own.
    """

    def __init__(self, space: Space[Any], config: TransformerConfig) -> None:
        super().__init__()
        check_heads(config.width, config.num_heads, config.kind)
        if not config.gated:
            refuse_unread(config, ("gate_bias",), "gated is true", place="backbone.")
        self.encoder = make_encoder(config.encoder, space, config.kind)
        self.entry = orthogonal(nn.Linear(self.encoder.out_features, config.width), 1.0)
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_layers))
        self.layers: list[_Layer] = layers  # type: ignore[assignment]
        self.norm = nn.LayerNorm(config.width)
        self.memory_length = config.memory_length
        self.out_features = config.width

    def initial_state(self, batch_size: int) -> State:
        weight = self.norm.weight
        memory = (weight.new_zeros(batch_size, self.memory_length, 2 * self.out_features) for _ in self.layers)
        return *memory, torch.zeros(batch_size, dtype=torch.long, device=weight.device)

    def forward(self, obs: Obs, state: State | None = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        x = self.entry(self.encoder(obs)[0]).transpose(0, 1)  # [B, T, D]
        batch_size, num_rows, length = x.shape[0], x.shape[1], self.memory_length
        *memory, count = self.initial_state(batch_size) if state is None else state
        # Rows are numbered by episode: 0 goes on from the memory, rows of the memory that are not its own have -1.
        place = torch.arange(length + num_rows, device=x.device)
        own = torch.where(place[:length] >= length - count.unsqueeze(1), 0, -1)  # [B, M]
        episode = torch.zeros_like(x[..., 0], dtype=torch.long) if is_first is None else is_first.T.long().cumsum(1)
        source = torch.cat([own, episode], 1)  # [B, M + T]
        distance = place[length:].unsqueeze(1) - place  # [T, M + T]
        visible = (source.unsqueeze(1) == episode.unsqueeze(2)) & ((distance >= 0) & (distance <= length))
        distance = distance.clamp(0, length)
        cached = []
        for layer, remembered in zip(self.layers, memory, strict=True):
            normalised, key_value = layer.remember(x, remembered)
            cached.append(key_value[:, -length:].detach())
            x = layer(x, normalised, key_value, distance, visible)
        count = (source[:, -length:] == episode[:, -1:]).sum(1)
        return self.norm(x).transpose(0, 1), (*cached, count)


__all__ = ["Gate", "Transformer", "TransformerConfig"]
