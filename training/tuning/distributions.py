"""What a setting may be while one looks for a good value: `loguniform(1e-5, 1e-2)`, read without running anything."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from triathlon.networks.errors import nearest
from triathlon.training import yaml_text
from triathlon.training.errors import RunError

# A step of population-based training: as Jaderberg et al. 2017, "Population Based Training of Neural Networks" (4.1.1).
FACTORS = (0.8, 1.2)
# How many digits of a drawn number are kept: enough to search, few enough to read and write down.
DIGITS = 4


class Distribution(Protocol):
    """The values that a setting may take."""

    def draw(self, rng: np.random.Generator) -> Any:
        """A value at random."""
        ...

    def perturb(self, value: Any, rng: np.random.Generator) -> Any:
        """A value near `value`, not beyond the ends."""
        ...

    def extremes(self) -> list[Any]:
        """Values that have to be right for all to be right: both ends, or all choices."""
        ...

    def __str__(self) -> str:
        """How it is written on a command line."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Real numbers of `[low, high]`; `log`: each order of magnitude is as likely as another."""

    low: float
    high: float
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        if self.log:
            return self.rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.rounded(rng.uniform(self.low, self.high))

    def perturb(self, value: Any, rng: np.random.Generator) -> float:
        return self.rounded(float(value) * FACTORS[rng.integers(2)])

    def extremes(self) -> list[Any]:
        return [self.low, self.high, self.rounded((self.low + self.high) / 2)]

    def __str__(self) -> str:
        return f"{'log' if self.log else ''}uniform({self.low!r}, {self.high!r})"

    def rounded(self, value: float) -> float:
        """`value` with few digits, within the ends."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class QUniform:
    """The multiples of `step` in `[low, high]`, all equally likely; whole numbers where all three are whole."""

    low: float
    high: float
    step: float

    def draw(self, rng: np.random.Generator) -> float | int:
        return self.at(rng.integers(self.first, self.last + 1))

    def perturb(self, value: Any, rng: np.random.Generator) -> float | int:
        factor = FACTORS[rng.integers(2)]
        number = round(float(value) * factor / self.step)
        if number == round(float(value) / self.step):  # 20 % is less than one step
            number += 1 if factor > 1 else -1
        return self.at(min(max(number, self.first), self.last))

    def extremes(self) -> list[Any]:
        return [self.at(self.first), self.at(self.last)]

    def __str__(self) -> str:
        return f"quniform({self.low!r}, {self.high!r}, {self.step!r})"

    @property
    def first(self) -> int:
        """The lowest value in steps."""
        return math.ceil(round(self.low / self.step, 9))

    @property
    def last(self) -> int:
        """The highest value in steps."""
        return math.floor(round(self.high / self.step, 9))

    def at(self, number: int | np.integer[Any]) -> float | int:
        """The value of so many steps."""
        value = float(f"{int(number) * self.step:.12g}")  # 3 x 0.1 is 0.3
        return int(value) if all(isinstance(x, int) for x in (self.low, self.high, self.step)) else value


@dataclass(frozen=True)
class RandInt:
    """Whole numbers from `low` to `high - 1`, as in Python's `range`."""

    low: int
    high: int

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.low, self.high))

    def perturb(self, value: Any, rng: np.random.Generator) -> int:
        factor = FACTORS[rng.integers(2)]
        number = round(int(value) * factor)
        if number == int(value):
            number += 1 if factor > 1 else -1
        return min(max(number, self.low), self.high - 1)

    def extremes(self) -> list[Any]:
        return [self.low, self.high - 1]

    def __str__(self) -> str:
        return f"randint({self.low}, {self.high})"


@dataclass(frozen=True)
class Choice:
    """One of some values of any sort; their order says which are neighbours."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[rng.integers(len(self.values))]

    def perturb(self, value: Any, rng: np.random.Generator) -> Any:
        if value not in self.values:
            return self.draw(rng)
        place = self.values.index(value) + (1 if rng.integers(2) else -1)
        return self.values[min(max(place, 0), len(self.values) - 1)]

    def extremes(self) -> list[Any]:
        return list(self.values)

    def __str__(self) -> str:
        return f"choice({', '.join(yaml_text.dump_line(value) for value in self.values)})"


SYNTAX = {
    "uniform": "uniform(low, high)",
    "loguniform": "loguniform(low, high)",
    "quniform": "quniform(low, high, step)",
    "randint": "randint(low, high)",
    "choice": "choice(a, b, …)",
}


def parse(text: str, name: str) -> Distribution:
    """The distribution that a text such as `loguniform(1e-5, 1e-2)` describes; `name` is the setting, for errors.

    Raises:
        RunError: it is none of those in `SYNTAX`, or its numbers make no sense.
    """
    found = re.fullmatch(r"\s*([\w-]*)\s*\((.*)\)\s*", text, re.DOTALL)
    if found is None:
        raise RunError(
            f"--param {name}={text}: '{text}' is no distribution; write one of {', '.join(SYNTAX.values())}, "
            f"or --{name.replace('_', '-')} {text or 'value'} for one value in all trials"
        )
    kind, inside = found[1], found[2]
    if kind not in SYNTAX:
        raise RunError(
            f"--param {name}={text}: there is no distribution '{kind}'{nearest(kind, SYNTAX)}; "
            f"write one of {', '.join(SYNTAX.values())}"
        )
    values = yaml_text.parse_value(f"[{inside}]", f"--param {name}={text}")
    try:
        return _make(kind, values)
    except ValueError as error:
        raise RunError(f"--param {name}={text}: {error}; it is written {SYNTAX[kind]}") from None


def _make(kind: str, values: list[Any]) -> Distribution:
    """The distribution; raises ValueError saying what is wrong with its numbers."""
    if kind == "choice":
        if len(values) < 2:
            raise ValueError(f"{'1 value leaves' if values else 'no value leaves'} nothing to choose from")
        if any(value in values[:i] for i, value in enumerate(values)):
            raise ValueError("a value stands twice")
        return Choice(tuple(values))
    count = 3 if kind == "quniform" else 2
    if len(values) != count:
        raise ValueError(f"{len(values)} values are given, not {count}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{value!r} is not a number")
    low, high = values[:2]
    if low >= high:
        raise ValueError(f"the lower end, {low:g}, is not below the upper one, {high:g}")
    if kind == "randint":
        if not isinstance(low, int) or not isinstance(high, int):
            raise ValueError("both ends should be whole numbers")
        return RandInt(low, high)
    if kind == "quniform":
        distribution = QUniform(low, high, values[2])
        if values[2] <= 0 or distribution.first >= distribution.last:
            raise ValueError(f"there are no two multiples of {values[2]:g} between {low:g} and {high:g}")
        return distribution
    if kind == "loguniform" and low <= 0:
        raise ValueError(f"the lower end is {low:g} but should be greater than 0")
    return Uniform(float(low), float(high), log=kind == "loguniform")


__all__ = ["FACTORS", "SYNTAX", "Choice", "Distribution", "QUniform", "RandInt", "Uniform", "parse"]
