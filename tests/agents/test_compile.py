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
