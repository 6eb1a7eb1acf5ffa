"""Gradients computed in parts are those of the whole minibatch. T rows, B columns, N samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

Practise = Callable[..., Any]

MLP = {"kind": "mlp", "hidden_sizes": [16]}
LSTM = {"kind": "lstm", "encoder": MLP, "hidden_size": 8}
ENDING = {"id": "CartPole-v1", "num_envs": 3, "max_episode_steps": 7}  # rows that were not played in every part
PPO = {"kind": "ppo", "num_steps": 16, "num_epochs": 2, "batch_size": 24, "learning_rate": 1e-2, "normalize_obs": True}
DQN = {
    "kind": "dqn",
    "learning_starts": 0,
    "batch_size": 7,
    "buffer_size": 300,
    "train_period": 12,
    "gradient_steps": 2,
    "learning_rate": 1e-2,
}


def segments_of(practice: Any, num: int) -> list[Any]:
    return [practice.collector.collect(practice.learner.num_rows) for _ in range(num)]


def copied(segment: Any) -> Any:
    return segment.map(torch.clone)


def weights_after(practise: Practise, settings: dict[str, Any], backbone: Any, segments: list[Any]) -> torch.Tensor:
    learner = practise(ENDING, settings, backbone, 10_000).learner
    for segment in segments:
        learner.update(copied(segment))
    weights: torch.Tensor = learner.step.flat.data
    return weights


@pytest.mark.parametrize("num_parts", [3, 100])  # 100: as many as there are training segments
@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("backbone", [MLP, LSTM], ids=["mlp", "lstm"])
def test_ppo_in_parts(practise: Practise, backbone: Any, lag: int, num_parts: int) -> None:
    settings = PPO | {"segment_length": 4, "ent_coef": 0.01, "clip_value_coef": 0.1}
    practice = practise(ENDING, settings, backbone, 10_000)
    segments = [replace(segment, lag=lag) for segment in segments_of(practice, 3)]
    whole = weights_after(practise, settings, backbone, segments)
    parts = weights_after(practise, settings | {"accumulate": num_parts}, backbone, segments)
    assert not torch.allclose(whole, practice.learner.step.flat.data, atol=1e-2)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "extra",
    [
        {"double": True, "n_step": 2},
        {"prioritized": True, "head": {"kind": "c51", "v_min": 0.0, "v_max": 9.0}},
        {"prioritized": True, "head": {"kind": "qr", "noisy": True}},
    ],
    ids=["double", "c51", "qr"],
)
@pytest.mark.parametrize("backbone", [MLP, LSTM], ids=["mlp", "lstm"])
def test_dqn_in_parts(practise: Practise, backbone: Any, extra: dict[str, Any]) -> None:
    settings = DQN | extra | ({"segment_length": 6, "burn_in": 2} if backbone is LSTM else {})
    practice = practise(ENDING, settings, backbone, 10_000)
    segments = segments_of(practice, 8)
    whole = weights_after(practise, settings, backbone, segments)
    parts = weights_after(practise, settings | {"accumulate": 3}, backbone, segments)
    assert not torch.allclose(whole, practice.learner.step.flat.data, atol=1e-2)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_what_is_reported_does_not_depend_on_the_parts(practise: Practise) -> None:
    settings = PPO | {"max_grad_norm": 100.0}
    practice = practise(ENDING, settings, MLP, 10_000)
    segment = practice.collector.collect(16)
    reported = []
    for num_parts in (1, 3):
        learner = practise(ENDING, settings | {"accumulate": num_parts}, MLP, 10_000).learner
        reported.append({name: float(x) for name, x in learner.update(copied(segment)).items()})
    assert reported[0] == pytest.approx(reported[1], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("extra", [{}, {"double": True}, {"segment_length": 6, "burn_in": 2}])
@pytest.mark.parametrize("num_parts", [1, 3])
def test_dqn_computes_goals_of_no_more_samples_at_once_than_gradients(
    practise: Practise, num_parts: int, extra: dict[str, Any]
) -> None:
    """Of 7 samples in 3 parts, 3 at most; in one part all that are drawn together, here of 4 updates or of one."""
    settings = DQN | {"gradient_steps": 4, "accumulate": num_parts} | extra
    practice = practise(ENDING, settings, LSTM if "burn_in" in extra else MLP, 10_000)
    learner, seen = practice.learner, []
    for network in (learner.network, learner.target):
        network.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output[0].shape[1]))
    segments = segments_of(practice, 3)
    seen.clear()  # acting asks for as many columns as there are environments
    for segment in segments:
        learner.update(segment)
    assert seen
    assert max(seen) == (3 if num_parts == 3 else 28 if not extra else 7)


def test_dqn_in_parts_has_the_goals_of_the_whole(practise: Practise) -> None:
    """Also where several updates are drawn together."""
    settings = DQN | {"gradient_steps": 4}
    practice = practise(ENDING, settings, MLP, 10_000)
    segments = segments_of(practice, 8)
    whole, parts = (weights_after(practise, settings | {"accumulate": n}, MLP, segments) for n in (1, 3))
    assert not torch.allclose(whole, practice.learner.step.flat.data, atol=1e-2)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)
