"""What many tests need: one thread, and a learner that practises in real environments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv
from hypothesis import settings

from triathlon.agents.agent import Metrics
from triathlon.agents.registry import make_learner
from triathlon.envs import make_envs
from triathlon.training.collector import Collector
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.evaluate import evaluate
from triathlon.training.task import make_task

# Ray would write a token into the user's home, and look for it in that of each test; a process reads it only once.
os.environ["RAY_AUTH_MODE"] = "disabled"

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests run side by side, and small networks only lose by sharing their work."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@dataclass
class Practice:
    """An experiment's environments, learner and collector, put together as the runner does, without files."""

    experiment: Experiment
    envs: VectorEnv[Any, Any, Any]
    learner: Any
    collector: Collector
    num_steps: int = 0
    metrics: list[Metrics] = field(default_factory=list)

    def play(self, num_steps: int | None = None) -> Practice:
        """Collect and learn for that many environment steps (by default the whole experiment)."""
        goal = self.experiment.total_steps if num_steps is None else self.num_steps + num_steps
        while self.num_steps < goal:
            segment = self.collector.collect(self.learner.num_rows)
            self.metrics.append(self.learner.update(segment))
            self.num_steps += segment.num_steps
        return self

    def score(self, num_episodes: int = 16) -> float:
        """The mean return of deterministic episodes."""
        envs = make_envs(self.experiment.env, num_episodes)
        try:
            return float(np.mean(evaluate(self.learner.policy, envs, num_episodes, seed=99).returns))
        finally:
            envs.close()


@pytest.fixture
def practise() -> Iterator[Callable[..., Practice]]:
    """`practise(env, agent, backbone, total_steps, seed)`, with settings as a configuration file has them."""
    made: list[Practice] = []

    def begin(
        env: dict[str, Any] | str,
        agent: dict[str, Any] | str,
        backbone: dict[str, Any] | str = "auto",
        total_steps: int = 1000,
        seed: int = 0,
        device: str = "cpu",
    ) -> Practice:
        settings = {"env": {"id": env} if isinstance(env, str) else env, "agent": agent, "backbone": backbone}
        experiment = from_mapping({**settings, "total_steps": total_steps, "seed": seed})
        envs = make_envs(experiment.env)
        task = make_task(experiment, envs, torch.device(device), np.random.SeedSequence(seed))
        learner = make_learner(experiment.agent, experiment.backbone, task)
        collector = Collector(envs, learner.policy, seed, learner.state_period)
        made.append(Practice(experiment, envs, learner, collector))
        return made[-1]

    yield begin
    for practice in made:
        practice.envs.close()
