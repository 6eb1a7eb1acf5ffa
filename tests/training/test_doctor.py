"""Where the time goes, what binds, what is advised. Of timings only which of very unequal phases is the longest."""

from __future__ import annotations

import csv
import functools
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from hypothesis import given
from hypothesis import strategies as st

from triathlon.agents import registry
from triathlon.agents.agent import Metrics
from triathlon.agents.pqn import PQN
from triathlon.agents.segment import Segment
from triathlon.training.bottleneck import Bottleneck, Change, Situation, duration
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.doctor import Diagnosis, Trial, diagnose, random_action
from triathlon.training.errors import RunError
from triathlon.training.machine import num_cores
from triathlon.training.runner import train
from triathlon.training.schema import to_mapping
from triathlon.training.stopwatch import PHASES, REST, Phase, Stopwatch, shares

MLP = {"kind": "mlp", "hidden_sizes": [8]}
PPO = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 2}
CARTPOLE = {"id": "CartPole-v1", "num_envs": 4}
QUIET = {"final_episodes": 0, "video": False}


def experiment(**settings: Any) -> Experiment:
    given = {"env": CARTPOLE, "agent": PPO, "backbone": MLP, "total_steps": 400, "num_threads": 1, "device": "cpu"}
    return from_mapping(given | settings)


# --- the stopwatch ---------------------------------------------------------------------------------------------------


def test_a_lap_takes_all_the_time_since_the_last() -> None:
    before = time.perf_counter()
    stopwatch = Stopwatch()
    for _ in range(3):
        stopwatch.lap("acting")
        time.sleep(0.02)
        stopwatch.lap("stepping")
    assert 0.06 <= stopwatch.seconds["stepping"] <= sum(stopwatch.seconds.values()) <= time.perf_counter() - before
    stopwatch.restart()
    assert set(stopwatch.seconds) == set(PHASES) and set(stopwatch.seconds.values()) == {0.0}


def test_shares_of_all_and_of_what_came_since() -> None:
    seconds: dict[Phase, float] = {"stepping": 3.0, "acting": 1.0, REST: 0.0}
    assert shares(seconds) == {"stepping": 0.75, "acting": 0.25, REST: 0.0}
    assert shares(seconds, before={"stepping": 2.5, "acting": 1.0, REST: 0.0}) == {
        "stepping": 1.0,
        "acting": 0.0,
        REST: 0.0,
    }
    assert shares(seconds, before=seconds) == {"stepping": 0.0, "acting": 0.0, REST: 0.0}


def test_all_the_time_of_a_run_is_in_its_phases(tmp_path: Path) -> None:
    evaluation = {"period": 100, "num_episodes": 2} | QUIET
    started = time.perf_counter()
    result = train(experiment(evaluation=evaluation, logging={"period": 100}), tmp_path)
    wall = time.perf_counter() - started
    found = result.bottleneck
    assert sum(shares(found.seconds).values()) == pytest.approx(1.0)
    assert result.seconds < found.total < wall
    assert found.num_steps == result.num_steps
    took = {phase for phase, seconds in found.seconds.items() if seconds > 0.0}
    assert took == set(PHASES) - {"transfer"}
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text().splitlines()))
    split = [[float(row[f"time/share_{phase}"]) for phase in ("stepping", "acting", "learning")] for row in rows[:1]]
    assert split and all(min(row) > 0.0 and sum(row) < 1.0 for row in split)


def test_a_run_that_goes_on_counts_its_own_steps(tmp_path: Path) -> None:
    first = train(experiment(evaluation=QUIET), tmp_path)
    again = train(experiment(evaluation=QUIET, total_steps=600), tmp_path, resume=True)
    assert again.bottleneck.num_steps == again.num_steps - first.num_steps > 0


# --- what binds ------------------------------------------------------------------------------------------------------

SLOW = """
import time
from gymnasium.envs.classic_control import CartPoleEnv
class Slow(CartPoleEnv):
    def step(self, action):
        time.sleep(0.005)
        return super().step(action)
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An environment that sleeps 5 ms at every step, many times what all else takes."""
    (tmp_path / "my_slow_env.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    return {"id": "my_slow_env:Slow", "num_envs": 4}


def test_slow_environments_bind_and_processes_help(slow: dict[str, Any], tmp_path: Path) -> None:
    found = diagnose(experiment(env=slow, agent=PPO | {"num_steps": 8}), seconds=0.1, num_trials=0)
    assert found.bottleneck.binds == "stepping"
    assert found.overlapped_limit == found.stepping
    many_cores = replace(found.bottleneck, situation=replace(found.bottleneck.situation, num_cores=8))
    assert many_cores.advice().startswith("env.vectorization: process, since 4 environments step one after another")
    assert "with 8 cores" in many_cores.summary().splitlines()[2]
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.name != "__pycache__") == [".py"]


@pytest.mark.skipif(num_cores() < 2, reason="processes are not advised on one core")
def test_what_is_advised_is_tried(slow: dict[str, Any]) -> None:
    stages: list[str] = []
    found = diagnose(
        experiment(env=slow, agent=PPO | {"num_steps": 8}), seconds=0.1, num_trials=1, on_stage=stages.append
    )
    assert found.best is not None and found.best.change.settings == {"env.vectorization": "process"}
    assert stages[0] == "the run as it is" and stages[-1] == "with env.vectorization: process"


def test_a_huge_network_binds_learning() -> None:
    agent = PPO | {"num_epochs": 4, "batch_size": 8}
    found = diagnose(experiment(agent=agent, backbone={"kind": "mlp", "hidden_sizes": [512, 512]}), 0.1, 0)
    assert found.bottleneck.binds == "learning"
    assert found.overlapped_limit == found.learning
    assert found.bottleneck.summary().splitlines()[1].startswith("Binds:  learning, ")


LSTM = {"kind": "lstm", "hidden_size": 8, "encoder": MLP}
DQN = {"kind": "dqn", "batch_size": 16, "buffer_size": 300, "learning_starts": 100_000, "normalize_reward": True}
KINDS = {
    "ppo-target-kl": (PPO | {"target_kl": 1e-9, "normalize_reward": True}, MLP),
    "ppo-lstm": (PPO, LSTM),
    "dqn": (DQN | {"prioritized": True, "n_step": 3}, MLP),
    "r2d2": (DQN | {"segment_length": 4, "burn_in": 2}, LSTM),
    "pqn": ({"kind": "pqn", "num_steps": 8, "batch_size": 32}, MLP | {"layer_norm": True}),
}


@pytest.mark.parametrize(("agent", "backbone"), KINDS.values(), ids=KINDS)
def test_every_agent_is_measured(agent: dict[str, Any], backbone: dict[str, Any]) -> None:
    found = diagnose(experiment(agent=agent, backbone=backbone), seconds=0.02, num_trials=0)
    for rate in (found.rate, found.stepping, found.acting, found.learning, found.limit):
        assert 0.0 < rate < math.inf
    seconds = found.bottleneck.seconds
    assert all(seconds[phase] > 0.0 for phase in ("stepping", "acting", "learning"))


class Nameless(PQN):
    """An agent of somebody's own, which calls its loss something else."""

    num_updates = 0

    def update(self, segment: Segment) -> Metrics:
        self.num_updates += 1
        assert self.num_updates < 100, "it is waited for without end"
        return {"cost" if name == "loss" else name: value for name, value in super().update(segment).items()}


def test_an_agent_that_tells_no_loss_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._KINDS, "nameless", f"{__name__}:Nameless")
    agent = {"kind": "nameless", "num_steps": 128, "batch_size": 2_048, "num_epochs": 1}
    with pytest.raises(RunError, match=r"nameless has not learned from 20,\d{3} steps: .* gave no metric 'loss'"):
        diagnose(experiment(agent=agent, env=CARTPOLE | {"num_envs": 8}), seconds=0.02, num_trials=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_copies_are_a_phase_of_their_own() -> None:
    found = diagnose(experiment(device="cuda"), seconds=0.2, num_trials=0)
    assert found.bottleneck.seconds["transfer"] > 0.0
    assert all(found.bottleneck.seconds[phase] > 0.0 for phase in ("stepping", "acting", "learning"))


def test_limits_rates_and_the_best_trial() -> None:
    spent = bottleneck("learning", 0.5, experiment(), num_steps=1_000)
    found = Diagnosis(spent, stepping=3_000.0, acting=6_000.0, learning=2_000.0, load=0.0)
    assert found.limit == pytest.approx(1_000.0) and found.overlapped_limit == 2_000.0
    assert found.rate == pytest.approx(2_000.0) and found.best is None
    assert found.is_doubtful  # twice as fast as its parts
    assert not replace(found, acting=12_000.0, learning=8_000.0).is_doubtful  # 1,846 against 2,000 is noise
    gentle, bold = Change({"num_threads": 2}, "a"), Change({"env.num_envs": 8}, "b", only_speed=False)
    for trials, best in (
        ([Trial(gentle, 2_050.0)], None),  # within the noise
        ([Trial(gentle, None, "refused")], None),
        ([Trial(bold, 9_000.0), Trial(gentle, 3_000.0)], gentle),  # what changes learning comes second
        ([Trial(bold, 9_000.0), Trial(gentle, 2_000.0)], bold),
    ):
        chosen = replace(found, trials=trials).best
        assert (chosen and chosen.change) is best


# --- advice ----------------------------------------------------------------------------------------------------------


def bottleneck(phase: Phase, a_step: float, config: Experiment, num_steps: int = 10, **about: Any) -> Bottleneck:
    """`phase` takes `a_step` seconds a step (or half a second in all), everything else nothing."""
    facts: dict[str, Any] = {
        "device": torch.device("cpu"),
        "precision": torch.float32,
        "num_threads": 1,
        "num_parameters": 9_000,
        "num_pixels": 0,
        "compiles": False,
        "can_compile": True,
        "stepping": "own",
        "num_cores": 4,
        "has_gpu": False,
        "load": 2.0,
        "cpu_has_bfloat16": False,
    }
    seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
    seconds[phase] = a_step if num_steps == 1_000 else a_step * num_steps
    return Bottleneck(Situation(experiment=config, **(facts | about)), seconds, num_steps)


def choosing(**settings: Any) -> Experiment:
    """Device and threads are left to the platform."""
    return experiment(**({"device": "auto", "num_threads": None} | settings))


SHORT, LONG = choosing(), choosing(total_steps=10_000_000)
PONG = choosing(env={"id": "ALE/Pong-v5", "num_envs": 8, "atari": {"num_threads": 1}})
PONG_WIDE = choosing(env={"id": "ALE/Pong-v5", "num_envs": 64})
CHOSEN_SYNC = choosing(env=CARTPOLE | {"vectorization": "sync"})
REPLAY = choosing(agent={"kind": "dqn", "train_period": 4, "batch_size": 16})
EVALUATED = choosing(evaluation={"period": 100})
BY_WORKER = choosing(env={"id": "CartPole-v1"}, workers={"num": 2, "envs_per_worker": 2, "kind": "process"})
PICTURES = {"num_pixels": 84 * 84, "num_parameters": 2_000_000, "num_threads": 4}
GPU = {"device": torch.device("cuda"), "has_gpu": True}
ADVICE: list[tuple[Phase, float, Experiment, dict[str, Any], dict[str, Any] | None]] = [
    ("stepping", 1e-3, PONG, {"stepping": "atari"}, {"env.atari.num_threads": 0}),
    ("stepping", 1e-3, PONG_WIDE, {"stepping": "atari"}, None),
    ("stepping", 1e-3, LONG, {"stepping": "sync"}, {"env.vectorization": "process"}),
    ("stepping", 1e-3, LONG, {"stepping": "sync", "num_cores": 1}, None),
    ("stepping", 1e-5, LONG, {"stepping": "sync"}, None),
    ("stepping", 1e-5, CHOSEN_SYNC, {"stepping": "sync"}, {"env.vectorization": "auto"}),
    ("stepping", 1e-4, LONG, {"stepping": "process", "num_cores": 1}, {"env.vectorization": "sync"}),
    ("stepping", 1e-2, LONG, {"stepping": "process"}, {"env.num_envs": 8, "agent.num_steps": 8}),
    ("stepping", 1e-5, LONG, {}, {"env.num_envs": 8, "agent.num_steps": 8}),
    ("acting", 1e-4, LONG, {}, {"env.num_envs": 8, "agent.num_steps": 8}),
    ("acting", 1e-4, LONG, GPU, {"device": "cpu"}),
    ("acting", 1e-4, LONG, PICTURES | {"num_threads": 2}, {"num_threads": 4}),
    ("acting", 1e-4, LONG, PICTURES | GPU, {"agent.cuda_graphs": True}),
    ("learning", 1e-4, LONG, PICTURES | GPU, {"agent.cuda_graphs": True}),
    ("learning", 1e-4, LONG, {}, {"agent.compile": True}),
    ("learning", 1e-4, LONG, {"can_compile": False}, {"agent.batch_size": 64}),
    ("learning", 1e-4, SHORT, {}, {"agent.batch_size": 64}),  # too short a run to win the compiling back
    ("learning", 1e-4, SHORT, {"num_threads": 4}, {"num_threads": 1}),
    ("learning", 1e-4, SHORT, PICTURES | {"cpu_has_bfloat16": True}, {"precision": "bfloat16"}),
    ("learning", 1e-4, SHORT, PICTURES | {"has_gpu": True}, {"device": "cuda"}),
    ("learning", 1e-4, SHORT, PICTURES | {"load": 9.0}, {"num_threads": 1}),
    ("learning", 1e-4, SHORT, PICTURES | {"load": 9.0, "num_threads": 1}, {"agent.batch_size": 64}),
    ("learning", 1e-4, REPLAY, {}, {"agent.train_period": 8}),
    ("transfer", 1e-4, LONG, GPU, {"device": "cpu"}),
    ("logging", 1e-4, LONG, {}, {"logging.period": 20_000}),
    ("evaluation", 1e-4, EVALUATED, {}, {"evaluation.period": 500}),
    ("checkpoints", 1e-4, REPLAY, {}, {"checkpoint.replay": False}),
    ("checkpoints", 1e-4, choosing(checkpoint={"period": 10}), {}, {"checkpoint.period": 50}),
    ("checkpoints", 1e-4, LONG, {}, None),
    (REST, 1e-4, LONG, {}, {"env.num_envs": 8, "agent.num_steps": 8}),
    (REST, 1e-4, BY_WORKER, {}, {"workers.envs_per_worker": 4, "agent.num_steps": 8}),
]


@pytest.mark.parametrize(("phase", "a_step", "config", "about", "expected"), ADVICE)
def test_advice(
    phase: Phase, a_step: float, config: Experiment, about: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    found = bottleneck(phase, a_step, config, **about)
    changes = found.changes()
    assert (changes[0].settings if changes else None) == expected
    assert found.binds == phase and found.a_step() == pytest.approx(a_step)
    if expected is None:
        assert found.advice().startswith("no setting makes this shorter; ")
    for change in changes:  # each is a configuration that loads, and another than before
        arguments = [f"--{path}={value}" for path, value in change.settings.items()]
        changed = from_mapping(to_mapping(config), arguments)
        assert changed != config
        for path, value in change.settings.items():  # and nothing undoes it
            assert functools.reduce(getattr, path.split("."), cast(Any, changed)) == value
        assert f"{next(iter(change.settings))}: " in str(change)


def test_what_changes_learning_says_so_and_comes_last() -> None:
    changes = bottleneck("learning", 1e-4, LONG).changes()
    assert [change.only_speed for change in changes] == [True, False, False]
    said = ["(this changes what is learned, too: compare scores)" in str(change) for change in changes]
    assert said == [False, True, True]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7_200.0, "2.0 h"), (90.0, "1.5 min"), (2.0, "2.0 s"), (0.125, "125 ms"), (18.4e-6, "18.4 µs"), (3e-7, "300 ns")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- random actions --------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_random_actions_are_legal(seed: int, num_envs: int) -> None:
    generator = np.random.default_rng(seed)
    for space, size in ((spaces.Discrete(4, start=-2), 4), (spaces.MultiDiscrete([3, 2], start=[1, 5]), 5)):
        mask = np.zeros((num_envs, size), np.int8)
        column = np.arange(num_envs)
        groups = [(0, 4)] if size == 4 else [(0, 3), (3, 2)]
        only = np.stack([first + generator.integers(0, n, num_envs) for first, n in groups], -1)
        for choice in only.T:
            mask[column, choice] = 1
        batched = batch_space(space, num_envs)
        action = random_action(space, batched, mask, generator)
        assert batched.contains(action.astype(batched.dtype))
        chosen = (action - space.start).reshape(num_envs, -1) + [first for first, _ in groups]
        assert (chosen == only).all()
        nothing = random_action(space, batched, np.zeros_like(mask), generator)
        assert batched.contains(nothing.astype(batched.dtype))
    switches = spaces.MultiBinary(6)
    mask = generator.integers(0, 2, (num_envs, 6), dtype=np.int8)
    assert (random_action(switches, batch_space(switches, num_envs), mask, generator) <= mask).all()
    box = spaces.Box(-1, 1, (3,))
    assert batch_space(box, num_envs).contains(random_action(box, batch_space(box, num_envs), None, generator))
