"""Workers in this process, one after another: what the other kinds are compared with, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.training.workers.transport import Remote
from triathlon.training.workers.worker import Servant


class LocalWorker:
    """Does what it is asked when its answer is fetched."""

    def __init__(self) -> None:
        self._servant = Servant()
        self._asked: tuple[str, tuple[Any, ...]] | None = None

    def ask(self, request: str, *arguments: Any) -> None:
        self._asked = request, arguments

    def reply(self) -> dict[str, Any] | None:
        if self._asked is None:
            return None
        (request, arguments), self._asked = self._asked, None
        return self._servant.answer(request, *arguments)

    def kill(self) -> None:
        self._servant.answer("close")


class LocalTransport:
    """Makes workers in this process."""

    def make(self) -> LocalWorker:
        return LocalWorker()

    def share(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return weights

    def wait(self, remotes: Sequence[Remote], seconds: float) -> None:
        """Every answer is there as soon as it is fetched."""

    def close(self) -> None: ...


__all__ = ["LocalTransport"]
