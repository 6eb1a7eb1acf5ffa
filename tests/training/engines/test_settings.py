"""What engines call our settings, and that they refuse by name what they cannot honour."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from triathlon.agents.dqn_config import DQNConfig
from triathlon.agents.ppo_config import PPOConfig
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.engines.rounds import rounds_of_updates
from triathlon.training.engines.settings import AGENTS, Missing, check
from triathlon.training.errors import RunError


def experiment(engine: str, agent: Any = "ppo", **settings: Any) -> Experiment:
    mapping = {"engine": engine, "agent": agent, "env": {"id": "CartPole-v1"}, "total_steps": 100}
    return from_mapping(mapping | settings)


@pytest.mark.parametrize("engine", ["sb3", "rllib"])
@pytest.mark.parametrize(("kind", "config"), [("ppo", PPOConfig), ("dqn", DQNConfig)])
def test_tables_name_settings_that_there_are(engine: str, kind: str, config: type[Any]) -> None:
    there = {field.name for field in dataclasses.fields(config)}
    assert {name.partition(".")[0] for name in AGENTS[engine][kind]} <= there
    assert all(isinstance(value, Missing) or value for value in AGENTS[engine][kind].values())


@pytest.mark.parametrize(
    ("engine", "agent", "sentence"),
    [
        (
            "sb3",
            {"kind": "ppo", "normalize_obs": True},
            "agent.normalize_obs is true, which engine: sb3 has no",
        ),
        (
            "sb3",
            {"kind": "dqn", "double": True},
            r"agent.double is true, .* \(Stable-Baselines3: its DQN chooses",
        ),
        ("sb3", {"kind": "dqn", "head": {"dueling": True}}, "agent.head.dueling is true, which engine: sb3"),
        ("rllib", {"kind": "ppo", "anneal_clip": True}, "agent.anneal_clip is true, which engine: rllib"),
        ("rllib", {"kind": "ppo", "normalize_advantage": False}, "agent.normalize_advantage is false"),
        ("rllib", {"kind": "dqn", "head": {"kind": "c51"}}, "agent.head.kind is c51, which engine: rllib"),
        ("sb3", {"kind": "pqn"}, "agent.kind is pqn, which engine: sb3 does not have; it has ppo and dqn"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_its_name(engine: str, agent: Any, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        check(experiment(engine, agent))


@pytest.mark.parametrize("engine", ["sb3", "rllib"])
def test_settings_at_their_defaults_are_accepted(engine: str) -> None:
    check(experiment(engine, "ppo"))
    check(experiment(engine, "dqn"))
    check(experiment(engine, {"kind": "dqn", "learning_rate": 1e-3, "head": {"hidden_size": 32}}))


def test_settings_of_other_rooms_are_refused_too() -> None:
    with pytest.raises(RunError, match=r"env.num_groups is 2, which engine: sb3"):
        check(experiment("sb3", env={"id": "CartPole-v1", "num_envs": 4, "num_groups": 2}))
    with pytest.raises(RunError, match=r"workers is .*which engine: sb3 has no counterpart for"):
        check(experiment("sb3", workers={"kind": "process", "num": 2}))


@pytest.mark.parametrize(
    ("engine", "package", "extra"), [("sb3", "stable_baselines3", "sb3"), ("rllib", "ray", "rllib")]
)
def test_an_engine_that_is_not_installed_names_its_extra(
    engine: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as Python has what cannot be imported
    with pytest.raises(
        RunError, match=rf"engine: {engine} needs .*, which is not installed: pip .*triathlon\[{extra}\]"
    ):
        check(experiment(engine))


def test_native_runs_load_neither_library() -> None:
    code = (
        "import sys; import triathlon.training.runner, triathlon.scripts.train, triathlon.scripts.compare, "
        "triathlon.scripts.import_sb3, triathlon.scripts.export_sb3, triathlon.training.engines.start; "
        "print(sorted({'ray', 'stable_baselines3'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_rounds_of_updates_in_steps_of_all_environments() -> None:
    assert rounds_of_updates(train_period=256, gradient_steps=128, num_envs=1, engine="sb3") == (256, 128)
    assert rounds_of_updates(train_period=8, gradient_steps=2, num_envs=8, engine="sb3") == (1, 2)
    assert rounds_of_updates(train_period=4, gradient_steps=1, num_envs=8, engine="sb3") == (1, 2)
    assert rounds_of_updates(train_period=32, gradient_steps=3, num_envs=8, engine="sb3") == (4, 3)
    with pytest.raises(RunError, match=r"agent.train_period is 12 with env.num_envs 8 and"):
        rounds_of_updates(train_period=12, gradient_steps=1, num_envs=8, engine="sb3")
