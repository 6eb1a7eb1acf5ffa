"""How the pool reaches its workers: what every kind of worker offers to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class WorkerLost(Exception):
    """A worker, or the machine that it was on, is no more; the message says how that was noticed."""


class Remote(Protocol):
    """One worker. It is asked one thing at a time; `Servant.answer` says what comes back."""

    def ask(self, request: str, *arguments: Any) -> None:
        """Send a request; returns at once."""
        ...

    def reply(self) -> dict[str, Any] | None:
        """The answer, if it is there.

        Raises:
            WorkerLost: none will come.
        """
        ...

    def kill(self) -> None:
        """End it whatever it is doing, stopped or hung too; returns when nothing of it is left on this machine."""
        ...


class Transport(Protocol):
    """Makes workers of one kind."""

    def make(self) -> Remote:
        """A new worker, to be asked to `start` first."""
        ...

    def share(self, weights: NDArray[np.float32]) -> Any:
        """What to send to several workers instead of `weights`."""
        ...

    def wait(self, remotes: Sequence[Remote], seconds: float) -> None:
        """Return when one of them has an answer or is lost, at the latest after so many seconds."""
        ...

    def close(self) -> None:
        """Leave the cluster; all workers have been killed before."""
        ...


__all__ = ["Remote", "Transport", "WorkerLost"]
