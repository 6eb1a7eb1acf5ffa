"""Workers in processes of this machine, each in a session of its own, reached over a socket.

A thread for each worker sends and receives: a worker that is stopped in the middle of a message holds up nobody else.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.training.workers import serve, wire
from triathlon.training.workers.transport import Remote, WorkerLost


class ProcessWorker:
    """A process that runs `serve.py`, and the thread that talks with it."""

    def __init__(self, news: threading.Condition) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # Not multiprocessing: that imports the main script once more, and its daemons may have no children, which
            # `env.vectorization: process` wants. A session of its own keeps Ctrl-C away and is ended as a whole.
            self._process = subprocess.Popen(
                [sys.executable, "-m", serve.__name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        self._connection: Connection[Any, Any] = Connection(ours.detach())
        self._news = news
        self._requests: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._answers: list[dict[str, Any]] = []
        self.is_lost = False
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    @property
    def has_news(self) -> bool:
        """Is there an answer, or will there be none any more?"""
        return bool(self._answers) or self.is_lost

    def ask(self, request: str, *arguments: Any) -> None:
        self._requests.put((request, *arguments))

    def reply(self) -> dict[str, Any] | None:
        if self._answers:
            return self._answers.pop()
        if self.is_lost:
            raise WorkerLost(_how_it_ended(self._process))
        return None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its environments' processes too
        self._process.wait()
        self._requests.put(None)
        self._thread.join()
        self._connection.close()

    def _talk(self) -> None:
        try:
            while (request := self._requests.get()) is not None:
                wire.send(self._connection, request)
                answer = wire.receive(self._connection)
                with self._news:
                    self._answers.append(answer)
                    self._news.notify_all()
        except (EOFError, OSError):
            with self._news:
                self.is_lost = True
                self._news.notify_all()


class ProcessTransport:
    """Makes workers in processes."""

    def __init__(self) -> None:
        self._news = threading.Condition()

    def make(self) -> ProcessWorker:
        return ProcessWorker(self._news)

    def share(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return weights

    def wait(self, remotes: Sequence[Remote], seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: any(r.has_news for r in remotes if isinstance(r, ProcessWorker)), seconds)

    def close(self) -> None: ...


# Small operations of one thread, on the CPU.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(5.0)
    except subprocess.TimeoutExpired:
        return "it does not answer any more"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


__all__ = ["ENVIRONMENT", "ProcessTransport"]
