"""The error that a person sees when a network or agent setting cannot be honoured."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SettingError(ValueError):
    """A setting has a value that cannot be honoured; the message is one sentence for the person who wrote it."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the allowed name nearest to `name`, or an empty string if none is near."""
    close = get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
