"""A worker: the collector of some columns of a run, with a policy and environments of its own.

B columns of the whole run, M of one worker.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triathlon.agents.agent import Policy
from triathlon.agents.registry import AgentConfig, make_learner
from triathlon.envs.errors import EnvError
from triathlon.envs.make import make_groups
from triathlon.training.collector import Collector
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.task import make_task
from triathlon.training.workers import columns

ONLY_LEARNING = ("compile", "cuda_graphs", "replay_device")  # settings of an agent that change nothing about acting


class RolloutWorker:
    """Worker `index` of a run: columns `index * M … (index + 1) * M - 1` of its segments.

    It acts on the CPU with one thread, so that where it runs changes nothing about what it plays. Everything random
    in it descends from `seed`.

    Raises:
        SettingError, EnvError, RunError: its part of the experiment cannot be made.
    """

    def __init__(self, settings: dict[str, Any], index: int, seed: int) -> None:
        experiment = from_mapping(settings)
        workers = experiment.workers
        env = workers.envs_of_one(experiment.env)
        self.index = index
        with one_thread(), ExitStack() as made:
            groups = make_groups(env)
            for group in groups:
                made.callback(group.close)
            self.policy, state_period = _policy(experiment, groups[0], np.random.SeedSequence([seed, index]))
            self.policy.set_columns(index * env.num_envs, experiment.env.num_envs)
            self._frame_stack: int = getattr(groups[0], "frame_stack", 1)
            env_seed = self._reseed(seed)
            self.collector = Collector(groups, self.policy, env_seed, state_period)
            self._made = made.pop_all()

    def collect(self, num_rows: int, weights: NDArray[np.float32]) -> dict[str, Any]:
        """Play with these weights: the columns, the episodes that ended, and where the time went.

        Raises:
            EnvError: an environment failed.
        """
        with one_thread():
            self.policy.load_weights(torch.from_numpy(np.array(weights)))  # what Ray shares cannot be written to
            self.collector.stopwatch.restart()
            segment = self.collector.collect(num_rows)
        return {
            "columns": columns.of_segment(segment, self._frame_stack),
            "episodes": [[e.episode_return, e.length] for e in self.collector.take_episodes()],
            "seconds": {phase: self.collector.stopwatch.seconds[phase] for phase in ("stepping", "acting")},
        }

    def restart(self, seed: int) -> None:
        """Begin new episodes and new random numbers."""
        with one_thread():
            self.collector.restart(self._reseed(seed))
            self.collector.take_episodes()

    def state_dict(self) -> dict[str, Any] | None:
        """All that is needed to go on to the bit, or None if the environments cannot tell their state."""
        collector = self.collector.state_dict()
        if collector is None:
            return None
        for group in collector["groups"]:
            group["state"] = [s.numpy() for s in group["state"]]
        return {"collector": collector, "generator": self.policy.generator.get_state().numpy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for group in state["collector"]["groups"]:
            group["state"] = [torch.from_numpy(np.array(s)) for s in group["state"]]
        self.collector.load_state_dict(state["collector"])
        self.policy.generator.set_state(torch.from_numpy(np.array(state["generator"])))

    def close(self) -> None:
        """End the environments."""
        self.collector.close()
        self._made.close()

    def _reseed(self, seed: int) -> int:
        """Seed what the policy draws; returns the seed of the environments."""
        acting, playing = np.random.SeedSequence([seed, self.index]).generate_state(2, np.uint32)
        self.policy.generator.manual_seed(int(acting))
        return int(playing >> 1)  # below 2**31: evaluations have their seeds above


def _policy(experiment: Experiment, envs: Any, seed: np.random.SeedSequence) -> tuple[Policy, int]:
    """A policy of the same make as the learner's, and how often it wants its memory stored."""
    task = make_task(experiment, envs, torch.device("cpu"), seed)
    learner = make_learner(_acting(experiment.agent), experiment.backbone, task)
    return learner.policy, learner.state_period


def _acting(agent: AgentConfig) -> AgentConfig:
    defaults: dict[str, Any] = {f.name: f.default for f in fields(agent) if f.name in ONLY_LEARNING}
    return replace(agent, **defaults)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes with one thread inside, and so with the same rounding wherever it runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Servant:
    """Answers requests with what a worker gives, or with what went wrong; the same in every process and actor."""

    def __init__(self) -> None:
        self._worker: RolloutWorker | None = None

    def answer(self, request: str, *arguments: Any) -> dict[str, Any]:
        """`{"value": …}`, or `{"error": one sentence, "traceback": text}`; never raises for what an environment did."""
        try:
            if request == "start":
                self._worker = RolloutWorker(*arguments)
                return {"value": {"pid": os.getpid(), "host": socket.gethostname()}}
            return {"value": getattr(self._worker, request)(*arguments)}
        except Exception as error:
            sentence = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            is_env, first = isinstance(error, EnvError), error
            while isinstance(first.__cause__, Exception):
                first = first.__cause__  # what the environment itself raised
            return {"error": sentence, "is_env": is_env, "traceback": "".join(traceback.format_exception(first))}


__all__ = ["RolloutWorker", "Servant", "one_thread"]
