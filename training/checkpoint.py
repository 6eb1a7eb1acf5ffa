"""Checkpoints: one safetensors file for a nested state, loaded without running any code.

Arrays are tensors of the file, named by their path; everything else is JSON in the file's header. In that JSON a list,
tuple, dict, tensor or array is an object with one key that says which it is, so keys of any kind and tuples come back
as they were (an optimiser's state has both).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from triathlon.training.atomic_write import write_beside
from triathlon.training.errors import RunError

FORMAT = "triathlon checkpoint"
VERSION = 1
LONGEST_HEADER = 100_000_000  # bytes; what reads the format refuses a longer one

# Names of the safetensors format.
_DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
}


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write a nested state: dicts, lists and tuples of tensors, numpy arrays, numbers, strings, booleans and None.

    Tensors are written from where they lie (those on a GPU are copied to the CPU one by one), so that a large replay
    does not have to fit into memory twice. The file takes the place of an older one only when it is complete.

    Raises:
        RunError: the file cannot be written (full disk, unwritable folder, too much of it that is no array); an older
            file is left whole.
        TypeError: the state holds something else, e.g. an array of objects.
    """
    arrays: dict[str, Tensor] = {}
    tree = json.dumps(_pack(state, "", arrays))
    metadata = {"format": FORMAT, "version": str(VERSION), "state": tree, "checksum": str(zlib.crc32(tree.encode()))}
    with write_beside(path) as temporary, open(temporary, "wb") as file:
        _write(file, arrays, metadata)


def load(path: str | Path, without: Sequence[str] = ()) -> dict[str, Any]:
    """The state that was saved: same nesting, types, dtypes and values; tensors are on the CPU.

    What is at the paths `without`, such as `learner.replay`, is not read.

    Raises:
        RunError: there is no such file, it is damaged, no checkpoint, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise RunError(f"{path} is a safetensors file but not a checkpoint of triathlon")
            version = int(metadata["version"])
            if version > VERSION:
                raise RunError(f"{path} has checkpoint version {version}, newer than {VERSION}: update triathlon")
            tree = metadata["state"]
            if zlib.crc32(tree.encode()) != int(metadata["checksum"]):
                raise RunError(f"{path} is damaged: its header does not match its checksum")
            content = json.loads(tree)
            for name in without:
                _leave_out(content, name.split("."))
            state: dict[str, Any] = _unpack(content, file, path)
            return state
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{path} is not a checkpoint, or is damaged or cut short: {error}") from error


def _write(file: BinaryIO, arrays: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write the safetensors format: length of the header, header (JSON), bytes of the arrays one after another.

    The library's own writer makes a temporary file of its own choosing, which stays when the process is killed, and
    wants a second copy of what is large.
    """
    order = sorted(arrays, key=lambda name: -arrays[name].element_size())  # so that each lies aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name in order:
        array = arrays[name]
        end = offset + array.nbytes
        header[name] = {"dtype": _DTYPES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise RunError(
            f"a checkpoint cannot hold {len(text):,} bytes of lists, dicts and texts, only {LONGEST_HEADER:,}: let "
            "the environment keep what is long as arrays, which have no limit"
        )
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        file.write(_bytes(arrays[name]))


def _pack(value: Any, path: str, arrays: dict[str, Tensor]) -> Any:
    """`value` as JSON; its arrays go to `arrays` under their path."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {"dict": [[_pack(k, path, arrays), _pack(v, f"{path}.{k}", arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        name = "tuple" if isinstance(value, tuple) else "list"
        return {name: [_pack(item, f"{path}.{i}", arrays) for i, item in enumerate(value)]}
    if isinstance(value, Tensor):
        return {"tensor": _keep(value.detach().cpu().contiguous(), path, arrays)}
    if isinstance(value, np.ndarray):
        native = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("=")).reshape(value.shape)
        if not native.flags.writeable:
            native = native.copy()  # torch cannot promise to leave a read-only array alone
        return {"array": _keep(torch.from_numpy(native), path, arrays)}
    raise TypeError(f"a checkpoint cannot hold {path.removeprefix('.')}: {type(value).__name__}")


def _keep(array: Tensor, path: str, arrays: dict[str, Tensor]) -> list[Any]:
    """Enter an array; returns its name and what has to hold for it when it is read back."""
    stem = name = re.sub(r"[^\w.-]", "_", path.removeprefix("."), flags=re.ASCII)
    number = 1
    while name in arrays or name in ("", "__metadata__"):  # 'a.b' may also be the key 'b' of the dict 'a'
        number += 1
        name = f"{stem}#{number}"
    if array.dtype not in _DTYPES:
        raise TypeError(f"a checkpoint cannot hold {path.removeprefix('.')}: an array of {array.dtype}")
    arrays[name] = array
    return [name, _DTYPES[array.dtype], list(array.shape), zlib.crc32(_bytes(array))]


def _leave_out(node: Any, names: Sequence[str]) -> None:
    """Drop what is at the path of `names` from a packed state, if it is there."""
    if isinstance(node, dict) and "dict" in node:
        first, *rest = names
        for item in [item for item in node["dict"] if item[0] == first]:
            if rest:
                _leave_out(item[1], rest)
            else:
                node["dict"].remove(item)


def _unpack(node: Any, file: Any, path: Path) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "dict":
        return {_unpack(key, file, path): _unpack(value, file, path) for key, value in content}
    if kind in ("list", "tuple"):
        items = [_unpack(item, file, path) for item in content]
        return tuple(items) if kind == "tuple" else items
    name, dtype, shape, checksum = content
    array = file.get_tensor(name)
    if [_DTYPES[array.dtype], list(array.shape), zlib.crc32(_bytes(array))] != [dtype, shape, checksum]:
        raise RunError(f"{path} is damaged: '{name}' does not match its checksum")
    return array if kind == "tensor" else array.numpy()


def _bytes(array: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, where they lie."""
    return array.reshape(-1).view(torch.uint8).numpy().data if array.numel() else memoryview(b"")
