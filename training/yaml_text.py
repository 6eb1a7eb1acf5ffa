"""Plain YAML: numbers as YAML 1.2 has them, no key twice, and what is written is read back as the same value."""

from __future__ import annotations

import re
from typing import Any

import yaml

from triathlon.training.errors import RunError


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of a number (1e-4 is one, 1:30 and `yes` are not), and a key may stand once only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark)
            seen.append(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back as the same value."""


_NUMBERS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9][0-9_]*(?:[eE]\+?[0-9]{1,2})?", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
)
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _NUMBERS:
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits, _, exponent = node.value.replace("_", "").lower().partition("e")
    value: int = int(digits) * 10 ** int(exponent or 0)  # 1e6 steps are a whole number of steps
    return value


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def parse(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text; `source` names it in errors.

    Raises:
        RunError: not YAML, a key stands twice, or the text holds something else than a mapping.
    """
    mapping = parse_value(text, source)
    if not isinstance(mapping, dict):
        raise RunError(f"{source} holds {type(mapping).__name__} but should hold a mapping of settings")
    return mapping


class SpelledInt(int):
    """An integer that knows how it was written: a name may be a number."""

    text: str


class SpelledFloat(float):
    """The same for a float."""

    text: str


def parse_spelled(text: str, source: str) -> Any:
    """As `parse_value`, but numbers keep their `text`: on a command line nobody writes quotes around a name."""
    value = parse_value(text, source)
    spelled = {int: SpelledInt, float: SpelledFloat}.get(type(value))
    if spelled is not None:
        value = spelled(value)
        value.text = text.strip()
    return value


def parse_value(text: str, source: str) -> Any:
    """Any one value in a YAML text; `source` names it in errors. Raises RunError where it is not YAML."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (_Loader is a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark and "\n" in text else ""
        problem = getattr(error, "problem", None) or str(error)
        raise RunError(f"{source}{line} is not YAML that can be read: {problem}") from error


def dump(value: Any) -> str:
    """A value as YAML text that `parse_value` gives back equal."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110)


def dump_line(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=1_000_000)
    return text.removesuffix("...\n").strip()
