"""Learners that go on from what others saved: on another kind of device, and with other settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from triathlon.networks.errors import SettingError

Practise = Callable[..., Any]

MLP = {"kind": "mlp", "hidden_sizes": [8]}
AGENTS: dict[str, dict[str, Any]] = {
    "ppo": {"kind": "ppo", "num_steps": 16, "batch_size": 32},
    "dqn": {"kind": "dqn", "learning_starts": 0, "buffer_size": 500, "head": {"kind": "iqn", "noisy": True}},
    "pqn": {"kind": "pqn", "num_steps": 16, "batch_size": 32},
}
GENERATORS = {"ppo": ["act_generator"], "dqn": ["act_generator", "learn_generator"], "pqn": ["act_generator"]}


@pytest.mark.parametrize("agent", AGENTS)
def test_what_a_gpu_saved_is_played_and_learned_with_on_a_cpu(practise: Practise, agent: str) -> None:
    first, second = (practise("CartPole-v1", AGENTS[agent], MLP, seed=seed) for seed in (1, 2))
    state = first.play(64).learner.state_dict()
    for name in GENERATORS[agent]:
        state[name] = torch.arange(16, dtype=torch.uint8)
    drawing = second.learner.policy.generator.get_state()
    second.learner.load_state_dict(state)
    assert second.learner.policy.weights().equal(first.learner.policy.weights())
    assert second.learner.policy.generator.get_state().equal(drawing)
    second.play(64)


@pytest.mark.parametrize("agent", AGENTS)
def test_on_the_same_kind_of_device_it_goes_on_to_the_bit(practise: Practise, agent: str) -> None:
    first, second = (practise("CartPole-v1", AGENTS[agent], MLP, seed=seed) for seed in (1, 2))
    second.learner.load_state_dict(first.play(64).learner.state_dict())
    obs, is_first = torch.randn(64, 4), torch.zeros(64, dtype=torch.bool)
    actions = [practice.learner.policy.act(obs, (), is_first).action for practice in (first, second)]
    assert torch.equal(*actions)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("setting", ["normalize_obs", "normalize_reward"])
@pytest.mark.parametrize("had", [True, False])
def test_other_statistics_are_refused_by_the_name_of_their_setting(
    practise: Practise, agent: str, setting: str, had: bool
) -> None:
    saved, asking = (practise("CartPole-v1", AGENTS[agent] | {setting: value}, MLP) for value in (had, not had))
    state = saved.learner.state_dict()
    if setting == "normalize_reward" and had:  # rewards are no longer scaled
        asking.learner.load_state_dict(state)
        return
    is_, was = str(not had).lower(), str(had).lower()
    sentence = rf"^agent\.{setting} is {is_}, and the checkpoint was saved with {was}; set it to {was}$"
    with pytest.raises(SettingError, match=sentence):
        asking.learner.load_state_dict(state)


@pytest.mark.parametrize(
    ("had", "asked", "sentence"),
    [
        ({}, {"buffer_size": 400}, r"agent\.buffer_size: the replay holds 400 transitions, and the saved one held 500"),
        ({"prioritized": True}, {}, r"agent\.prioritized is false, and the saved replay had true"),
        (
            {"prioritized": True, "initial_priority": "td_error"},
            {"prioritized": True},
            r"agent\.initial_priority is greatest, and the saved replay had td_error",
        ),
    ],
)
def test_another_replay_is_refused_by_the_name_of_its_setting(
    practise: Practise, had: dict[str, Any], asked: dict[str, Any], sentence: str
) -> None:
    saved, asking = (practise("CartPole-v1", AGENTS["dqn"] | extra, MLP) for extra in (had, asked))
    with pytest.raises(SettingError, match=sentence + "; resume with what it had"):
        asking.learner.load_state_dict(saved.play(20).learner.state_dict())
