"""Which part of a run binds, and which setting to change about it.

B environments step together; a step is one decision in one of them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from triathlon.agents.agent import Learner
from triathlon.agents.registry import Task
from triathlon.envs.atari import AtariEnvs
from triathlon.envs.lookup import find
from triathlon.networks.spaces import num_pixels
from triathlon.training.config import Experiment
from triathlon.training.machine import SMALL_PICTURE, has_bfloat16, is_small, num_cores
from triathlon.training.stopwatch import Phase, shares

Stepping: TypeAlias = Literal["atari", "own", "sync", "process"]
# What a message to another process and back costs: below that, processes are slower than one after another.
PIPE_SECONDS = 100e-6
# What compiling takes; it has to be won back.
COMPILE_SECONDS = 30.0


def load() -> float:
    """Processes and threads that wanted to run in the last minute, on average; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@dataclass(frozen=True)
class Situation:
    """What advice depends on, as it was found: the machine, the network and the environments."""

    experiment: Experiment
    device: torch.device
    precision: torch.dtype
    num_threads: int  # of PyTorch
    num_parameters: int
    num_pixels: int  # of the largest picture in an observation
    compiles: bool  # the gradient step
    can_compile: bool
    stepping: Stepping  # atari: ALE's threads; own: the environment's own vector version
    num_cores: int = field(default_factory=num_cores)
    has_gpu: bool = field(default_factory=torch.cuda.is_available)
    load: float = field(default_factory=load)
    cpu_has_bfloat16: bool = field(default_factory=lambda: has_bfloat16(torch.device("cpu")))

    @property
    def is_small(self) -> bool:
        """Are single operations so short that what surrounds them costs more?"""
        return is_small(self.num_parameters, self.num_pixels)


def situation(experiment: Experiment, task: Task, learner: Learner, envs: VectorEnv[Any, Any, Any]) -> Situation:
    """The situation of a run, from what it was made of."""
    return Situation(
        experiment=experiment,
        device=task.device,
        precision=task.precision,
        num_threads=torch.get_num_threads(),
        num_parameters=learner.policy.weights().numel(),
        num_pixels=num_pixels(task.observation_space),
        compiles=learner.step.compiles,
        can_compile=learner.step.can_compile,
        stepping=_stepping(envs),
    )


def _stepping(envs: VectorEnv[Any, Any, Any]) -> Stepping:
    layer: Any = envs
    while layer is not None:
        if isinstance(layer, AtariEnvs):
            return "atari"
        if isinstance(layer, SyncVectorEnv | AsyncVectorEnv):
            return "sync" if isinstance(layer, SyncVectorEnv) else "process"
        layer = getattr(layer, "env", None)
    return "own"


@dataclass(frozen=True)
class Change:
    """Settings to change, by their dotted path, and why."""

    settings: dict[str, Any]
    why: str
    only_speed: bool = True  # else it also changes what is learned from how many steps

    @property
    def settings_text(self) -> str:
        """As they would stand in a configuration."""
        shown = {key: str(value).lower() if isinstance(value, bool) else value for key, value in self.settings.items()}
        return " and ".join(f"{key}: {value}" for key, value in shown.items())

    def __str__(self) -> str:
        caution = "" if self.only_speed else " (this changes what is learned, too: compare scores)"
        return f"{self.settings_text}, since {self.why}{caution}"


@dataclass(frozen=True)
class Bottleneck:
    """Where the time of some environment steps went: seconds by phase."""

    situation: Situation
    seconds: dict[Phase, float]
    num_steps: int

    @property
    def total(self) -> float:
        """Seconds of all phases."""
        return sum(self.seconds.values())

    @property
    def binds(self) -> Phase:
        """The phase that took most."""
        return max(self.seconds, key=lambda phase: self.seconds[phase])

    def a_step(self, phase: Phase | None = None) -> float:
        """Seconds that a phase (or everything) takes for each environment step."""
        return (self.total if phase is None else self.seconds[phase]) / max(1, self.num_steps)

    def changes(self) -> list[Change]:
        """What could make the phase that binds shorter, the most promising first, what only changes speed before."""
        found = {
            "stepping": self._about_stepping,
            "acting": self._about_acting,
            "transfer": self._about_transfer,
            "learning": self._about_learning,
        }.get(self.binds, self._about_the_rest)()
        return sorted(found, key=lambda change: not change.only_speed)

    def advice(self) -> str:
        """One sentence: what to change, or that there is nothing to change."""
        changes = self.changes()
        return f"{changes[0]}." if changes else self.nothing_to_change()

    def nothing_to_change(self) -> str:
        """What remains where no setting helps."""
        about, cores = self.situation, count(self.situation.num_cores, "core")
        cost = f"{duration(self.a_step(self.binds))} a step"
        left = {
            "stepping": f"the environment itself takes {cost} on {cores}: a faster one, or more cores, would help",
            "acting": f"the policy takes {cost}: a smaller backbone would help",
            "learning": f"an update takes {cost}: a smaller backbone{'' if about.has_gpu else ' or a GPU'} would help",
        }.get(self.binds, f"{self.binds} takes {cost}")
        return f"no setting makes this shorter; {left}."

    def summary(self) -> str:
        """Three lines: how the time splits, what binds, and what to try."""
        order = sorted(self.seconds, key=lambda phase: -self.seconds[phase])
        share = shares(self.seconds)
        split = ", ".join(f"{phase} {share[phase]:.0%}" for phase in order if share[phase] >= 0.005)
        cost = f"{duration(self.a_step(self.binds))} of the {duration(self.a_step())} that a step takes"
        return f"Time:   {split}\nBinds:  {self.binds}, {cost}\nTry:    {self.advice()}"

    # --- advice, a phase each -----------------------------------------------------------------------------------------

    def _about_stepping(self) -> Iterator[Change]:
        about, env = self.situation, self.situation.experiment.env
        cores, cost = about.num_cores, self.a_step("stepping")
        if about.stepping == "atari":
            assert env.atari is not None
            if 0 < env.atari.num_threads < min(cores, env.num_envs):
                why = f"{env.atari.num_threads} of {count(cores, 'core')} step the games"
                yield Change({"env.atari.num_threads": 0}, why)
            if env.num_envs < 4 * cores:
                yield self._more_envs(f"{env.num_envs} games wait for the slowest of them at every step")
        elif about.stepping == "sync":
            if env.vectorization == "sync" and find(env.id).vector_entry_point is not None and not env.wrappers:
                yield Change({"env.vectorization": "auto"}, f"{env.id} has a vector version of its own")
            if cores > 1 and env.num_envs > 1 and cost > 2 * PIPE_SECONDS:
                why = f"{env.num_envs} environments step one after another, {duration(cost)} each, with {cores} cores"
                yield Change({"env.vectorization": "process"}, why)
        elif about.stepping == "process":
            if env.num_envs < 2 * cores:
                yield self._more_envs(f"{env.num_envs} processes cannot keep {count(cores, 'core')} busy")
            if cost * min(env.num_envs, cores) < 4 * PIPE_SECONDS:  # the most that one step in one process can take
                yield Change({"env.vectorization": "sync"}, "a step costs about as much as the message to its process")
        else:
            yield self._more_envs(f"{env.num_envs} environments share the cost of a call")

    def _about_acting(self) -> Iterator[Change]:
        about = self.situation
        yield from self._about_launches()
        if about.device.type != "cpu" and about.is_small:
            yield Change({"device": "cpu"}, f"a network of {about.num_parameters:,} numbers does not need a GPU")
        yield from self._about_arithmetic()
        yield self._more_envs(
            f"a call of the policy for {about.experiment.env.num_envs} costs about as much as for more"
        )

    def _about_learning(self) -> Iterator[Change]:
        about, agent = self.situation, self.situation.experiment.agent
        yield from self._about_launches()
        yield from self._about_arithmetic()
        in_all = self.a_step("learning") * about.experiment.total_steps
        if getattr(agent, "compile", None) is False and about.can_compile and in_all > 2 * COMPILE_SECONDS:
            why = f"updates take {duration(in_all)} of the whole run and compiling them half a minute, once"
            yield Change({"agent.compile": True}, why)
        epochs, size = getattr(agent, "num_epochs", 1), getattr(agent, "batch_size", 0)
        rollout = getattr(agent, "num_steps", 0) * about.experiment.env.num_envs
        if 2 * size <= rollout:
            why = f"a rollout of {rollout:,} steps is cut into {epochs} × {rollout // size} minibatches"
            yield Change({"agent.batch_size": 2 * size}, why, only_speed=False)
        if epochs > 1:
            why = f"each step is learned from {epochs} times"
            yield Change({"agent.num_epochs": epochs // 2}, why, only_speed=False)
        if (updates := getattr(agent, "gradient_steps", 1)) > 1:
            yield Change({"agent.gradient_steps": updates // 2}, f"a round has {updates} updates", only_speed=False)
        elif (period := getattr(agent, "train_period", 0)) > 0:
            why = f"there is an update of {size} samples for every {period} steps"
            yield Change({"agent.train_period": 2 * period}, why, only_speed=False)

    def _about_launches(self) -> Iterator[Change]:
        about = self.situation
        if about.device.type == "cuda" and not about.is_small and not about.experiment.agent.cuda_graphs:
            yield Change({"agent.cuda_graphs": True}, "the GPU waits for kernels that are launched one by one")

    def _about_arithmetic(self) -> Iterator[Change]:
        """What makes the network's arithmetic faster."""
        about = self.situation
        is_busy = about.load > 1.5 * about.num_cores  # more than this run itself makes it
        if about.device.type == "cpu" and about.has_gpu and not about.is_small:
            yield Change({"device": "cuda"}, "this machine has a GPU")
        if about.device.type != "cpu":
            return
        if about.num_threads > 1 and (is_busy or about.is_small):
            others = f"other programs keep the cores busy (load {about.load:.1f})"
            why = others if is_busy else "operations are small"
            yield Change({"num_threads": 1}, f"{why} and {about.num_threads} threads wait for each other")
        sees, in_float32 = about.num_pixels >= SMALL_PICTURE, about.precision == torch.float32
        if sees and in_float32 and about.cpu_has_bfloat16:
            yield Change({"precision": "bfloat16"}, "this CPU multiplies bfloat16 faster than float32")
        if about.num_threads < about.num_cores and not about.is_small and not is_busy:
            why = f"PyTorch uses {about.num_threads} of {count(about.num_cores, 'core')}"
            yield Change({"num_threads": about.num_cores}, why)

    def _about_transfer(self) -> Iterator[Change]:
        about = self.situation
        if about.is_small:
            yield Change({"device": "cpu"}, f"a network of {about.num_parameters:,} numbers does not need a GPU")
        yield self._more_envs(f"a copy for {about.experiment.env.num_envs} takes about as long as one for more")

    def _about_the_rest(self) -> Iterator[Change]:
        config = self.situation.experiment
        if self.binds == "logging":
            why = f"metrics are written every {config.logging.period:,} steps"
            yield Change({"logging.period": 10 * config.logging.period}, why)
        elif self.binds == "evaluation" and config.evaluation.period:
            num_episodes, period = config.evaluation.num_episodes, config.evaluation.period
            why = f"{count(num_episodes, 'episode')} are played every {period:,} steps"
            yield Change({"evaluation.period": 5 * period}, why)
        elif self.binds == "checkpoints":
            if config.checkpoint.replay and hasattr(config.agent, "buffer_size"):
                why = "checkpoints hold the whole replay (a resumed run then begins with an empty one)"
                yield Change({"checkpoint.replay": False}, why)
            elif config.checkpoint.period:
                why = f"a checkpoint is written every {config.checkpoint.period:,} steps"
                yield Change({"checkpoint.period": 5 * config.checkpoint.period}, why)
        elif self.binds == "the rest":
            yield self._more_envs("a row costs about the same for any number of environments")

    def _more_envs(self, why: str) -> Change:
        """Twice as many environments; rollouts keep their size where they can."""
        config = self.situation.experiment
        changed: dict[str, Any] = {"env.num_envs": 2 * config.env.num_envs}
        if config.workers.envs_per_worker is not None:  # then nothing reads env.num_envs
            changed = {"workers.envs_per_worker": 2 * config.workers.envs_per_worker}
        rows, segment = getattr(config.agent, "num_steps", 1), getattr(config.agent, "segment_length", None)
        if rows % (2 * (segment or 1)) == 0:
            changed["agent.num_steps"] = rows // 2
        return Change(changed, why, only_speed=False)


def device_name(device: torch.device) -> str:
    """What the maker calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or os.name


def duration(seconds: float) -> str:
    """Three digits and a unit from nanoseconds to hours."""
    for unit, scale in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            value = seconds / scale
            return f"{value:.{0 if value >= 100 else 1}f} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def rate(steps_per_second: float) -> str:
    """`9,969` or `4.2`."""
    return f"{steps_per_second:,.{0 if steps_per_second >= 100 else 1}f}"


def count(number: int, noun: str) -> str:
    """`1 core`, `2 cores`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


__all__ = ["Bottleneck", "Change", "Situation", "count", "device_name", "duration", "load", "rate", "situation"]
