"""Which settings of an experiment are looked for, and in what ranges; all is checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from triathlon.networks.errors import nearest
from triathlon.training import schema, yaml_text
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.errors import RunError
from triathlon.training.tuning.distributions import Distribution, parse

# The values that a trial has of the settings that are looked for, by their paths.
Settings: TypeAlias = dict[str, Any]

# What belongs to the study and not to one of its trials, or would let trials win by something else than learning.
FIXED = {
    "total_steps": "all trials have the same budget",
    "seed": "scores of different seeds differ by luck; give --seed another value to look again",
    "name": "trials are numbered",
    "root": "trials lie in the folder of the study",
    "engine": "only engine native says how good it is while it trains",
    "env.id": "scores of different environments say nothing about each other",
    "env.max_episode_steps": "longer episodes may pay more",
    "device": "it changes how fast a trial is, not how good",
    "num_threads": "it changes how fast a trial is, not how good",
    **dict.fromkeys(
        ("workers.kind", "workers.num", "workers.cpus_per_worker"), "each trial gets as much of the cluster"
    ),
}
# The same for all settings below these.
FIXED_GROUPS = {
    "evaluation": "trials are judged alike",
    "logging": "it has nothing to do with how good a trial is",
    "checkpoint": "it has nothing to do with how good a trial is",
}
RESAMPLE = 0.25  # how often a step of population-based training draws a value anew


@dataclass(frozen=True)
class Space:
    """What is tuned (an experiment as a mapping, changed by command-line arguments), and the range of each setting."""

    base: dict[str, Any]
    changes: tuple[str, ...]
    params: dict[str, Distribution]

    @classmethod
    def parse(cls, base: dict[str, Any], changes: Sequence[str], texts: Sequence[str]) -> Space:
        """The space that texts such as `agent.learning_rate=loguniform(1e-5, 1e-2)` describe.

        Raises:
            RunError: a setting is unknown (the nearest is named), fixed or given twice; a distribution is not
                understood; or a value that could be drawn is not allowed.
        """
        if not texts:
            raise RunError(
                "nothing is to be tuned; give --param agent.learning_rate='loguniform(1e-5, 1e-2)' or the like"
            )
        params: dict[str, Distribution] = {}
        known = [path for path, _, _ in schema.settings(from_mapping(base, changes))]
        for text in texts:
            name, equals, rest = text.partition("=")
            name = name.strip().removeprefix("--").replace("-", "_")
            if not equals or not name:
                raise RunError(
                    f"--param is '{text}' but should be a setting and a distribution, "
                    "such as agent.gamma=uniform(0.9, 1)"
                )
            if name in params:
                raise RunError(f"--param {name} is given twice")
            if why := FIXED.get(name) or FIXED_GROUPS.get(name.partition(".")[0]):
                raise RunError(f"--param {name}: this setting cannot be tuned: {why}")
            params[name] = parse(rest, name)
        space = cls(base, tuple(changes), params)
        space._check(known)
        return space

    def experiment(self, settings: Mapping[str, Any]) -> Experiment:
        """The experiment of a trial; raises RunError where the settings do not go together."""
        drawn = [f"--{name}={yaml_text.dump_line(value)}" for name, value in settings.items()]
        return from_mapping(self.base, [*self.changes, *drawn])

    def baseline(self) -> Settings:
        """What the experiment itself has of the settings that are looked for; those that it lacks are left out."""
        there = {path: value for path, value, _ in schema.settings(self.experiment({}))}
        return {name: schema.to_mapping(there[name]) for name in self.params if name in there}

    def draw(self, rng: np.random.Generator) -> Settings:
        """Settings at random; raises RunError where those that were drawn do not go together."""
        settings = self.fitting({name: distribution.draw(rng) for name, distribution in self.params.items()})
        self.experiment(settings)
        return settings

    def fitting(self, settings: Mapping[str, Any]) -> Settings:
        """Without what the kinds among the settings do not have: an MLP has no backbone.hidden_size."""
        kinds = {name: value for name, value in settings.items() if name.rpartition(".")[2] == "kind"}
        if not kinds:
            return dict(settings)
        there = {path for path, _, _ in schema.settings(self.experiment(kinds))}
        holders = tuple(name.removesuffix("kind") for name in kinds)
        return {name: value for name, value in settings.items() if name in there or not name.startswith(holders)}

    def perturb(self, settings: Mapping[str, Any], rng: np.random.Generator) -> Settings:
        """Settings near those of a good trial: each is moved a step, or, one time in four, drawn anew."""
        moved: Settings = {}
        for name, distribution in self.params.items():
            value = settings.get(name)
            is_choice = any(value == other for other in distribution.extremes())
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if rng.random() < RESAMPLE or not (is_choice or is_number):
                moved[name] = distribution.draw(rng)
            else:
                moved[name] = distribution.perturb(value, rng)
        return moved

    def texts(self) -> list[str]:
        """What `parse` reads."""
        return [f"{name}={distribution}" for name, distribution in self.params.items()]

    def _check(self, known: Sequence[str]) -> None:
        """Try the ends of each range with everything else as it stands, after the kinds that are looked for."""
        kinds = {name: d for name, d in self.params.items() if name.rpartition(".")[2] == "kind"}
        for name, distribution in self.params.items():
            problem: RunError | None = None
            for value in distribution.extremes():
                # A setting of one kind only (backbone.hidden_size) is right if it is right with some kind looked for.
                holder = name.rpartition(".")[0] + ".kind"
                others = kinds[holder].extremes() if holder in kinds and holder != name else [None]
                for other in others:
                    try:
                        self.experiment({**({} if other is None else {holder: other}), name: value})
                        problem = None
                        break
                    except RunError as error:
                        problem = error
                if problem is not None:
                    raise RunError(f"--param {name}={distribution}: {problem}{_nearest(name, known, str(problem))}")


def _nearest(name: str, known: Sequence[str], said: str) -> str:
    """The end of a sentence about a setting that does not exist: the nearest path, unless one was said already."""
    if "is not a setting" not in said or "did you mean" in said:
        return ""
    last = name.rpartition(".")[2]
    same = [path for path in known if path.rpartition(".")[2] == last]
    return f" (did you mean '{same[0]}'?)" if same else nearest(name, known)


__all__ = ["FIXED", "Settings", "Space"]
