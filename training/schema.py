"""From a mapping to settings dataclasses and back: one validation path for YAML files and the command line.

A settings dataclass has fields `name: Annotated[type, constraints…, "one line of help"] = default`. A field whose type
is a polymorphic class (see `Kinds`) holds a mapping with a `kind`, which chooses the dataclass that reads the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from triathlon.envs.errors import EnvError
from triathlon.networks.errors import SettingError, nearest
from triathlon.training import yaml_text
from triathlon.training.errors import RunError

T = TypeVar("T")

# For each polymorphic class, the function that gives the dataclass of a kind (or raises SettingError).
Kinds = Mapping[type, Callable[[str], type]]


class Switched(dict[str, Any]):
    """A mapping whose `kind` was changed after it was written: keys that the new kind does not have are left out.

    Keys in `given` came with the change, so they have to be right.
    """

    given: set[str]


def build(cls: type[T], mapping: Any, kinds: Kinds, path: str = "") -> T:
    """An instance of the dataclass `cls` from `mapping`.

    Raises:
        RunError: an unknown key, a missing one, or a value of the wrong type or out of range; names the dotted path.
    """
    if cls in kinds and isinstance(mapping, str):
        mapping = {"kind": mapping}
    if not isinstance(mapping, dict):
        raise RunError(f"{_named(path)} is {_shown(mapping)} but should be a mapping of settings")
    if cls in kinds:
        cls = _chosen(cls, mapping, kinds, path)
    hints, fields = _hints(cls), {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in fields:
            if isinstance(mapping, Switched) and key not in mapping.given:
                continue
            below = _one_below(str(key), mapping, hints, kinds, path)
            raise RunError(_unknown(str(key), list(fields), path, mapping.get("kind"), below))
        values[key] = _convert(hints[key], value, kinds, _join(path, key))
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise RunError(f"{_join(path, name)} is missing; it has no default, so the configuration must give it")
    try:
        return cls(**values)
    except (SettingError, EnvError) as error:  # a check across fields in __post_init__
        raise RunError(f"{path}: {error}" if path else str(error)) from error


def to_mapping(value: Any) -> Any:
    """The inverse of `build`: dataclasses as dicts with every setting, tuples as lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, dict):
        return {key: to_mapping(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_mapping(item) for item in value]
    return value


def settings(value: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting below a dataclass instance: `(dotted path, value, help)`."""
    cls: type = type(value)
    hints = _hints(cls)
    for field in dataclasses.fields(value):
        item, name = getattr(value, field.name), _join(path, field.name)
        if dataclasses.is_dataclass(item):
            yield from settings(item, name)
        elif isinstance(item, dict) and any(dataclasses.is_dataclass(part) for part in item.values()):
            for key, part in item.items():
                yield from settings(part, _join(name, key))
        else:
            yield name, item, _help(hints[field.name])


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _chosen(base: type, mapping: dict[str, Any], kinds: Kinds, path: str) -> type:
    """The dataclass of the mapping's `kind`, or of the kind that the polymorphic class has by default."""
    kind = mapping.get("kind", getattr(base, "kind", None))
    if not isinstance(kind, str):
        raise RunError(f"{_join(path, 'kind')} is {_shown(kind)} but should be the name of a kind")
    try:
        return kinds[base](kind)
    except SettingError as error:
        where = _join(path, "kind")
        raise RunError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error


def _convert(hint: Any, value: Any, kinds: Kinds, path: str) -> Any:
    """`value` as the type `hint` wants it: dataclasses by `build`, everything else by pydantic."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if not _holds_settings(bare):
        return _leaf(hint, value, path)
    if isinstance(bare, type):
        return build(bare, value, kinds, path)
    origin, args = get_origin(bare), get_args(bare)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if _holds_settings(a)), value, kinds, path)
    if origin is dict:
        if not isinstance(value, dict):
            raise RunError(f"{path} is {_shown(value)} but should be a mapping")
        return {str(key): _convert(args[1], item, kinds, _join(path, str(key))) for key, item in value.items()}
    if not isinstance(value, list):
        raise RunError(f"{path} is {_shown(value)} but should be a list")
    return tuple(_convert(args[0], item, kinds, _join(path, str(i))) for i, item in enumerate(value))


def _holds_settings(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return dataclasses.is_dataclass(hint) or any(_holds_settings(arg) for arg in get_args(hint))


def _leaf(hint: Any, value: Any, path: str) -> Any:
    try:
        # Strict JSON is what a configuration file means: no number from a string, but a tuple from a list.
        return _adapter(hint).validate_json(json.dumps(value), strict=True)
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise RunError(f"{path} is {_shown(value)}, not a plain number, string, list or mapping") from error
        if isinstance(value, (yaml_text.SpelledInt, yaml_text.SpelledFloat)):
            with contextlib.suppress(ValidationError):
                return _adapter(hint).validate_json(json.dumps(value.text), strict=True)
        problems = error.errors(include_url=False, include_context=False)
        where = ".".join(str(part) for part in problems[0]["loc"] if isinstance(part, int))
        allowed = " or ".join(dict.fromkeys(_allowed(problem["msg"]) for problem in problems))
        choices = [c for c in _literals(hint) if isinstance(c, str)]
        hint_text = nearest(value, choices) if isinstance(value, str) else ""
        raise RunError(
            f"{path} is {_shown(value)} but {f'element {where} of it ' if where else ''}should be {allowed}{hint_text}"
        ) from error


def _allowed(message: str) -> str:
    if message.startswith("String should have at least 1 "):
        return "a word that is not empty"
    message = message.removeprefix("Input should be ").replace("a valid array", "a list")
    return message.replace("a valid ", "a ").replace("a integer", "an integer")


def _literals(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [value for arg in get_args(hint) for value in _literals(arg)]


def _one_below(key: str, mapping: dict[str, Any], hints: dict[str, Any], kinds: Kinds, path: str) -> str | None:
    """Where a setting of just this name is, one level below: who leaves out `env.` is not told of another one."""
    for name, hint in hints.items():
        cls = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            continue
        part = mapping.get(name, {})
        part = {"kind": part} if isinstance(part, str) else part
        if cls in kinds and isinstance(part, dict):
            cls = _chosen(cls, part, kinds, _join(path, name))
        if any(f.name == key and f.init for f in dataclasses.fields(cls)):
            return _join(_join(path, name), key)
    return None


def _unknown(key: str, allowed: list[str], path: str, kind: Any, below: str | None) -> str:
    of_kind = f" of kind '{kind}'" if isinstance(kind, str) else ""
    where = f"{path}{of_kind}" if path else "the configuration"
    hint = f" (did you mean '{below}'?)" if below else nearest(key, allowed) or f": it has {', '.join(allowed)}"
    return f"{_join(path, key)} is not a setting of {where}{hint}"


def _help(hint: Any) -> str:
    return next((m for m in reversed(getattr(hint, "__metadata__", ())) if isinstance(m, str)), "")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _named(path: str) -> str:
    return path or "the configuration"


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
