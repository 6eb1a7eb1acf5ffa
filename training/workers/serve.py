"""The process of a worker: answers what comes over the socket that it was started with, until nobody is there."""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from typing import Any


def main(handle: int) -> None:
    """Serve requests that arrive at a file descriptor."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the run ends its workers itself, when it has saved what they know
    connection: Connection[Any, Any] = Connection(handle)
    from triathlon.training.workers import wire
    from triathlon.training.workers.worker import Servant

    servant = Servant()
    try:
        while True:
            request, *arguments = wire.receive(connection)
            wire.send(connection, servant.answer(request, *arguments))
    except (EOFError, OSError):  # the run has ended, or was killed
        servant.answer("close")


if __name__ == "__main__":
    main(int(sys.argv[1]))
