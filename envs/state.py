"""Saves environments so that they go on exactly where they were, or says that it cannot.

What an environment will do depends on its attributes. If every attribute is a number, an array, a random generator or a
plain container of these, then copying them is copying the environment. MuJoCo's simulation is copied by its own
function. An attribute of any other kind (a Box2D world, an emulator) may hide state: then the answer is None, because
a state that is nearly right would be worse than none.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Collection, Iterator
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError

# Attributes that hold no state: what the environment is, and the wrapped environment (visited by itself).
FIXED_NAMES = frozenset({"env", "spec", "metadata", "_cached_spec", "_metadata"})
FIXED_TYPES = (type, EnvSpec, Enum, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
# Modules whose objects only draw pictures.
DRAWING = ("pygame", "gymnasium.envs.mujoco.mujoco_rendering")
MARK = "__kind__"
LONG = 64  # from so many numbers of one type on, a list is kept as an array, which takes a fraction of the room


class Uncopyable(Exception):
    """A value whose copy might not behave as the original does."""


def state_of(envs: VectorEnv[Any, Any, Any]) -> dict[str, Any] | None:
    """All that the future of `envs` depends on, made of arrays and JSON values; None if that cannot be had exactly.

    The observation that was last returned is not part of it: who holds it must save it.
    """
    try:
        return {key: _save(layer) for key, layer in _named_layers(envs)}
    except Uncopyable:
        return None


def restore(envs: VectorEnv[Any, Any, Any], state: dict[str, Any]) -> None:
    """Bring `envs`, made as those that were saved, to a state that `state_of` gave.

    Raises:
        EnvError: the state is of environments made otherwise.
    """
    layers = dict(_named_layers(envs))
    if layers.keys() != state.keys():
        found = ", ".join(sorted(state.keys() ^ layers.keys()))
        raise EnvError(f"the saved state is not of these environments: they differ in {found}")
    for key, layer in layers.items():
        _load(layer, state[key])


def _named_layers(envs: VectorEnv[Any, Any, Any]) -> Iterator[tuple[str, Any]]:
    for i, layer in enumerate(_layers(envs)):
        num_envs = f" of {layer.num_envs}" if isinstance(layer, VectorEnv) else ""
        yield f"{i} {type(layer).__name__}{num_envs}", layer


def _layers(env: Any) -> Iterator[Any]:
    """An environment's wrappers from the outside, then itself, then the single environments of a `SyncVectorEnv`."""
    while True:
        yield env
        if not isinstance(env, gym.Wrapper | VectorWrapper):
            break
        env = env.env
    if isinstance(env, SyncVectorEnv):
        for single in env.envs:
            yield from _layers(single)


def _save(layer: Any) -> dict[str, Any]:
    if _tells_its_state(layer):
        state = layer.get_state()
        if type(state) is not dict:
            raise Uncopyable(type(layer).__name__)
        encoded: dict[str, Any] = encode(state)
        return encoded
    if isinstance(layer, SyncVectorEnv):
        # The rest of its attributes is overwritten by every step.
        return {"_autoreset_envs": encode(layer._autoreset_envs)}
    if not hasattr(layer, "__dict__") or "gymnasium.vector.async" in type(layer).__module__:
        raise Uncopyable(type(layer).__name__)
    saved = {}
    seen: set[int] = set()
    for name, value in vars(layer).items():
        if name in FIXED_NAMES or isinstance(value, FIXED_TYPES) or type(value).__module__.startswith(DRAWING):
            continue
        if isinstance(value, np.ndarray | list | dict | deque | np.random.Generator):
            # Two names for one object would come back as two objects.
            base = getattr(value, "base", None)
            owner = id(value if base is None else base)
            if owner in seen:
                raise Uncopyable(name)
            seen.add(owner)
        if type(value).__name__ == "MjModel":
            continue
        saved[name] = _encode_mujoco(layer.model, value) if type(value).__name__ == "MjData" else encode(value)
    return saved


def _tells_its_state(layer: Any) -> bool:
    """Has it both methods? Many environments have one of these names for something else."""
    return hasattr(type(layer), "get_state") and hasattr(type(layer), "set_state")


def _load(layer: Any, saved: dict[str, Any]) -> None:
    if _tells_its_state(layer):
        layer.set_state(decode(saved))
        return
    for name, value in saved.items():
        current = getattr(layer, name, None)
        if isinstance(current, spaces.Space):
            _load_space(current, value)
        elif type(current).__name__ == "MjData":
            _decode_mujoco(layer.model, current, value)
        else:
            setattr(layer, name, decode(value))


def encode(value: Any) -> Any:
    """A value as arrays and JSON values, with marks for what JSON does not tell apart.

    Raises:
        Uncopyable: it is none of the kinds that can be copied for certain.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value.copy()
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {MARK: "scalar", "value": np.asarray(value)}
    if isinstance(value, np.random.Generator | np.random.RandomState):
        bits = value.bit_generator if isinstance(value, np.random.Generator) else value._bit_generator
        return {MARK: type(value).__name__, "bits": type(bits).__name__, "value": _plain(bits.state)}
    if isinstance(value, spaces.Space):
        return _save_space(value)
    if type(value) in (list, tuple, set, deque):
        maxlen = value.maxlen if isinstance(value, deque) else None
        array = _array(value) if len(value) >= LONG else None
        items = [encode(v) for v in value] if array is None else array
        return {MARK: type(value).__name__, "value": items, "maxlen": maxlen}
    if type(value) is dict:
        if all(isinstance(key, str) for key in value) and MARK not in value:
            return {key: encode(v) for key, v in value.items()}
        return {MARK: "items", "value": [[encode(key), encode(v)] for key, v in value.items()]}
    raise Uncopyable(type(value).__name__)


def decode(value: Any) -> Any:
    """What `encode` was given, in memory of its own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if not isinstance(value, dict):
        return value
    kind = value.get(MARK)
    if kind is None:
        return {key: decode(v) for key, v in value.items()}
    inner = value["value"]
    if kind == "scalar":
        return inner[()]
    if kind == "items":
        return {decode(key): decode(v) for key, v in inner}
    if kind in ("Generator", "RandomState"):
        bits = getattr(np.random, value["bits"])()
        bits.state = inner
        return getattr(np.random, kind)(bits)
    items = inner.tolist() if isinstance(inner, np.ndarray) else [decode(v) for v in inner]
    if kind == "deque":
        return deque(items, maxlen=value["maxlen"])
    return {"list": list, "tuple": tuple, "set": set}[kind](items)


def _array(numbers: Collection[Any]) -> NDArray[Any] | None:
    """Python's own floats, or integers of 64 bits, as an array of the same numbers; None if there are others."""
    for kind, dtype in ((float, np.float64), (int, np.int64)):
        if all(type(number) is kind for number in numbers):
            try:
                return np.fromiter(numbers, dtype, len(numbers))
            except OverflowError:
                return None
    return None


def _plain(value: Any) -> Any:
    return {key: _plain(v) for key, v in value.items()} if isinstance(value, dict) else value


def _save_space(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space's own generator (environments may sample from their spaces), and those of its parts."""
    saved = {"own": encode(space._np_random)}
    parts = getattr(space, "spaces", ())
    for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
        saved[f"part {key}"] = _save_space(part)
    return saved


def _load_space(space: spaces.Space[Any], saved: dict[str, Any]) -> None:
    space._np_random = decode(saved["own"])
    parts = getattr(space, "spaces", ())
    for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
        _load_space(part, saved[f"part {key}"])


def _encode_mujoco(model: Any, data: Any) -> dict[str, Any]:
    """The integration state, and every derived array: rewards read positions that the last step left behind."""
    import mujoco  # type: ignore[import-untyped]

    spec = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(model, spec))
    mujoco.mj_getState(model, data, integration, spec)
    return {"integration": integration} | {name: array.copy() for name, array in _derived(data)}


def _decode_mujoco(model: Any, data: Any, saved: dict[str, Any]) -> None:
    import mujoco

    mujoco.mj_setState(model, data, saved["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    for name, array in _derived(data):
        if name in saved and saved[name].shape == array.shape:
            array[...] = saved[name]


def _derived(data: Any) -> Iterator[tuple[str, Any]]:
    for name in dir(data):
        # Constraints, islands and contacts have as many rows as the last step found; the next step finds them anew.
        if not name.startswith(("_", "efc_", "contact", "iefc")):
            value = getattr(data, name)
            if isinstance(value, np.ndarray) and value.flags.writeable and value.size:
                yield name, value
