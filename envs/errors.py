"""The error that a person sees when an environment cannot be made or misbehaves."""

from __future__ import annotations


class EnvError(ValueError):
    """An environment cannot be made or broke its contract; the message is one sentence for the person who ran it."""
