"""The Ray cluster that trials run on: the one that `RAY_ADDRESS` names, else one of their own on this machine."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triathlon.training.errors import RunError
from triathlon.training.machine import num_cores
from triathlon.training.workers.ray_cluster import QUIET

# What Ray reads when it is imported or started.
ENVIRONMENT = {
    **QUIET,
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # environments of one's own are found where the command was given
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a trial writes its own CSV and TensorBoard files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed before its first report has none
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",  # trials that cannot start were refused before
}
ATTEMPTS = 4  # Ray gives up on parts of a node that take more than 15 or 30 seconds to start, as on a busy machine
STORE = 200 * 2**20  # bytes of shared memory; only checkpoints' names and a few numbers travel


@contextmanager
def cluster(study: Path, needed: Mapping[str, float]) -> Iterator[None]:
    """Connected to a Ray cluster in which there is room for a trial that needs so much of each resource.

    Raises:
        RunError: Ray Tune is not installed, no cluster can be reached, or it is too small.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    try:
        import ray
        import ray.tune
    except ImportError as error:
        raise RunError('tuning needs Ray Tune, which is not installed: pip install "triathlon[tune]"') from error
    address = os.environ.get("RAY_ADDRESS") or "local"
    try:
        if address == "local":
            _start(ray, study, needed)
        else:
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:
                raise RunError(f"there is no Ray cluster at {address} (RAY_ADDRESS): {error}") from error
        there = ray.cluster_resources()
        for name, amount in needed.items():
            if amount > there.get(name, 0.0):
                raise RunError(f"a trial needs {amount:g} {name}, but the cluster has {there.get(name, 0.0):g}")
        yield
    finally:
        ray.shutdown()
        _clear(study)


def _start(ray: Any, study: Path, needed: Mapping[str, float]) -> None:
    """Start a cluster on this machine; raises RunError if it cannot be started."""
    _clear(study)
    # Ray's sockets and logs; not in the study, whose path may be longer than a socket's may be. The link is how the
    # next command finds them if this process is killed and cannot remove them.
    folder = Path(tempfile.mkdtemp(prefix="tune-"))
    (study / ".ray").symlink_to(folder)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=max(num_cores(), math.ceil(needed.get("CPU", 1))),
                object_store_memory=STORE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
            return
        except Exception as error:
            ray.shutdown()
            if attempt == ATTEMPTS or "timed out" not in str(error):
                raise RunError(f"Ray cannot be started on this machine: {error}") from error
            time.sleep(attempt)


def _clear(study: Path) -> None:
    link = study / ".ray"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()


__all__ = ["cluster"]
