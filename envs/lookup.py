"""Finds what an environment id or a `module:Class` means, and says what to change when it means nothing."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, parse_env_id
from gymnasium.vector import VectorEnv

from triathlon.envs.errors import EnvError

# Namespaces whose environments are registered when first asked for: importing them is slow or needs an extra.
NAMESPACES: dict[str, str] = {
    "ALE": "triathlon.envs.atari",
    "MinAtar": "triathlon.envs.minatar",
    "board": "triathlon.envs.board.games",
}

# What must be importable before an environment of a Gymnasium package can be made, and the extra that brings it.
EXTRAS = {"box2d": ("Box2D", "box2d"), "mujoco": ("mujoco", "mujoco")}
DRAWN_BY_PYGAME = {"classic_control": "classic", "box2d": "box2d", "toy_text": "classic"}


def find(name: str) -> EnvSpec:
    """The Gymnasium specification of an id, of `module:Id-v0` (imported first), or of `module:Class`.

    Raises:
        EnvError: nothing has that name; the nearest one is given.
    """
    module, colon, rest = name.partition(":")
    if colon and not re.search(r"-v\d+$", rest):
        return _spec_of(load(name), name)
    if colon:
        _import(module, name)
        name = rest
    _register_namespace(name)
    if name not in gym.registry:
        raise EnvError(_unknown(name))
    return gym.registry[name]


def load(name: str) -> Any:
    """The attribute that `module:Class` names; modules in the working directory are found.

    Raises:
        EnvError: the module or the class is not there.
    """
    module_name, _, attribute = name.partition(":")
    module = _import(module_name, name)
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [key for key in vars(found) if not key.startswith("_")]
            raise EnvError(f"{name}: module {module_name} has no {attribute!r}{nearest(attribute, public)}")
        found = getattr(found, part)
    return found


def missing_extra(spec: EnvSpec, render: bool = False) -> str | None:
    """The sentence that names the extra an environment needs, if what it needs is not installed."""
    entry_point = spec.entry_point or spec.vector_entry_point
    package = re.match(r"gymnasium\.envs\.(\w+)", entry_point) if isinstance(entry_point, str) else None
    if package is None:
        return None
    needed = [EXTRAS[package[1]]] if package[1] in EXTRAS else []
    if render and package[1] in DRAWN_BY_PYGAME:
        needed.append(("pygame", DRAWN_BY_PYGAME[package[1]]))
    for module, extra in needed:
        if not _is_installed(module):
            return needs_extra(spec.id, module, extra)
    return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # what is left where an import was blocked or half undone
        return False


def needs_extra(name: str, module: str, extra: str) -> str:
    """The sentence for an environment whose Python module is not installed."""
    return f'{name} needs {module}, which is not installed: pip install "triathlon[{extra}]"'


def _spec_of(creator: Any, name: str) -> EnvSpec:
    """A specification for a class (or a function returning an environment) that was never registered."""
    if not callable(creator) or (isinstance(creator, type) and not issubclass(creator, gym.Env | VectorEnv)):
        raise EnvError(f"{name} must be a gymnasium.Env or gymnasium.vector.VectorEnv, found {creator!r}")
    id = re.sub(r"[^\w-]", "_", name.partition(":")[2]) + "-v0"
    is_vector = isinstance(creator, type) and issubclass(creator, VectorEnv)
    entry_point: Any = creator
    return EnvSpec(id, vector_entry_point=entry_point) if is_vector else EnvSpec(id, entry_point=entry_point)


def _import(module: str, name: str) -> Any:
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module + ".").startswith(error.name + "."):
            raise EnvError(f"{name}: no module {error.name!r} on the Python path or in {directory}") from error
        raise EnvError(f"{name}: importing {module} raised {type(error).__name__}: {error}") from error
    except Exception as error:
        raise EnvError(f"{name}: importing {module} raised {type(error).__name__}: {error}") from error


def _register_namespace(name: str) -> None:
    namespace, slash, _ = name.partition("/")
    if slash and namespace in NAMESPACES:
        register: Callable[[], None] = importlib.import_module(NAMESPACES[namespace]).register
        register()


def _unknown(name: str) -> str:
    try:
        namespace, base, _ = parse_env_id(name)
    except gym.error.Error:
        namespace, base = None, name
    versions = sorted(
        (spec for spec in gym.registry.values() if (spec.namespace, spec.name) == (namespace, base)),
        key=lambda spec: spec.version or 0,
    )
    if versions:
        return f"unknown environment id {name!r}; versions of {base} are {', '.join(spec.id for spec in versions)}"
    return f"unknown environment id {name!r}{nearest(name, list(gym.registry))}"


def nearest(name: str, candidates: list[str]) -> str:
    """The end of a sentence about an unknown name: `; did you mean …?`, or nothing if no candidate is near."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""
