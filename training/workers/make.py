"""From the settings of a run to who plays its environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import create_empty_array

from triathlon.agents.agent import Learner
from triathlon.envs.make import make_envs, make_groups
from triathlon.networks.errors import refuse_unread
from triathlon.training.board.sides import Advise
from triathlon.training.collector import Collector
from triathlon.training.config import Experiment
from triathlon.training.workers.pool import WorkerPool, refuse_what_nothing_reads, rows_of_a_request
from triathlon.training.workers.transport import Transport

Envs: TypeAlias = VectorEnv[Any, Any, Any]


def make_run_envs(experiment: Experiment) -> list[Envs]:
    """The environments that the run's own process plays; with workers one, which says what they are like."""
    return [make_envs(experiment.env, 1)] if experiment.workers.num else make_groups(experiment.env)


def make_collector(
    experiment: Experiment,
    envs: Sequence[Envs],
    learner: Learner,
    seed: int,
    advise: Advise | None,
    say: Callable[[str], None],
    is_to_stop: Callable[[], bool] = lambda: False,
) -> Collector | WorkerPool:
    """Who plays: this process in `envs`, or the workers of the experiment in environments like them.

    `say` gets sentences about workers for whoever watches the run; `is_to_stop` says that workers are not to be waited
    for any longer than a rollout takes.

    Raises:
        RunError, SettingError, EnvError: the workers cannot be had as they were asked for.
    """
    if not experiment.workers.num:
        return Collector(envs, learner.policy, seed, learner.state_period, advise)
    refuse_what_nothing_reads(experiment, learner)
    transport = _transport(experiment, envs[0], rows_of_a_request(experiment, learner))
    try:
        return WorkerPool(experiment, learner, transport, seed, say, is_to_stop)
    except BaseException:
        transport.close()
        raise


def refuse_unread_clips(experiment: Experiment) -> None:
    """Raises SettingError if V-trace's clips were changed although no rows will be older than the weights."""
    is_async = experiment.workers.num and experiment.workers.mode == "async"
    if getattr(experiment.agent, "vtrace", None) == "auto" and not is_async:
        refuse_unread(experiment.agent, ("rho_clip", "c_clip"), "agent.vtrace is always, or workers.mode is async")


def _transport(experiment: Experiment, like: Envs, num_rows: int) -> Transport:
    """The way to workers of the kind that was asked for; what it needs is imported only then."""
    kind = experiment.workers.kind
    if kind == "ray":
        from triathlon.training.workers.ray_cluster import RayTransport

        row = _num_bytes(create_empty_array(like.single_observation_space, experiment.env.num_envs))
        return RayTransport(experiment.workers, 4 * num_rows * row)  # what is played, what was, and some room
    if kind == "process":
        from triathlon.training.workers.process import ProcessTransport

        return ProcessTransport()
    from triathlon.training.workers.local import LocalTransport

    return LocalTransport()


def _num_bytes(batch: Any) -> int:
    if isinstance(batch, dict):
        return sum(_num_bytes(value) for value in batch.values())
    return int(np.asarray(batch).nbytes)


__all__ = ["make_collector", "make_run_envs", "refuse_unread_clips"]
