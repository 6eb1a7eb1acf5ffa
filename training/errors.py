"""The error that a person sees when a run, its configuration or one of its files is at fault."""

from __future__ import annotations


class RunError(ValueError):
    """A configuration, checkpoint or run folder is at fault; the message is one sentence for the person who ran it."""
