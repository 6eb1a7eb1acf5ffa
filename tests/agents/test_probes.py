"""Every agent learns the known values and actions of the probe environments. A actions, N observations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.agents.dqn_config import DQNConfig
from triathlon.envs.probes import PROBES

Practise = Callable[..., Any]

GAMMA = 0.9
MLP = {"kind": "mlp", "hidden_sizes": [32]}
NORMED = MLP | {"layer_norm": True}
PPO = {"kind": "ppo", "gamma": GAMMA, "num_steps": 16, "batch_size": 64, "learning_rate": 1e-2}
DQN = {
    "kind": "dqn",
    "gamma": GAMMA,
    "learning_rate": 1e-2,
    "learning_starts": 64,
    "train_period": 8,
    "gradient_steps": 2,
    "target_period": 25,
    "batch_size": 64,
    "buffer_size": 2000,
    "exploration_fraction": 0.5,
}
PQN = {"kind": "pqn", "gamma": GAMMA, "num_steps": 16, "batch_size": 64, "learning_rate": 1e-2}
# What the best policy earns in an episode, undiscounted.
BEST_RETURN = {
    "ProbeConstant": 1.0,
    "ProbeDiscount": 1.0,
    "ProbeAction": 1.0,
    "ProbePolicy": 1.0,
    "ProbeTimeLimit": 5.0,
    "ProbeMask": 2.0,
    "ProbeMemory": 1.0,
}
STATELESS = [name for name in PROBES if name not in ("ProbeContinuous", "ProbeMemory")]
SEQUENCES = DQN | {"segment_length": 6, "burn_in": 4, "batch_size": 32, "train_period": 10, "n_step": 2}
MEMORY_AGENTS: dict[str, tuple[dict[str, Any], int]] = {
    "ppo": (PPO, 5000),
    "dqn": (SEQUENCES, 1600),
    "pqn": (PQN | {"exploration_fraction": 0.5, "final_epsilon": 0.0, "q_lambda": 0.9}, 5000),
}
MEMORIES = {
    "lstm": {"kind": "lstm", "encoder": MLP, "hidden_size": 32},
    "gru": {"kind": "gru", "encoder": MLP, "hidden_size": 32},
    "transformer": {"kind": "transformer", "encoder": MLP, "width": 16, "num_layers": 1, "memory_length": 8},
}


def known(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`obs [1, N, D]`, Q-values `[N, A]` and legal `[N, A]` of a probe."""
    values = PROBES[name].action_values(GAMMA)
    q_values = torch.tensor(list(values.values()))
    # In the mask probe what would earn most is what is not allowed.
    legal = q_values < 9 if name == "ProbeMask" else torch.ones_like(q_values, dtype=torch.bool)
    return torch.tensor(list(values)).unsqueeze(0), q_values, legal


def learned(learner: Any, obs: torch.Tensor) -> torch.Tensor:
    """Values `[N]` (PPO) or Q-values `[N, A]` of observations that each begin an episode."""
    network, is_first = learner.network, torch.ones(1, obs.shape[1], dtype=torch.bool)
    state = network.initial_state(obs.shape[1])
    with torch.no_grad():
        if hasattr(network, "value"):
            return network.value(obs, state, is_first)[0][0]
        network.head.eval()
        return network.head.q_values(network.features(obs, state, is_first)[0])[0]


def check(practice: Any, name: str, tolerance: float = 0.1, best_only: bool = False) -> None:
    obs, q_values, legal = known(name)
    value = q_values.masked_fill(~legal, -torch.inf).amax(-1)
    found = learned(practice.learner, obs)
    scale = max(1.0, float(value.abs().max()))
    if best_only:  # nothing is explored once it looks bad, so what it is worth stays a guess
        found = found.masked_fill(~legal, -torch.inf).amax(-1)
    if found.dim() == 1:
        torch.testing.assert_close(found, value, atol=tolerance * scale, rtol=0)
    else:  # of actions that are legal; what is illegal is never tried
        torch.testing.assert_close(found[legal], q_values[legal], atol=tolerance * scale, rtol=0)
    if name in BEST_RETURN:
        assert practice.score() == BEST_RETURN[name]


def env(name: str) -> dict[str, Any]:
    return {"id": f"triathlon/{name}-v0", "num_envs": 8}


@pytest.mark.parametrize("name", STATELESS)
@pytest.mark.parametrize(
    ("agent", "backbone", "num_steps"),
    [(PPO, MLP, 2000), (DQN, MLP, 1600), (PQN, NORMED, 3000)],
    ids=["ppo", "dqn", "pqn"],
)
def test_values_and_actions_of_probes(
    practise: Practise, agent: dict[str, Any], backbone: Any, num_steps: int, name: str
) -> None:
    check(practise(env(name), agent, backbone, num_steps).play(), name, 0.15)


@pytest.mark.parametrize("std", ["free", "state"])
def test_ppo_finds_the_best_number(practise: Practise, std: str) -> None:
    practice = practise(env("ProbeContinuous"), PPO | {"std": std, "learning_rate": 3e-3}, MLP, 4000).play()
    assert practice.score() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", MEMORIES)
@pytest.mark.parametrize("agent", ["ppo", "dqn", "pqn"])
def test_memory_of_probes(practise: Practise, agent: str, kind: str) -> None:
    settings, num_steps = MEMORY_AGENTS[agent]
    practice = practise(env("ProbeMemory"), settings, MEMORIES[kind], num_steps).play()
    check(practice, "ProbeMemory", 0.2, best_only=agent == "pqn")


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
def test_without_memory_the_memory_probe_is_chance(practise: Practise, agent: dict[str, Any]) -> None:
    """Its best value is 0: an agent that scored more would see what it must not."""
    practice = practise(env("ProbeMemory"), agent, MLP, 2000).play()
    obs, *_ = known("ProbeMemory")
    assert learned(practice.learner, obs).abs().max() < 0.45


VARIANTS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "double": ("ProbePolicy", {"double": True}, MLP),
    "n-step": ("ProbeDiscount", {"n_step": 3}, MLP),
    "soft target": ("ProbeDiscount", {"tau": 0.05, "target_period": DQNConfig.target_period}, MLP),
    "mse": ("ProbeTimeLimit", {"loss": "mse"}, MLP),
    "prioritized": ("ProbeMask", {"prioritized": True}, MLP),
    "dueling": ("ProbePolicy", {"head": {"dueling": True}}, MLP),
    "noisy": ("ProbePolicy", {"head": {"noisy": True}, "initial_epsilon": 0.0, "final_epsilon": 0.0}, MLP),
    "c51": ("ProbeMask", {"head": {"kind": "c51", "v_min": -4.0, "v_max": 4.0}}, MLP),
    "qr": ("ProbePolicy", {"head": {"kind": "qr", "num_quantiles": 8}}, MLP),
    "iqn": ("ProbePolicy", {"head": {"kind": "iqn", "num_quantiles": 8}}, MLP),
    "value rescaling": ("ProbeTimeLimit", {"value_rescale": True, "loss": "mse"}, MLP),
    "sequences without a memory": ("ProbeDiscount", {"segment_length": 4}, MLP),
    "rainbow": (
        "ProbeMask",
        {
            "double": True,
            "n_step": 3,
            "prioritized": True,
            "initial_epsilon": 0.0,
            "final_epsilon": 0.0,
            "head": {"kind": "c51", "dueling": True, "noisy": True, "v_min": -4.0, "v_max": 4.0},
        },
        MLP,
    ),
    "r2d2": (
        "ProbeMemory",
        SEQUENCES | {"double": True, "prioritized": True, "value_rescale": True, "head": {"dueling": True}},
        MEMORIES["lstm"],
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_part_of_dqn_learns(practise: Practise, variant: str) -> None:
    name, settings, backbone = VARIANTS[variant]
    practice = practise(env(name), DQN | settings, backbone, 2000).play()
    if settings.get("value_rescale"):  # what is learned is h(Q)
        assert practice.score() == BEST_RETURN[name]
        if name == "ProbeTimeLimit":
            x = 1 / (1 - GAMMA)
            expected = np.sqrt(x + 1) - 1 + 1e-3 * x
            assert learned(practice.learner, known(name)[0]).item() == pytest.approx(expected, rel=0.05)
        return
    check(practice, name, 0.2, best_only=settings.get("final_epsilon") == 0.0)
