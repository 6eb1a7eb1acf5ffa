"""Pictures of a replay in the memory of the GPU that learns from them: drawing copies nothing from the host.

R rows of a ring, B columns, T rows of a written segment. A *place* is `row * B + column`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.transfer import send

DEVICE_SHARE = 0.8  # of a device's free memory that pictures may take; networks and their batches need the rest


def fits(num_bytes: int, device: torch.device) -> bool:
    """Do pictures of so many bytes fit into what is free on the device now?"""
    return device.type != "cuda" or num_bytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


class DeviceRows:
    """A ring of R rows of B pictures of one shape on `device`."""

    def __init__(self, num_rows: int, num_columns: int, shape: tuple[int, ...], device: torch.device) -> None:
        self.num_columns = num_columns
        self._rows = torch.zeros((num_rows, num_columns, *shape), dtype=torch.uint8, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of device memory."""
        return self._rows.nbytes

    def write(self, rows: NDArray[np.int64], pictures: NDArray[Any]) -> None:
        """Put `pictures [T+1, B, *shape]` into the rows `rows [T+1]`."""
        device = self._rows.device
        values = send(torch.from_numpy(np.ascontiguousarray(pictures)), device)
        self._rows.index_copy_(0, send(torch.from_numpy(rows), device), values)

    def take(self, places: NDArray[np.int64]) -> Tensor:
        """The pictures at `places [...]`: `[..., *shape]`, on the device."""
        index = send(torch.from_numpy(places.ravel()), self._rows.device)
        taken = self._rows.flatten(0, 1).index_select(0, index)
        return taken.view(*places.shape, *self._rows.shape[2:])

    def saved(self, num_rows: int) -> NDArray[np.uint8]:
        """The first `num_rows` rows copied to host memory, all at once, `[num_rows * B, *shape]`."""
        array: NDArray[np.uint8] = self._rows[:num_rows].flatten(0, 1).cpu().numpy()
        return array

    def restore(self, saved: NDArray[np.uint8]) -> None:
        """Inverse of `saved`."""
        self._rows.flatten(0, 1)[: len(saved)].copy_(torch.from_numpy(np.ascontiguousarray(saved)))


__all__ = ["DeviceRows", "fits"]
