"""Measures a configuration on this machine: how its time splits, what each part reaches alone, and what a change gains.

T rows in time, B environments; a step is one decision in one of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.agents.segment import Segment
from triathlon.envs.errors import EnvError
from triathlon.networks.backbone import map_obs
from triathlon.networks.errors import SettingError
from triathlon.training import config
from triathlon.training.bottleneck import Bottleneck, Change, load
from triathlon.training.config import EvaluationConfig, Experiment, LoggingConfig
from triathlon.training.errors import RunError
from triathlon.training.runner import Run
from triathlon.training.schema import to_mapping
from triathlon.training.stopwatch import REST, Phase
from triathlon.training.workers.config import WorkersConfig

# Rows that acting and learning alone go through again and again.
KEPT_ROWS = 64
WORTH_IT = 1.05  # a change that gains less is noise
# What is played without the metric `loss` before the doctor gives up. A replay can sample once it has the rows of one
# sequence, some hundred at most; an agent of somebody's own may begin to learn after so many steps.
MOST_ROWS, MOST_STEPS = 2_000, 20_000


@dataclass(frozen=True)
class Trial:
    """A change that was tried: environment steps per second with it, or why it cannot be made."""

    change: Change
    rate: float | None
    refusal: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found. Rates are environment steps per second."""

    bottleneck: Bottleneck
    stepping: float
    """Random legal actions, no policy."""
    acting: float
    """The policy on observations of the run, no environments."""
    learning: float
    """Updates on experience of the run, no environments."""
    load: float
    """Of the machine, before the measurements."""
    trials: list[Trial] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Of the configuration as it runs."""
        return self.bottleneck.num_steps / self.bottleneck.total

    @property
    def limit(self) -> float:
        """If the three followed one another with nothing between them."""
        return 1.0 / (1.0 / self.stepping + 1.0 / self.acting + 1.0 / self.learning)

    @property
    def overlapped_limit(self) -> float:
        """If the three went on at the same time without being in each other's way."""
        return min(self.stepping, self.acting, self.learning)

    @property
    def is_doubtful(self) -> bool:
        """Do the measurements contradict each other? No run is faster than its parts one after another."""
        return self.rate > 1.2 * self.limit

    @property
    def best(self) -> Trial | None:
        """The trial that gained most, if one gained anything; one that leaves learning as it is comes first."""
        gained = [trial for trial in self.trials if (trial.rate or 0.0) > WORTH_IT * self.rate]
        return max(gained, key=lambda trial: (trial.change.only_speed, trial.rate or 0.0), default=None)


def diagnose(
    experiment: Experiment,
    seconds: float = 3.0,
    num_trials: int = 2,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Diagnosis:
    """Measure a configuration in one process, whatever workers it asks for; nothing is written.

    Each measurement follows a warm-up and takes at least `seconds`, and at least one whole rollout with its update.
    `on_stage` is told what is going on.

    Raises:
        SettingError, EnvError, RunError: the settings or the environment are at fault.
    """
    before = load()
    with _run(experiment) as run:
        on_stage("the run as it is")
        _warm_up(run, seconds)
        bottleneck = _play(run, seconds)
        on_stage("stepping alone")
        stepping = _step_alone(run, seconds)
        segments = _experience(run)
        on_stage("acting alone")
        acting = _act_alone(run, segments, seconds)
        on_stage("learning alone")
        learning = _learn_alone(run, segments, seconds)
    diagnosis = Diagnosis(bottleneck, stepping, acting, learning, before)
    for change in bottleneck.changes()[:num_trials]:
        on_stage(f"with {change.settings_text}")
        diagnosis.trials.append(_try(experiment, change, seconds))
    return diagnosis


def _try(experiment: Experiment, change: Change, seconds: float) -> Trial:
    arguments = [f"--{path}={value}" for path, value in change.settings.items()]
    try:
        with _run(config.from_mapping(to_mapping(experiment), arguments)) as run:
            _warm_up(run, seconds)
            found = _play(run, seconds)
    except (SettingError, EnvError, RunError) as error:
        return Trial(change, None, str(error))
    return Trial(change, found.num_steps / found.total)


@contextmanager
def _run(experiment: Experiment) -> Iterator[Run]:
    """The run of an experiment, made as always, that learns from the first step on and writes nothing."""
    if experiment.engine != "native":
        raise RunError(f"engine is {experiment.engine}, but the doctor measures engine: native only")
    agent: Any = experiment.agent
    if hasattr(agent, "learning_starts"):
        agent = replace(agent, learning_starts=0)
    quiet = replace(
        experiment,
        agent=agent,
        workers=WorkersConfig(),  # what one process can do
        logging=LoggingConfig(tensorboard=False, csv=False, histograms=False),
        evaluation=EvaluationConfig(final_episodes=0, video=False),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(quiet, Path(folder))
        try:
            # Advice is about the settings as they were given.
            run.experiment = experiment
            yield run
        finally:
            run.close()


def _warm_up(run: Run, seconds: float) -> None:
    """Play until what is done once (compiling, filling caches, the first samples of a replay) is done.

    Raises:
        RunError: the agent plays on and on without learning.
    """
    started, has_learned = time.perf_counter(), False
    num_rows = num_steps = 0
    while not has_learned or time.perf_counter() - started < seconds / 3:
        segment = run.collector.collect(run.learner.num_rows)
        has_learned |= "loss" in run.learner.update(segment)
        num_rows, num_steps = num_rows + segment.num_rows, num_steps + segment.num_steps
        if not has_learned and num_rows >= MOST_ROWS and num_steps >= MOST_STEPS:
            raise RunError(
                f"agent.kind {run.experiment.agent.kind} has not learned from {num_steps:,} steps: its learner's "
                "update() gave no metric 'loss', which the doctor waits for"
            )
    _synchronize(run)


def _play(run: Run, seconds: float) -> Bottleneck:
    """Collect and learn as the run does, and say where the time went."""
    learner, collector, stopwatch = run.learner, run.collector, run.collector.stopwatch
    num_steps, started = 0, time.perf_counter()
    stopwatch.restart()
    while time.perf_counter() - started < seconds:
        segment = collector.collect(learner.num_rows)
        learner.update(segment)
        _synchronize(run)
        stopwatch.lap("learning")
        num_steps += segment.num_steps
        collector.take_episodes()
        stopwatch.lap(REST)
    spent = dict(stopwatch.seconds)
    if run.device.type == "cuda":
        _take_out_transfer(run, spent, num_steps)
    return Bottleneck(run.situation(), spent, num_steps)


def _take_out_transfer(run: Run, spent: dict[Phase, float], num_steps: int) -> None:
    """Copies between host and GPU, profiled in a little more of the run, become a phase of their own."""
    with _Copies() as acting:
        segments = _experience(run, restart=False)
    with _Copies() as learning:
        for segment in segments:
            run.learner.update(segment)
        _synchronize(run)
    profiled = sum(segment.num_steps for segment in segments)
    phases: tuple[tuple[Phase, _Copies], ...] = (("acting", acting), ("learning", learning))
    for phase, copies in phases:
        seconds = min(copies.seconds / max(1, profiled) * num_steps, spent[phase])
        spent[phase] -= seconds
        spent["transfer"] += seconds


class _Copies:
    """Counts the seconds that the GPU spends on copies from and to the host while it is entered."""

    def __enter__(self) -> _Copies:
        self._profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
        self._profile.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        torch.cuda.synchronize()
        self._profile.__exit__(None, None, None)
        copies = [
            event for event in self._profile.events() or () if event.name.startswith(("Memcpy HtoD", "Memcpy DtoH"))
        ]
        self.seconds = sum(event.time_range.elapsed_us() for event in copies) * 1e-6


def _step_alone(run: Run, seconds: float) -> float:
    """Random legal actions; drawing them is not counted."""
    envs, generator = run.envs[0], np.random.default_rng(run.experiment.seed)
    envs.action_space.seed(run.experiment.seed)
    _, info = envs.reset(seed=run.experiment.seed)
    done, spent, num_steps = np.zeros(envs.num_envs, bool), 0.0, 0
    for counts in (False, True):  # the first third warms up
        started = time.perf_counter()
        while time.perf_counter() - started < (seconds if counts else seconds / 3):
            action = random_action(envs.single_action_space, envs.action_space, info.get("action_mask"), generator)
            before = time.perf_counter()
            _, _, terminated, truncated, info = envs.step(action)
            if counts:
                spent += time.perf_counter() - before
                num_steps += int((~done).sum())
            done = np.logical_or(terminated, truncated)
    return num_steps / spent


def random_action(
    single: spaces.Space[Any], batched: spaces.Space[Any], mask: NDArray[Any] | None, generator: np.random.Generator
) -> NDArray[Any]:
    """A uniformly drawn action for each of B environments that its mask (`[B, A]`; None: all) allows."""
    action: NDArray[Any] = np.asarray(batched.sample())
    if mask is None:
        return action
    lots = generator.random(np.shape(mask)) + np.asarray(mask, bool)  # a legal one always wins
    if isinstance(single, spaces.Discrete):
        return np.asarray(lots.argmax(-1) + single.start)
    if isinstance(single, spaces.MultiDiscrete):
        groups = np.split(lots, np.cumsum(single.nvec.reshape(-1))[:-1], axis=-1)
        chosen = np.stack([group.argmax(-1) for group in groups], -1)
        return np.asarray(chosen.reshape(action.shape) + single.start)
    if isinstance(single, spaces.MultiBinary):
        return np.asarray(action * np.asarray(mask, bool).reshape(action.shape))
    return action


def _experience(run: Run, restart: bool = True) -> list[Segment]:
    """A few segments that follow one another, from the beginning of episodes."""
    if restart:
        run.collector.restart(run.experiment.seed)
    segments: list[Segment] = []
    while sum(segment.num_rows for segment in segments) < KEPT_ROWS:
        segments.append(run.collector.collect(run.learner.num_rows))
    run.collector.take_episodes()
    return segments


def _act_alone(run: Run, segments: list[Segment], seconds: float) -> float:
    """Ask the policy about rows that were seen, and fetch what it decided."""
    policy, state = run.learner.policy, run.learner.policy.initial_state(run.task.num_envs)
    num_steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for segment in segments:
            for t in range(segment.num_rows):
                row = map_obs(lambda x: x[t], segment.obs)  # noqa: B023 (used at once)
                legal = None if segment.legal is None else segment.legal[t]
                decision = policy.act(row, state, segment.is_first[t], legal)
                state = decision.state
                for value in decision.extras.values():
                    value.numpy(force=True)
                policy.env_action(decision.action.numpy(force=True))
            num_steps += segment.num_steps
    return num_steps / (time.perf_counter() - started)


def _learn_alone(run: Run, segments: list[Segment], seconds: float) -> float:
    """Update on the same segments again and again, each time from the weights that played them."""
    learner, spent, num_steps = run.learner, 0.0, 0
    weights = learner.policy.weights()
    while spent < seconds:
        # Else importance ratios and the KL divergence (target_kl ends an update early) would drift out of all use.
        learner.policy.load_weights(weights)
        for segment in segments:
            fresh = replace(segment, reward=segment.reward.clone())  # reward scaling writes into it
            _synchronize(run)
            started = time.perf_counter()
            learner.update(fresh)
            _synchronize(run)
            spent += time.perf_counter() - started
            num_steps += segment.num_steps
    return num_steps / spent


def _synchronize(run: Run) -> None:
    """Wait for what a GPU has been asked to do."""
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    elif run.device.type == "mps":
        torch.mps.synchronize()


__all__ = ["Diagnosis", "Trial", "diagnose", "random_action"]
