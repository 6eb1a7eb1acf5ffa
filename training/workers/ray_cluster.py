"""Workers as actors of a Ray cluster: one that is there already, or one started on this machine."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triathlon.training.errors import RunError
from triathlon.training.machine import num_cores
from triathlon.training.ray_start import join_or_start, prepare
from triathlon.training.workers.config import WorkersConfig
from triathlon.training.workers.process import ENVIRONMENT
from triathlon.training.workers.transport import Remote, WorkerLost

SMALLEST_STORE = 200 * 2**20  # bytes


class Actor:
    """The worker as Ray makes it. Ray gives actors without a GPU all of them: what acts must not take any."""

    def __init__(self) -> None:
        os.environ.update(ENVIRONMENT)
        from triathlon.training.workers.worker import Servant

        self._servant = Servant()

    def answer(self, request: str, *arguments: Any) -> dict[str, Any]:
        """What `Servant.answer` gives."""
        return self._servant.answer(request, *arguments)


class RayWorker:
    """An actor, and the one request to it that is under way."""

    def __init__(self, ray: Any, cpus: float) -> None:
        self._ray = ray
        # Ray's own restarts fail once the arguments have left its store, so the pool makes a new actor itself.
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": 0, "max_restarts": 0}
        if ray.util.get_current_placement_group() is None:  # a Ray Tune trial has set room aside for its workers
            options["scheduling_strategy"] = "SPREAD"
        self._actor = ray.remote(Actor).options(**options).remote()
        self.under_way: Any = None
        self._place: dict[str, Any] = {}

    def ask(self, request: str, *arguments: Any) -> None:
        self.under_way = self._actor.answer.remote(request, *arguments)

    def reply(self) -> dict[str, Any] | None:
        # An answer is there when it lies on the worker's node. Were it only there when it has been fetched from it, a
        # healthy worker that nobody listened to for a while, as during an evaluation, would be taken for hung.
        if self.under_way is None or not self._ray.wait([self.under_way], timeout=0, fetch_local=False)[0]:
            return None
        under_way, self.under_way = self.under_way, None
        try:
            answer: dict[str, Any] = self._ray.get(under_way)
        except self._ray.exceptions.RayError as error:
            raise WorkerLost(" ".join(str(error).split())[:200] or type(error).__name__) from error
        if isinstance(answer.get("value"), dict) and "pid" in answer["value"]:
            self._place = answer["value"]
        return answer

    def kill(self) -> None:
        with suppress(Exception):  # of a cluster that is no more
            self._ray.kill(self._actor, no_restart=True)
        self.under_way = None
        if self._place.get("host") == socket.gethostname():  # one that is stopped does not hear Ray
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._place["pid"], signal.SIGKILL)


class RayTransport:
    """Makes actors, in a cluster that it starts and ends itself if there is none.

    Raises:
        RunError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, config: WorkersConfig, store_bytes: int) -> None:
        prepare()
        try:
            import ray
        except ImportError as error:
            raise RunError(
                "workers.kind is ray, and Ray is not installed: pip install 'triathlon[ray]', or set workers.kind to "
                "process"
            ) from error
        self._ray, self._config = ray, config
        own = {
            # The workers that were asked for always have room, and this process computes beside them.
            "num_cpus": max(num_cores(), math.ceil(config.num * config.cpus_per_worker)),
            "object_store_memory": max(SMALLEST_STORE, store_bytes),
        }
        setting = "workers.address or RAY_ADDRESS"
        self._is_ours = join_or_start("workers.kind is ray", own, config.address, setting)

    def make(self) -> RayWorker:
        return RayWorker(self._ray, self._config.cpus_per_worker)

    def share(self, weights: NDArray[np.float32]) -> Any:
        return self._ray.put(weights)

    def wait(self, remotes: Sequence[Remote], seconds: float) -> None:
        refs = [r.under_way for r in remotes if isinstance(r, RayWorker) and r.under_way is not None]
        if refs:
            self._ray.wait(refs, num_returns=1, timeout=seconds)

    def close(self) -> None:
        if self._is_ours:
            self._ray.shutdown()


__all__ = ["RayTransport"]
