"""All parameters of a module as one vector: one fused optimiser step, one norm, one message, one target update.

P floats in the vector; each parameter is a slice of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triathlon.networks.errors import SettingError

ALIGNMENT = 16  # floats: each parameter starts on 64 bytes, as vector and tensor-core kernels want


class FlatParameters:
    """Re-points the parameters of `module`, and their gradients, to slices of `data [P]` and `grad [P]`.

    The parameters stay the same objects in the same module, so forward, backward and state_dict go on as before;
    `load_state_dict` writes into the vector. Between two parameters there may be a few zeros. Do not clear gradients
    with `module.zero_grad()`, which would let go of the slices, but with `zero_grad()` here. After `module.to(device)`
    make a new one.

    Raises:
        SettingError: the parameters are of several types or on several devices, or there are none.
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = list(module.parameters())  # each tied parameter once
        kinds = sorted({f"{str(p.dtype).removeprefix('torch.')} on {p.device}" for p in parameters})
        if len(kinds) != 1:
            found = ", ".join(kinds) or "none"
            raise SettingError(f"the parameters of {type(module).__name__} must be of one type on one device: {found}")
        offsets = [0]
        for parameter in parameters:
            size = parameter.numel()
            offsets.append(offsets[-1] + size + -size % ALIGNMENT)
        self.data = torch.zeros(offsets[-1], dtype=parameters[0].dtype, device=parameters[0].device)
        self.grad = torch.zeros_like(self.data)
        for parameter, offset in zip(parameters, offsets, strict=False):
            piece = slice(offset, offset + parameter.numel())
            values = self.data[piece].view(parameter.shape)
            values.copy_(parameter.data)
            parameter.data = values
            parameter.grad = self.grad[piece].view(parameter.shape) if parameter.requires_grad else None
        self.parameter = nn.Parameter(self.data)
        """The same storage as one parameter with its gradient: what to give to an optimiser."""
        self.parameter.grad = self.grad

    def zero_grad(self) -> None:
        """Clear every gradient."""
        self.grad.zero_()

    @torch.no_grad()
    def load(self, vector: Tensor) -> None:
        """Take over all weights from a vector `[P]` of the same module elsewhere."""
        self.data.copy_(vector)


__all__ = ["FlatParameters"]
