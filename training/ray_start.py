"""The one way to Ray: the cluster that is there already, or a quiet one that is started on this machine."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from triathlon.training.errors import RunError

# What Ray reads when it is imported or started.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "180",  # Ray's own patience is too short for a slow or busy machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # Ray's own is 15, at which whatever else runs here takes the processors of workers
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",  # a paragraph of guesses; the pool says what it knows
}
ATTEMPTS = 4  # Ray gives up on parts of a node that take more than 15 or 30 seconds to start, as on a busy machine
PATIENCE = 10.0  # seconds until somebody must have opened the door


def prepare(more: Mapping[str, str] | None = None) -> None:
    """Set what Ray reads from the environment, to be called before it is imported; what is set already stays."""
    for name, value in (ENVIRONMENT | dict(more or {})).items():
        os.environ.setdefault(name, value)


def join_or_start(who: str, own: Mapping[str, Any], address: str | None = None, setting: str = "RAY_ADDRESS") -> bool:
    """Connect this process to Ray, if it is not yet.

    `own` are arguments of `ray.init` for a cluster that is started here, which happens where neither `address` nor
    RAY_ADDRESS names one (or it is `local`). `who` asks, as the beginning of a sentence: "engine is rllib"; `setting`
    says where the address may come from.

    Returns:
        Whether the caller has to call `ray.shutdown()` in the end: not where this process was connected before.

    Raises:
        RunError: nobody is at the address, or no cluster can be started.
    """
    import ray

    if ray.is_initialized():  # in a trial of Ray Tune, say
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        _start(ray, who, quiet | {"include_dashboard": False} | dict(own))
        return True
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except Exception as error:
        ray.shutdown()
        raise RunError(f"{who}, but there is no Ray cluster at {address} ({setting}): {_line(error)}") from error
    return True


def _start(ray: Any, who: str, settings: Mapping[str, Any]) -> None:
    """Start a cluster; where its parts gave each other up, again: the next start finds all in memory."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(address="local", **settings)
            return
        except Exception as error:
            ray.shutdown()
            # What is wrong with the settings, the disk or the memory will be so again.
            if attempt == ATTEMPTS or isinstance(error, ValueError | ImportError | PermissionError):
                raise RunError(f"{who}, but Ray cannot be started on this machine: {_line(error)}") from error
            time.sleep(attempt)


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at `host:port`; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


__all__ = ["join_or_start", "prepare"]
