"""The Ray cluster that trials run on: the one that `RAY_ADDRESS` names, else one of their own on this machine."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triathlon.training.errors import RunError
from triathlon.training.machine import num_cores
from triathlon.training.ray_start import join_or_start, prepare

# What Ray Tune reads when it is imported or started.
ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # environments of one's own are found where the command was given
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a trial writes its own CSV and TensorBoard files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed before its first report has none
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",  # trials that cannot start were refused before
}
OWNER = "study"  # a file in the folder of a cluster's sockets and logs: whose they are
STORE = 200 * 2**20  # bytes of shared memory; only checkpoints' names and a few numbers travel


@contextmanager
def cluster(study: Path, bundles: Sequence[Mapping[str, float]]) -> Iterator[None]:
    """Connected to a Ray cluster in which there is room for a trial.

    `bundles` are what is set aside for it of each resource, each on one node: one for its learner, and one for each
    rollout worker, which are all alike.

    Raises:
        RunError: Ray Tune is not installed, no cluster can be reached, or it is too small.
    """
    prepare(ENVIRONMENT)
    try:
        import ray
        import ray.tune
    except ImportError as error:
        raise RunError('tuning needs Ray Tune, which is not installed: pip install "triathlon[tune]"') from error
    is_ours = False
    try:
        is_ours = join_or_start("tuning runs on Ray", _own(study, bundles))
        refuse_too_small([node["Resources"] for node in ray.nodes() if node["Alive"]], bundles)
        yield
    finally:
        if is_ours:
            ray.shutdown()
        _clear(study)


def refuse_too_small(nodes: Sequence[Mapping[str, float]], bundles: Sequence[Mapping[str, float]]) -> None:
    """Raises RunError unless nodes with so much of each resource have room for the bundles of `cluster`, all at once.

    Ray itself would wait for ever, in case nodes are added.
    """
    learner, *workers = bundles
    room = sum(_times(workers[0], node) for node in nodes) if workers else 0
    for node in nodes:  # on which the learner might lie
        rest = {name: node.get(name, 0.0) - amount for name, amount in learner.items()}
        taken = _times(workers[0], node) - _times(workers[0], rest) if workers else 0
        if min(rest.values()) >= 0 and room - taken >= len(workers):
            return
    needed = _listed(learner) + (f" and {len(workers)} times {_listed(workers[0])} for workers" if workers else "")
    there = "; ".join(sorted({_listed({name: node.get(name, 0.0) for name in ("CPU", "GPU")}) for node in nodes}))
    raise RunError(
        f"a trial needs {needed}, each on one node, but the nodes of the cluster have {there}; "
        "change cpus, gpus or workers"
    )


def _times(bundle: Mapping[str, float], node: Mapping[str, float]) -> int:
    """How many such bundles fit on a node."""
    return min(math.floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in bundle.items())


def _listed(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())


def _own(study: Path, bundles: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What a cluster that is started on this machine is like."""
    _clear(study)
    # Ray's sockets and logs; not in the study, whose path may be longer than a socket's may be. The link is how the
    # next command finds them if this process is killed and cannot remove them.
    folder = Path(tempfile.mkdtemp(prefix="tune-"))
    (folder / OWNER).write_text(str(study.resolve()), encoding="utf-8")
    (study / ".ray").symlink_to(folder)
    num_cpus = max(num_cores(), math.ceil(sum(bundle["CPU"] for bundle in bundles)))
    return {"num_cpus": num_cpus, "object_store_memory": STORE, "_temp_dir": str(folder)}


def _clear(study: Path) -> None:
    """Remove what an earlier cluster of this study left; a study that was copied may point to anything."""
    link = study / ".ray"
    if not link.is_symlink():
        return
    owner = link.resolve() / OWNER
    if owner.is_file() and owner.read_text(encoding="utf-8") == str(study.resolve()):
        shutil.rmtree(link.resolve(), ignore_errors=True)
    link.unlink()


__all__ = ["cluster", "refuse_too_small"]
