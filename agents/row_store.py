"""The memory of a replay: preallocated numpy arrays of rows, read back as segments.

R rows, B columns, T rows of a written segment, W rows of N samples that are read, A actions. A *place* is
`row * B + column`. Memory is zeroed lazily by the operating system: it is committed as the rows are first written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs

Array = NDArray[Any]
Index = NDArray[np.int64]


class RowStore:
    """R rows of B columns shaped as a first segment; images stay uint8, masks are packed into bits."""

    def __init__(self, num_rows: int, num_columns: int, like: Segment) -> None:
        self.num_rows, self.num_columns = num_rows, num_columns
        self.num_actions = 0 if like.legal is None else like.legal.shape[-1]  # A, 0 where there are no masks
        self.obs_names = _names_of(like.obs, "obs")  # nested as the observation is
        size = num_rows * num_columns
        self.arrays = {name: np.zeros((size, *x.shape[2:]), x.dtype) for name, x in _arrays_of(like).items()}

    @property
    def nbytes(self) -> int:
        """Bytes of memory when full."""
        return sum(array.nbytes for array in self.arrays.values())

    def write(self, rows: Index, segment: Segment) -> None:
        """Put the rows `[T+1]` of a segment into the rows `rows [T+1]`."""
        for name, values in _arrays_of(segment).items():
            self.arrays[name].reshape(self.num_rows, self.num_columns, *values.shape[2:])[rows] = values

    def take(self, name: str, places: Index) -> Array:
        """What is stored under `name` at `places [W, N]`: `[W, N, ...]`."""
        taken: Array = self.arrays[name].take(places, 0)
        return taken

    def segment(self, places: Index, known: dict[str, Array]) -> Segment:
        """The rows at `places [W, N]`, without memory states; what is `known` of them already is not read again."""

        def read(name: str) -> Tensor:
            return torch.from_numpy(known[name] if name in known else self.take(name, places))

        def read_obs(names: Any) -> Obs:
            return read(names) if isinstance(names, str) else {key: read_obs(value) for key, value in names.items()}

        legal = None
        if self.num_actions:
            bits = np.unpackbits(self.take("legal", places), axis=-1, count=self.num_actions)
            legal = torch.from_numpy(bits.view(np.bool_))
        obs, action = read_obs(self.obs_names), read("action")
        return Segment(obs, action, read("reward"), read("terminated"), read("is_first"), legal)

    def state_dict(self, num_rows: int) -> dict[str, Any]:
        """The first `num_rows` rows, as views."""
        size = num_rows * self.num_columns
        return {
            "num_columns": self.num_columns,
            "num_actions": self.num_actions,
            "obs_names": self.obs_names,
            "arrays": {name: array[:size] for name, array in self.arrays.items()},
        }

    @classmethod
    def from_state_dict(cls, num_rows: int, state: dict[str, Any]) -> RowStore:
        """A store of `num_rows` rows whose first are those that were saved."""
        store = cls.__new__(cls)
        store.num_rows, store.num_columns, store.num_actions = num_rows, state["num_columns"], state["num_actions"]
        store.obs_names = state["obs_names"]
        size = num_rows * store.num_columns
        store.arrays = {name: padded(array, size) for name, array in state["arrays"].items()}
        return store


def host(x: Tensor) -> Array:
    """A tensor as an array in host memory."""
    array: Array = x.cpu().numpy()
    return array


def padded(array: Array, size: int) -> Array:
    """A copy with zeros after it, `[size, ...]`."""
    result = np.zeros((size, *array.shape[1:]), array.dtype)
    result[: len(array)] = array
    return result


def _arrays_of(segment: Segment) -> dict[str, Array]:
    """What is stored of each row, each `[T+1, B, ...]`; a dict of observations is one entry a leaf, `obs/<key>`."""
    arrays = {name: host(getattr(segment, name)) for name in ("action", "reward", "terminated", "is_first")}
    if segment.legal is not None:
        arrays["legal"] = np.packbits(host(segment.legal), axis=-1)
    _flatten(segment.obs, "obs", arrays)
    return arrays


def _flatten(obs: Obs, name: str, into: dict[str, Array]) -> None:
    if isinstance(obs, Tensor):
        into[name] = host(obs)
    else:
        for key, value in obs.items():
            _flatten(value, f"{name}/{key}", into)


def _names_of(obs: Obs, name: str) -> Any:
    return name if isinstance(obs, Tensor) else {key: _names_of(value, f"{name}/{key}") for key, value in obs.items()}


__all__ = ["Array", "Index", "RowStore", "host", "padded"]
