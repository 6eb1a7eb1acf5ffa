"""Initial weights: orthogonal matrices and zero biases.

Saxe, McClelland & Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
§3; the gains are those that Engstrom et al. 2020 ("Implementation Matters", §3) and Andrychowicz et al. 2021 ("What
Matters in On-Policy RL", §3.2) found to matter: √2 for hidden layers, 0.01 for a policy's last layer, 1 for a value's.
"""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn

HIDDEN_GAIN = math.sqrt(2)
POLICY_GAIN = 0.01
VALUE_GAIN = 1.0

Module = TypeVar("Module", bound=nn.Module)


def orthogonal(module: Module, gain: float = HIDDEN_GAIN) -> Module:
    """Fill every weight matrix below `module` with a (semi-)orthogonal one times `gain`, every bias with 0.

    A convolution's kernel counts as the matrix `[out, in · height · width]`. What the gates of an LSTM or GRU read of
    their last output, which torch stacks in one matrix, is filled gate by gate; what they read of the input is one
    matrix. Vectors that are not biases (the scale of a LayerNorm) are left alone.
    """
    for name, parameter in module.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        elif parameter.dim() >= 2:
            gates = parameter.shape[0] // parameter.shape[1] if "weight_hh" in name else 1
            for matrix in parameter.data.chunk(gates):
                nn.init.orthogonal_(matrix, gain)
    return module


__all__ = ["HIDDEN_GAIN", "POLICY_GAIN", "VALUE_GAIN", "orthogonal"]
