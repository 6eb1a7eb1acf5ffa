"""A transformer encoder: every token sees every other. N sequences, L tokens, D features."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.errors import SettingError
from triathlon.networks.initialization import orthogonal


def check_heads(width: int, num_heads: int, who: str) -> None:
    """
    Raises:
        SettingError: the width cannot be shared out among the heads.
    """
    if width % num_heads:
        raise SettingError(f"{who}: num_heads ({num_heads}) must divide the width ({width})")


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each after a LayerNorm (Xiong et al. 2020, "Layer Normalization")."""

    def __init__(self, width: int, num_heads: int, feedforward_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = orthogonal(nn.Linear(width, 3 * width), 1.0)
        self.out = orthogonal(nn.Linear(width, width), 1.0)
        self.norm_feedforward = nn.LayerNorm(width)
        self.expand = orthogonal(nn.Linear(width, feedforward_size))
        self.contract = orthogonal(nn.Linear(feedforward_size, width), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        heads = self.query_key_value(self.norm_attention(x))
        heads = heads.view(size, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value)  # [N, h, L, d]
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        out: Tensor = x + self.contract(F.gelu(self.expand(self.norm_feedforward(x))))
        return out


class TransformerEncoder(nn.Module):
    """`[N, L, D]` to `[N, L, D]`: layers of self-attention that is not causal, then a LayerNorm.

    Raises:
        SettingError: `num_heads` does not divide `width`.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int, who: str) -> None:
        super().__init__()
        check_heads(width, num_heads, who)
        self.layers = nn.ModuleList(EncoderLayer(width, num_heads, 4 * width) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)  # type: ignore[no-any-return]


__all__ = ["EncoderLayer", "TransformerEncoder", "check_heads"]
