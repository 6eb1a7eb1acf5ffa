"""All parameters of a module as one vector: one fused optimiser step, one norm, one message, one target update.

P floats in the vector; each parameter is a slice of it.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        if any(isinstance(part, nn.RNNBase) for part in module.modules()):
            # cuDNN wants the weights of an LSTM or GRU as one block in an order of its own, and copies them into one at
            # each call where they are not. Here they are slices of the vector, and it would say so again and again.
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        kinds = sorted({f"{str(p.dtype).removeprefix('torch.')} on {p.device}" for p in parameters})
        if len(kinds) != 1:
            found = ", ".join(kinds) or "none"
            raise SettingError(f"the parameters of {type(module).__name__} must be of one type on one device: {found}")
        self._names = [name for name, _ in module.named_parameters()]
        self._shapes = [parameter.shape for parameter in parameters]
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

    def pieces(self, vector: Tensor) -> dict[str, Tensor]:
        """The parameters by name as slices of a vector `[P]`, for `torch.func.functional_call`."""
        sizes = [shape.numel() for shape in self._shapes]
        padded = vector.split([size + -size % ALIGNMENT for size in sizes])
        parts = zip(self._names, padded, sizes, self._shapes, strict=True)
        return {name: part[:size].view(shape) for name, part, size, shape in parts}

    def joined(self, pieces: dict[str, Tensor]) -> Tensor:
        """The vector `[P]` of parameters, or of their gradients, by name: the inverse of `pieces`."""
        flat = [pieces[name].reshape(-1) for name in self._names]
        return torch.cat([functional.pad(part, (0, -part.numel() % ALIGNMENT)) for part in flat])

    @torch.no_grad()
    def load(self, vector: Tensor) -> None:
        """Take over all weights from a vector `[P]` of the same module elsewhere."""
        self.data.copy_(vector)


__all__ = ["FlatParameters"]
