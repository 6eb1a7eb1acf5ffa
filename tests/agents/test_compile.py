"""A compiled gradient step does what the eager one does; where it cannot, it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from triathlon.agents.gradient_step import GradientStep, has_compiler
from triathlon.networks.errors import SettingError

AGENTS = {
    "ppo": {"kind": "ppo", "num_steps": 16, "batch_size": 16, "num_epochs": 2, "normalize_obs": True},
    "dqn": {"kind": "dqn", "learning_starts": 0, "batch_size": 8, "train_period": 8, "gradient_steps": 2, "n_step": 2},
}
MLP = {"kind": "mlp", "hidden_sizes": [8]}
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler"
)


@needs_compiler
@pytest.mark.parametrize("agent", AGENTS)
def test_compiled_learns_what_eager_learns(practise: Callable[..., Any], agent: str) -> None:
    eager, compiled = (practise("CartPole-v1", AGENTS[agent] | {"compile": c}, MLP, seed=3) for c in (False, True))
    start = eager.learner.policy.weights().clone()
    assert compiled.learner.step.compile_seconds is None
    for _ in range(3):
        segment = eager.collector.collect(eager.learner.num_rows)
        eager.learner.update(segment)
        compiled.learner.update(segment)
    assert compiled.learner.step.compile_seconds
    assert eager.learner.step.compile_seconds is None
    moved = eager.learner.policy.weights() - start
    assert moved.abs().max() > 1e-4
    torch.testing.assert_close(compiled.learner.policy.weights(), eager.learner.policy.weights(), atol=1e-5, rtol=1e-4)


@needs_compiler
@pytest.mark.parametrize(
    ("settings", "backbone"),
    [({"vf_coef": 5.0}, MLP), ({"max_grad_norm": 0.01}, MLP), ({}, MLP | {"activation": "relu"})],
    ids=["vf_coef", "max_grad_norm", "activation"],
)
def test_a_second_learner_is_not_compiled_with_the_settings_of_the_first(
    practise: Callable[..., Any], settings: dict[str, Any], backbone: dict[str, Any]
) -> None:
    agent = AGENTS["ppo"] | {"normalize_obs": False, "num_epochs": 1}
    first = practise("CartPole-v1", agent | {"compile": True}, MLP, seed=3)
    segment = first.collector.collect(first.learner.num_rows)
    first.learner.update(segment)
    eager, compiled = (
        practise("CartPole-v1", agent | settings | {"compile": c}, backbone, seed=3).learner for c in (False, True)
    )
    torch.testing.assert_close(compiled.policy.weights(), eager.policy.weights(), atol=0, rtol=0)
    learnt = eager.update(segment), compiled.update(segment)
    torch.testing.assert_close(learnt[1]["loss"], learnt[0]["loss"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(compiled.policy.weights(), eager.policy.weights(), atol=1e-5, rtol=1e-4)


@needs_compiler
def test_compiled_weights_rows_where_an_older_policy_acted_from_the_second_rollout_on(
    practise: Callable[..., Any],
) -> None:
    """The first rollout of asynchronous workers is of the policy of now, later ones are not."""
    agent = AGENTS["ppo"] | {"normalize_obs": False}
    eager, compiled = (practise("CartPole-v1", agent | {"compile": c}, MLP, seed=3) for c in (False, True))
    for lag in (0, 1, 0, 1):
        segment = eager.collector.collect(eager.learner.num_rows)
        segment.lag = lag
        for name in segment.extras:  # of another policy
            segment.extras[name] = segment.extras[name] + lag * torch.linspace(-1, 1, segment.extras[name].shape[-1])
        found = eager.learner.update(segment), compiled.learner.update(segment)
        assert ("vtrace_rho" in found[0]) is ("vtrace_rho" in found[1]) is bool(lag)
        torch.testing.assert_close(
            compiled.learner.policy.weights(), eager.learner.policy.weights(), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("agent", "backbone"),
    [({"kind": "ppo"}, {"kind": "lstm"}), ({"kind": "dqn", "head": {"kind": "iqn"}}, MLP)],
)
def test_memories_and_draws_are_not_compiled(practise: Callable[..., Any], agent: Any, backbone: Any) -> None:
    with pytest.raises(SettingError, match=r"agent\.compile: true works with backbones without a memory"):
        practise("CartPole-v1", agent | {"compile": True}, backbone)


@pytest.mark.parametrize(
    ("agent", "backbone", "possible"),
    [
        ({"kind": "ppo"}, {"kind": "lstm"}, False),
        ({"kind": "dqn", "head": {"kind": "iqn"}}, MLP, False),
        ({"kind": "dqn"}, MLP, True),
        ({"kind": "pqn"}, MLP, True),
    ],
)
def test_auto_compiles_what_it_can_where_there_is_a_compiler(
    practise: Callable[..., Any], agent: Any, backbone: Any, possible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> GradientStep:
        found = practise("CartPole-v1", agent | {"compile": "auto"}, backbone).learner.step
        assert isinstance(found, GradientStep)
        return found

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert step().compiles is step().can_compile is possible
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert step().compiles is step().can_compile is False


def test_a_gpu_needs_triton_and_other_devices_are_not_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (None, object()):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        assert has_compiler(torch.device("cuda")) is (found is not None)
        assert not has_compiler(torch.device("mps"))
