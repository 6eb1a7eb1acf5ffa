"""The memory of a replay: preallocated numpy arrays of rows, read back as segments.

R rows, B columns, T rows of a written segment, W rows of N samples that are read, A actions, K frames of a stack. A
*place* is `row * B + column`. Memory is zeroed lazily by the operating system: it is committed as the rows are first
written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.device_rows import DeviceRows
from triathlon.agents.frame_stacks import FrameStacks
from triathlon.agents.picture_store import PictureStore, is_picture
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs
from triathlon.networks.errors import SettingError

Array = NDArray[Any]
Index = NDArray[np.int64]
VALUES_SEEN = ("q_taken", "q_best")  # in the extras of a policy that values actions, where it gives them
Shape = tuple[tuple[int, ...], np.dtype[Any]]


class RowStore:
    """R rows of B columns shaped as a first segment; images stay uint8, masks are packed into bits.

    `frame_stack` K > 1: the observation is a stack `[K, *frame]`, of which the newest frame is stored. The K - 1 rows
    before one that is read must be there too, unless an episode begins in between. `compress`: pictures are packed.
    `picture_device`: pictures are kept, and given out, there.
    """

    def __init__(
        self,
        num_rows: int,
        num_columns: int,
        like: Segment,
        frame_stack: int = 1,
        compress: bool = False,
        picture_device: torch.device | None = None,
    ) -> None:
        self.num_rows, self.num_columns, self.compress = num_rows, num_columns, compress
        self.num_actions = 0 if like.legal is None else like.legal.shape[-1]  # A, 0 where there are no masks
        self.obs_names = _names_of(like.obs, "obs")  # nested as the observation is
        self._stacks = FrameStacks(frame_stack) if frame_stack > 1 else None
        shapes, size = _shapes_of(like, frame_stack), num_rows * num_columns
        self.pictures: dict[str, PictureStore | DeviceRows] = {}
        for name in _pictures_among(shapes) if compress or picture_device else ():
            shape = shapes.pop(name)[0]
            if picture_device is not None:
                self.pictures[name] = DeviceRows(num_rows, num_columns, shape, picture_device)
            else:
                self.pictures[name] = PictureStore(num_rows, num_columns, shape)
        self.arrays = {name: np.zeros((size, *shape), dtype) for name, (shape, dtype) in shapes.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of memory when full; of pictures that are compressed, the bytes they take now."""
        plain = sum(array.nbytes for array in self.arrays.values())
        return plain + sum(store.nbytes for store in self.pictures.values())

    @staticmethod
    def place_bytes(like: Segment, frame_stack: int = 1) -> tuple[int, list[int]]:
        """Bytes of one row of one column: of all but pictures, and of each picture uncompressed."""
        shapes = _shapes_of(like, frame_stack)
        sizes = {name: int(np.prod(shape, dtype=int)) * dtype.itemsize for name, (shape, dtype) in shapes.items()}
        pictures = [sizes.pop(name) for name in _pictures_among(shapes)]
        return sum(sizes.values()), pictures

    def write(self, rows: Index, segment: Segment) -> None:
        """Put the rows `[T+1]` of a segment into the rows `rows [T+1]`, of which the first is new or was the last.

        With stacks, K - 1 rows before the very first take the frames that its stack begins with.
        """
        arrays = _arrays_of(segment)
        if self._stacks is not None:
            obs, is_new = arrays["obs"], self._stacks.newest is None
            arrays["obs"], arrays["repeats"] = self._stacks.split(obs, arrays["is_first"])
            if is_new:
                self._put("obs", rows[0] + np.arange(1 - self._stacks.num_frames, 0), obs[0, :, :-1].swapaxes(0, 1))
        for name, values in arrays.items():
            self._put(name, rows, values)

    def _put(self, name: str, rows: Index, values: Array) -> None:
        if name in self.pictures:
            self.pictures[name].write(rows, values)
        else:
            self.arrays[name].reshape(self.num_rows, self.num_columns, *values.shape[2:])[rows] = values

    def take(self, name: str, places: Index) -> Any:
        """What is stored under `name` at `places [...]`: `[..., *shape]`; of a stack, the newest frame.

        An array; a tensor if it is kept on a device.
        """
        return self.pictures[name].take(places) if name in self.pictures else self.arrays[name].take(places, 0)

    def segment(self, places: Index, known: dict[str, Array]) -> Segment:
        """The rows at `places [W, N]`, without memory states; what is `known` of them already is not read again."""

        def read(name: str) -> Tensor:
            if name == "obs" and self._stacks is not None:
                size = self.num_rows * self.num_columns
                return torch.as_tensor(self._stacks.join(places, self.num_columns, size, self.take))
            return torch.as_tensor(known[name] if name in known else self.take(name, places))

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
        kept = {name: store for name, store in self.pictures.items() if isinstance(store, DeviceRows)}
        packed = {name: store for name, store in self.pictures.items() if isinstance(store, PictureStore)}
        return {
            "num_columns": self.num_columns,
            "num_actions": self.num_actions,
            "obs_names": self.obs_names,
            "arrays": {name: array[:size] for name, array in self.arrays.items()}
            | {name: store.saved(num_rows) for name, store in kept.items()},
            "compress": self.compress,
            "pictures": {name: store.state_dict(num_rows) for name, store in packed.items()},
            "frame_stack": 1 if self._stacks is None else self._stacks.num_frames,
            "newest": None if self._stacks is None else self._stacks.newest,
        }

    @staticmethod
    def picture_bytes(state: dict[str, Any]) -> int:
        """Bytes of the plain pictures of one row of one column, of a saved store."""
        return sum(int(state["arrays"][name][0].nbytes) for name in _saved_pictures(state))

    @classmethod
    def from_state_dict(
        cls, num_rows: int, state: dict[str, Any], picture_device: torch.device | None = None
    ) -> RowStore:
        """A store of `num_rows` rows whose first are those that were saved, wherever their pictures were."""
        store = cls.__new__(cls)
        store.num_rows, store.num_columns, store.num_actions = num_rows, state["num_columns"], state["num_actions"]
        store.obs_names, store.compress = state["obs_names"], state["compress"]
        size = num_rows * store.num_columns
        store.pictures = {
            name: PictureStore.from_state_dict(num_rows, store.num_columns, saved)
            for name, saved in state["pictures"].items()
        }
        store.arrays = {}
        for name, array in state["arrays"].items():
            if picture_device is not None and name in _saved_pictures(state):
                rows = DeviceRows(num_rows, store.num_columns, array.shape[1:], picture_device)
                rows.restore(array)
                store.pictures[name] = rows
            else:
                store.arrays[name] = padded(array, size)
        store._stacks = FrameStacks(state["frame_stack"]) if state["frame_stack"] > 1 else None
        if store._stacks is not None:
            store._stacks.newest = state["newest"]
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
    if segment.next_sign is not None:
        arrays["next_sign"] = host(segment.next_sign)
    if segment.legal is not None:
        arrays["legal"] = np.packbits(host(segment.legal), axis=-1)
    arrays |= {name: host(segment.extras[name]) for name in VALUES_SEEN if name in segment.extras}
    _flatten(segment.obs, "obs", arrays)
    return arrays


def _shapes_of(like: Segment, frame_stack: int) -> dict[str, Shape]:
    """Shape and type of what is stored at each place; raises SettingError where observations are no such stacks."""
    shapes = {name: (x.shape[2:], x.dtype) for name, x in _arrays_of(like).items()}
    if frame_stack > 1:
        shape, dtype = shapes.get("obs", ((), np.dtype(np.uint8)))
        if dtype != np.uint8 or len(shape) < 2 or shape[0] != frame_stack:
            raise SettingError(
                f"frame_stack of the environment is {frame_stack}, but its observation is not one stack of as many "
                f"frames (a Box of uint8 with the shape [{frame_stack}, ...])"
            )
        shapes |= {"obs": (shape[1:], dtype), "repeats": ((), np.dtype(np.bool_))}
    return shapes


def _saved_pictures(state: dict[str, Any]) -> list[str]:
    return _pictures_among({name: (array.shape[1:], array.dtype) for name, array in state["arrays"].items()})


def _pictures_among(shapes: dict[str, Shape]) -> list[str]:
    return [name for name, (shape, dtype) in shapes.items() if name.startswith("obs") and is_picture(shape, dtype)]


def _flatten(obs: Obs, name: str, into: dict[str, Array]) -> None:
    if isinstance(obs, Tensor):
        into[name] = host(obs)
    else:
        for key, value in obs.items():
            _flatten(value, f"{name}/{key}", into)


def _names_of(obs: Obs, name: str) -> Any:
    return name if isinstance(obs, Tensor) else {key: _names_of(value, f"{name}/{key}") for key, value in obs.items()}


__all__ = ["VALUES_SEEN", "Array", "Index", "RowStore", "host", "padded"]
