"""Ports for processes that a test starts."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now.

    They lie between those that Ray gives to workers and those that the system gives to whoever connects: one of the
    latter may be taken before the process that it is for listens.
    """
    free: list[int] = []
    with ExitStack() as taken:
        while len(free) < count:
            port = random.randrange(20_000, 32_000)
            with suppress(OSError):
                taken.enter_context(socket.create_server(("", port)))
                free.append(port)
    return free
