"""What distributions draw, how they are written, and what is said when they are written wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triathlon.training.errors import RunError
from triathlon.training.tuning.distributions import Choice, Distribution, QUniform, RandInt, Uniform, parse


def draws(text: str, count: int = 400) -> list:
    distribution, rng = parse(text, "x"), np.random.default_rng(0)
    return [distribution.draw(rng) for _ in range(count)]


def test_uniform_draws_evenly() -> None:
    values = draws("uniform(0.9, 1)")
    assert min(values) >= 0.9 and max(values) <= 1.0
    assert sum(value < 0.95 for value in values) / len(values) == pytest.approx(0.5, abs=0.08)


def test_loguniform_draws_each_order_of_magnitude_alike() -> None:
    values = draws("loguniform(1e-5, 1e-2)")
    assert min(values) >= 1e-5 and max(values) <= 1e-2
    decades = [math.floor(math.log10(value)) for value in values]
    for decade in (-5, -4, -3):
        assert decades.count(decade) / len(values) == pytest.approx(1 / 3, abs=0.08)


def test_drawn_numbers_have_four_digits() -> None:
    assert all(float(f"{value:.4g}") == value for value in draws("loguniform(1e-5, 1e-2)"))


def test_whole_numbers() -> None:
    assert set(draws("randint(2, 5)")) == {2, 3, 4}
    values = draws("quniform(32, 128, 32)")
    assert set(values) == {32, 64, 96, 128} and all(type(value) is int for value in values)
    assert set(draws("quniform(0, 0.3, 0.1)")) == {0.0, 0.1, 0.2, 0.3}
    assert set(draws("quniform(3, 9, 4)")) == {4, 8}


def test_choices_are_values_of_any_sort() -> None:
    assert parse("choice(mlp, lstm)", "x") == Choice(("mlp", "lstm"))
    assert parse("choice(true, null, 1e-3, [64, 64])", "x") == Choice((True, None, 1e-3, [64, 64]))
    assert len({str(value) for value in draws("choice([64, 64], [256, 256])")}) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.9", "'0.9' is no distribution; write one of uniform(low, high)"),
        ("", "is no distribution"),
        ("loguniforn(1e-5, 1e-2)", "there is no distribution 'loguniforn' (did you mean 'loguniform'?)"),
        ("normal(0, 1)", "there is no distribution 'normal'"),
        ("uniform(1)", "1 values are given, not 2; it is written uniform(low, high)"),
        ("uniform(2, 1)", "the lower end, 2, is not below the upper one, 1"),
        ("uniform(a, 1)", "'a' is not a number"),
        ("uniform(true, 2)", "True is not a number"),
        ("uniform(0, .inf)", "inf is not a number"),
        ("loguniform(0, 1)", "the lower end is 0 but should be greater than 0"),
        ("randint(0.5, 3)", "both ends should be whole numbers"),
        ("quniform(1, 2, 0)", "there are no two multiples of 0"),
        ("quniform(1, 5, 4)", "there are no two multiples of 4 between 1 and 5"),
        ("choice(1)", "1 value leaves nothing to choose from"),
        ("choice(1, 1)", "a value stands twice"),
        ("uniform(__import__('os').getpid(), 1)", "is not a number"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(RunError) as refused:
        parse(text, "agent.gamma")
    assert said in str(refused.value)
    assert str(refused.value).startswith("--param agent.gamma=")


NUMBERS = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)
PAIRS = st.tuples(NUMBERS, NUMBERS).map(sorted).filter(lambda p: p[0] < p[1])


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    kind = draw(st.sampled_from(["uniform", "loguniform", "quniform", "randint", "choice"]))
    if kind == "randint":
        start = draw(st.integers(-1000, 1000))
        return RandInt(start, start + draw(st.integers(1, 1000)))
    if kind == "choice":
        return Choice(tuple(draw(st.lists(st.integers() | st.text("abc", min_size=1), min_size=2, unique=True))))
    if kind == "quniform":
        first, step = draw(st.integers(-100, 100)), draw(st.integers(1, 20))
        return QUniform(first, first + step * draw(st.integers(2, 20)), step)
    low, high = draw(PAIRS)
    if kind == "loguniform":
        low, high = abs(low) + 1e-3, abs(low) + abs(high) + 1.0
    return Uniform(float(low), float(high), log=kind == "loguniform")


def allowed(distribution: Distribution, value: object) -> bool:
    if isinstance(distribution, Choice):
        return value in distribution.values
    extremes = sorted(distribution.extremes())
    is_multiple = not isinstance(distribution, QUniform) or value % distribution.step == 0  # type: ignore[operator]
    return extremes[0] <= value <= extremes[-1] and is_multiple  # type: ignore[operator]


@given(distributions(), st.integers(0, 2**32))
def test_draws_and_their_neighbours_stay_within(distribution: Distribution, seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = distribution.draw(rng)
    assert allowed(distribution, value)
    for _ in range(5):
        value = distribution.perturb(value, rng)
        assert allowed(distribution, value)


@given(distributions())
def test_what_is_written_is_read_back(distribution: Distribution) -> None:
    assert parse(str(distribution), "x") == distribution


def test_a_step_is_a_fifth_of_the_value_or_to_the_neighbour() -> None:
    rng = np.random.default_rng(0)
    assert {Uniform(1e-5, 1e-2, log=True).perturb(1e-3, rng) for _ in range(20)} == {8e-4, 1.2e-3}
    assert {RandInt(1, 100).perturb(2, rng) for _ in range(20)} == {1, 3}
    assert {QUniform(32, 256, 32).perturb(64, rng) for _ in range(20)} == {32, 96}
    assert {Choice((2, 4, 8)).perturb(4, rng) for _ in range(20)} == {2, 8}
    assert {Choice((2, 4, 8)).perturb(8, rng) for _ in range(20)} == {4, 8}
