"""Noisy linear layers: exploration by noise in the weights. D features."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Module):
    """A linear layer with factorised Gaussian noise (Fortunato et al. 2018, "Noisy Networks for Exploration", §3).

    `weight + weight_sigma · f(ε_out) f(ε_in)ᵀ`, f(x) = sign(x) √|x|. The noise stays until `resample(generator)` draws
    it anew; in eval mode only the means are used. At the start the noise is zero.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), sigma * bound))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), sigma * bound))
        self.register_buffer("noise_in", torch.zeros(in_features))
        self.register_buffer("noise_out", torch.zeros(out_features))

    @torch.no_grad()
    def resample(self, generator: Generator | None) -> None:
        """Draw new noise."""
        for noise in (self.noise_in, self.noise_out):
            noise.normal_(generator=generator)
            noise.copy_(noise.sign() * noise.abs().sqrt())

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.linear(x, self.weight, self.bias)
        # W_σ ∘ (f_out f_inᵀ) x is f_out ∘ (W_σ (f_in ∘ x)): the noisy matrix itself is never made.
        noise = F.linear(x * self.noise_in, self.weight_sigma, self.bias_sigma)
        return F.linear(x, self.weight, self.bias) + noise * self.noise_out


__all__ = ["NoisyLinear"]
