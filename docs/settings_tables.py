"""Writes the tables of settings into the pages, from the dataclasses that read the settings (an MkDocs hook).

A page holds a line `<!-- settings: module:Class -->`, `<!-- engines: agent -->`, `<!-- backbones -->` or
`<!-- configurations -->` where a table belongs.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from triathlon.networks import registry
from triathlon.training import config, yaml_text
from triathlon.training.engines.settings import AGENTS, NAMES, Missing
from triathlon.training.shipped import shipped

ROOT = Path(__file__).parent.parent
WORDS = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    dict: "mapping",
    list: "list",
}
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}  # attributes of annotated_types' Gt, Ge, Lt, Le


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this with the text of each page."""
    markdown = re.sub(r"<!-- settings: (\S+) -->", lambda m: table(named(m[1])), markdown)
    markdown = re.sub(r"<!-- engines: (\w+) -->", lambda m: engines(m[1]), markdown)
    markdown = re.sub(r"<!-- backbones -->", lambda m: backbones(), markdown)
    return re.sub(r"<!-- configurations -->", lambda m: configurations(), markdown)


def named(path: str) -> type:
    """The class that `module:Class` names."""
    module, _, name = path.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


def table(cls: type) -> str:
    """The settings of a dataclass, a row each; those of a dataclass inside it follow under their dotted path."""
    lines = ["| setting | default | allowed | what it is |", "|---|---|---|---|"]
    for path, default, hint in settings(cls):
        given = "must be given" if default is dataclasses.MISSING else f"`{shown(default)}`"
        cells = (f"`{path}`", given, allowed(hint), help_of(hint))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def settings(cls: type, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """`(dotted path, default, annotated type)` of every setting but the `kind` that chose the dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        name, hint = f"{path}{field.name}", hints[field.name]
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if isinstance(bare, type) and dataclasses.is_dataclass(bare) and not chosen_by_kind(bare):
            yield from settings(bare, f"{name}.")
        elif path or field.name != "kind":
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            yield name, default, hint


def chosen_by_kind(cls: type) -> bool:
    """Whether a mapping's `kind` chooses the dataclass that reads it, so that its settings are not known here."""
    return "kind" in get_type_hints(cls) and get_origin(get_type_hints(cls)["kind"]) is not Literal


def allowed(hint: Any) -> str:
    """What a setting of this type may be, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [f"{sign} {getattr(m, name)}" for m in args[1:] for name, sign in SIGNS.items() if hasattr(m, name)]
        text = allowed(args[0])
        return text.replace("number", f"number {' and '.join(bounds)}", 1) if bounds else text
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (Union, UnionType):
        return " or ".join("null" if arg is NoneType else allowed(arg) for arg in args)
    if origin is tuple:
        return f"list of {allowed(args[0])}"
    if dataclasses.is_dataclass(hint):
        return "mapping with a `kind`"
    return WORDS.get(origin or hint, "any value")


def help_of(hint: Any) -> str:
    """The line of help: the last string beside the type."""
    return next((m for m in reversed(getattr(hint, "__metadata__", ())) if isinstance(m, str)), "")


def shown(value: Any) -> str:
    """A default as it would stand in YAML."""
    if dataclasses.is_dataclass(value):
        return str(getattr(value, "kind", "…"))
    return yaml_text.dump_line(list(value) if isinstance(value, tuple) else value)


def engines(agent: str) -> str:
    """What each engine calls the settings of an agent, and why it has no counterpart of some."""
    tables = [AGENTS[engine][agent] for engine in NAMES]
    lines = [f"| `agent.` | {' | '.join(NAMES.values())} |", "|---" * (len(tables) + 1) + "|"]
    for name in dict.fromkeys(name for table in tables for name in table):
        found = [table.get(name, Missing("nothing in it does the same")) for table in tables]
        cells = [f"refused: {cell.reason}" if isinstance(cell, Missing) else f"`{cell}`" for cell in found]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def backbones() -> str:
    """A section for each registered backbone: what its class says of itself, and its settings."""
    sections = []
    for kind in registry.kinds():
        if kind == "auto":
            continue
        backbone, settings_class = registry.backbone_class(kind), registry.config_class(kind)
        text = re.split(r"\n\n\s*Raises:", inspect.getdoc(backbone) or "")[0]
        sections.append(f"### `{kind}`\n\n{text}\n\n{table(settings_class)}")
    return "\n\n".join(sections)


def configurations() -> str:
    """The shipped configurations of agents, a row each."""
    lines = ["| configuration | environment | agent | backbone | steps |", "|---|---|---|---|---|"]
    for path in sorted(shipped().values()):
        if path.parent.name == "supervised":
            continue
        experiment = config.load(path)
        name = f"configs/{path.parent.name}/{path.name}" if path.parent.name != "configs" else f"configs/{path.name}"
        kinds = f"`{experiment.env.id}` | `{experiment.agent.kind}` | `{experiment.backbone.kind}`"
        lines.append(f"| `{name}` | {kinds} | {experiment.total_steps:,} |")
    return "\n".join(lines)
