"""Nested values over a connection between two processes: JSON for what is small, raw bytes for arrays.

Nothing that arrives can run code, and an array is neither copied into a message nor out of one.
"""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


def send(connection: Connection[Any, Any], value: Any) -> None:
    """Send dicts (with string keys), lists, tuples, arrays, numbers, strings and None.

    Raises:
        OSError: nobody listens any more.
        TypeError: the value holds something else.
    """
    arrays: list[NDArray[Any]] = []
    tree = _pack(value, arrays)
    shapes = [[array.dtype.str, list(array.shape)] for array in arrays]
    connection.send_bytes(json.dumps([tree, shapes]).encode())
    for array in arrays:
        if array.size:
            connection.send_bytes(array.reshape(-1).view(np.uint8).data)


def receive(connection: Connection[Any, Any]) -> Any:
    """What `send` sent; arrays are writable and in memory of their own.

    Raises:
        EOFError, OSError: the other side has gone.
    """
    tree, shapes = json.loads(connection.recv_bytes())
    arrays: list[NDArray[Any]] = []
    for dtype, shape in shapes:
        array: NDArray[Any] = np.empty(shape, dtype)
        if array.size:
            connection.recv_bytes_into(array.reshape(-1).view(np.uint8).data)
        arrays.append(array)
    return _unpack(tree, arrays)


def _pack(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))  # the first gives a number one axis
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"a dict must have string keys to be sent, found {list(value)[:3]}")
        return {"dict": {key: _pack(item, arrays) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(item, arrays) for item in value]}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be sent to another process")


def _unpack(node: Any, arrays: list[NDArray[Any]]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "array":
        return arrays[cast(int, content)]
    if kind == "dict":
        return {key: _unpack(item, arrays) for key, item in content.items()}
    items = [_unpack(item, arrays) for item in content]
    return tuple(items) if kind == "tuple" else items


__all__ = ["receive", "send"]
