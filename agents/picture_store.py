"""Pictures losslessly compressed in memory.

R rows of a ring, B columns, T rows of a written segment. A *place* is `row * B + column`.

The codec is LZ4 (block format). A draw waits for the unpacking: on 84 × 84 frames of Pong, Breakout and Seaquest
Zstandard took about three times as long as LZ4 and Blosc2 many times, while Zstandard's bytes were two thirds of LZ4's.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from triathlon.networks.errors import SettingError
from triathlon.networks.spaces import image_size

SLAB_BYTES = 2**24
INDEX_BYTES = 12  # of a picture, besides itself: where it begins and its length
# Frames of 57 games played at random (84 × 84, grey) took 265 (Pong) to 2,560 (Up'n Down) of 7,056 bytes, median 956.
TYPICAL_SHARE = 0.14


class PictureStore:
    """A ring of R rows of B pictures of one shape, packed one after another into slabs of memory.

    Rows are written in the order of the ring, so the slab with the oldest pictures is the first that can be given back.
    """

    def __init__(self, num_rows: int, num_columns: int, shape: tuple[int, ...]) -> None:
        self._lz4 = load_lz4()
        self.num_rows, self.num_columns, self.shape = num_rows, num_columns, shape
        self._picture_bytes = int(np.prod(shape, dtype=int))
        self._slab_bytes = max(SLAB_BYTES, 2 * self._picture_bytes)
        # Where the picture at a place begins, counted in bytes from the beginning of the run, and its packed length.
        self._begins = np.zeros(num_rows * num_columns, np.int64)
        self._lengths = np.zeros(num_rows * num_columns, np.int32)
        self._slabs: dict[int, NDArray[np.uint8]] = {}  # by number: slab n holds the bytes from n * slab_bytes on
        self._end = 0
        self._last_row = -1

    @property
    def nbytes(self) -> int:
        """Bytes of memory taken now."""
        first = min(self._slabs, default=0) * self._slab_bytes
        return self._begins.nbytes + self._lengths.nbytes + self._end - first

    def write(self, rows: NDArray[np.int64], pictures: NDArray[np.uint8]) -> None:
        """Put `pictures [T+1, B, *shape]` into the rows `rows [T+1]`, which follow each other in the ring.

        The first may be the row that was written last, whose pictures are then replaced.
        """
        if rows[0] == self._last_row:
            self._end = int(self._begins[rows[0] * self.num_columns])
        for row, of_columns in zip(rows.tolist(), pictures, strict=True):
            for place, picture in enumerate(of_columns, row * self.num_columns):
                self._append(place, self._lz4.compress(np.ascontiguousarray(picture).data, store_size=False))
        self._last_row = int(rows[-1])
        oldest = (self._last_row + 1) % self.num_rows * self.num_columns
        if self._lengths[oldest]:  # else the ring is not full
            for number in range(min(self._slabs), int(self._begins[oldest]) // self._slab_bytes):
                del self._slabs[number]

    def _append(self, place: int, packed: bytes) -> None:
        number, begin = divmod(self._end, self._slab_bytes)
        if begin + len(packed) > self._slab_bytes:
            number, begin = number + 1, 0
        if number not in self._slabs:
            self._slabs[number] = np.empty(self._slab_bytes, np.uint8)
        self._slabs[number][begin : begin + len(packed)] = np.frombuffer(packed, np.uint8)
        self._begins[place], self._lengths[place] = number * self._slab_bytes + begin, len(packed)
        self._end = number * self._slab_bytes + begin + len(packed)

    def take(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pictures at `places [...]`: `[..., *shape]`. One that is asked for more than once is unpacked once."""
        flat = places.reshape(-1)
        pictures = np.empty((flat.size, self._picture_bytes), np.uint8)
        number, begin = np.divmod(self._begins.take(flat), self._slab_bytes)
        end = begin + self._lengths.take(flat)
        slabs = {number: slab.data for number, slab in self._slabs.items()}
        where: dict[int, int] = {}
        for i, (place, n, a, b) in enumerate(zip(*(x.tolist() for x in (flat, number, begin, end)), strict=True)):
            same = where.setdefault(place, i)
            if same < i:
                pictures[i] = pictures[same]
            else:
                unpacked = self._lz4.decompress(slabs[n][a:b], uncompressed_size=self._picture_bytes)
                pictures[i] = np.frombuffer(unpacked, np.uint8)
        return pictures.reshape(*places.shape, *self.shape)

    def state_dict(self, num_rows: int) -> dict[str, Any]:
        """The first `num_rows` rows of the ring, as views."""
        size = num_rows * self.num_columns
        full = dict(self._slabs)
        last, used = divmod(self._end, self._slab_bytes)
        if last in full:
            full[last] = full[last][:used]
        return {
            "shape": list(self.shape),
            "begins": self._begins[:size],
            "lengths": self._lengths[:size],
            "slabs": full,
            "slab_bytes": self._slab_bytes,
            "end": self._end,
            "last_row": self._last_row,
        }

    @classmethod
    def from_state_dict(cls, num_rows: int, num_columns: int, state: dict[str, Any]) -> PictureStore:
        """A store of `num_rows` rows whose first are those that were saved."""
        store = cls(num_rows, num_columns, tuple(state["shape"]))
        store._slab_bytes, store._end, store._last_row = state["slab_bytes"], state["end"], state["last_row"]
        store._begins[: len(state["begins"])] = state["begins"]
        store._lengths[: len(state["lengths"])] = state["lengths"]
        for number, saved in state["slabs"].items():
            store._slabs[number] = np.empty(store._slab_bytes, np.uint8)
            store._slabs[number][: len(saved)] = saved
        return store


def load_lz4() -> ModuleType:
    """The codec; SettingError if it is not installed."""
    try:
        from lz4 import block
    except ImportError as error:
        raise SettingError(
            'agent.compress_replay needs lz4, which is not installed: pip install "triathlon[atari]"'
        ) from error
    module: ModuleType = block
    return module


def is_picture(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Is it worth compressing: bytes that are a picture, or a stack of pictures, by their shape."""
    return dtype == np.uint8 and image_size(spaces.Box(0, 255, shape, np.uint8)) is not None


def has_pictures(space: Space[Any]) -> bool:
    """Is the space a Box of pictures of bytes, or a Dict or Tuple with one in it?"""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        children = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return any(map(has_pictures, children))
    return isinstance(space, spaces.Box) and is_picture(space.shape, np.dtype(space.dtype))


__all__ = ["PictureStore", "has_pictures", "is_picture", "load_lz4"]
