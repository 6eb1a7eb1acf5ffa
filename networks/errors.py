"""The error that a person sees when a network or agent setting cannot be honoured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any


class SettingError(ValueError):
    """A setting has a value that cannot be honoured; the message is one sentence for the person who wrote it."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the allowed name nearest to `name`, or an empty string if none is near."""
    close = get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def refuse_unread(config: Any, names: tuple[str, ...], unless: str, place: str = "agent.") -> None:
    """Raises SettingError if one of these settings of a dataclass was changed although, as it stands, none is read."""
    defaults = {field.name: field.default for field in fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise SettingError(f"{place}{name} is {getattr(config, name)!r}, but nothing reads it unless {unless}")
