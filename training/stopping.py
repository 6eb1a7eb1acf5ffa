"""Ctrl-C and SIGTERM ask a run to stop where it can go on later."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Wish:
    """Whether somebody asked."""

    to_stop: bool = False


@contextmanager
def stoppable(patient: bool = False) -> Iterator[Wish]:
    """Inside, the first signal is noted in what is given; a second Ctrl-C ends the run at once, unless `patient`.

    Processes that learn together are patient: one Ctrl-C reaches them from the terminal and, once more, from torchrun.
    """
    wish = Wish()

    def note(number: int, _: object) -> None:
        if wish.to_stop and number == signal.SIGINT and not patient:
            raise KeyboardInterrupt
        wish.to_stop = True

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            before[number] = signal.signal(number, note)
        except ValueError:  # not the main thread: whoever runs it there stops it by other means
            break
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["Wish", "stoppable"]
