"""Gymnasium spaces as plain values, to be kept beside the data that lie in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from triathlon.training.errors import RunError


def to_json(space: Space[Any]) -> dict[str, Any]:
    """What makes the same space again by `from_json`.

    Raises:
        RunError: it is none of Box, Discrete, MultiDiscrete and MultiBinary.
    """
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound(space.low), "high": _bound(space.high)}
        return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    raise RunError(
        f"a recording holds Box, Discrete, MultiDiscrete or MultiBinary observations and actions, not those of a "
        f"{type(space).__name__} space"
    )


def from_json(values: dict[str, Any]) -> Space[Any]:
    """The inverse of `to_json`; raises RunError for what that does not give."""
    try:
        kind = values["kind"]
        if kind == "Box":
            dtype = np.dtype(values["dtype"])
            low, high = (np.broadcast_to(np.array(values[end], dtype), values["shape"]) for end in ("low", "high"))
            return spaces.Box(low, high, tuple(values["shape"]), dtype.type)
        if kind == "Discrete":
            return spaces.Discrete(values["n"], start=values["start"])
        if kind == "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(values["nvec"]), start=np.array(values["start"]))
        if kind == "MultiBinary":
            return spaces.MultiBinary(values["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{values} does not describe a space: {error}") from error
    raise RunError(f"{values} does not describe a space: there is no kind {kind!r}")


def _bound(array: NDArray[Any]) -> Any:
    """One number where all are the same, as they are in pictures."""
    first = array.reshape(-1)[:1]
    return first[0].item() if first.size and bool((array == first[0]).all()) else array.tolist()


__all__ = ["from_json", "to_json"]
