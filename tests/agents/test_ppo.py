"""PPO's losses against numbers worked out by hand, and its updates against what must not matter. T rows, B columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from triathlon.agents.ppo_losses import policy_loss, value_loss

Practise = Callable[..., Any]

MLP = {"kind": "mlp", "hidden_sizes": [16]}
BACKBONES = {
    "mlp": MLP,
    "lstm": {"kind": "lstm", "encoder": MLP, "hidden_size": 8},
    "gru": {"kind": "gru", "encoder": MLP, "hidden_size": 8, "num_layers": 2},
    "transformer": {"kind": "transformer", "encoder": MLP, "width": 8, "num_heads": 2, "memory_length": 3},
}
ENDING = {"id": "CartPole-v1", "num_envs": 3, "max_episode_steps": 7}  # episodes end inside every chunk of 4 or 8 rows
WHOLE = {"kind": "ppo", "num_steps": 16, "num_epochs": 1, "batch_size": 48, "learning_rate": 1e-2}


def test_policy_loss_by_hand() -> None:
    """Equation 7 with clip 0.2: the smaller of ratio * A and clip(ratio, 0.8, 1.2) * A, negated."""
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 1.0])
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0, -4.0])
    loss, log_ratio = policy_loss((0.5 * ratio).log(), torch.full((6,), 0.5).log(), advantage, torch.tensor(0.2))
    torch.testing.assert_close(loss, torch.tensor([-2.4, 3.0, -1.0, 1.6, -3.3, 4.0]))
    torch.testing.assert_close(log_ratio, ratio.log())


def test_policy_loss_has_no_gradient_where_it_is_clipped() -> None:
    log_prob = torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5])).requires_grad_()
    loss, _ = policy_loss(log_prob, torch.zeros(4), torch.tensor([2.0, -2.0, 2.0, -2.0]), torch.tensor(0.2))
    loss.sum().backward()
    # d(-ratio * A) / d(log_prob) = -ratio * A where it is not clipped.
    torch.testing.assert_close(log_prob.grad, torch.tensor([0.0, 3.0, -1.0, 0.0]))


def test_value_loss_by_hand() -> None:
    value, old, returns = torch.tensor([3.0, 3.0, 1.2]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 5.0, 2.0])
    torch.testing.assert_close(value_loss(value, old, returns, None), torch.tensor([1.0, 4.0, 0.64]))
    # Clipped to 1.5: (1.5 - 2)² = 0.25 < 1, (1.5 - 5)² = 12.25 > 4; the last moved by less than the clip.
    torch.testing.assert_close(value_loss(value, old, returns, 0.5), torch.tensor([1.0, 12.25, 0.64]))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("share", [True, False])
def test_what_acted_is_what_is_trained(practise: Practise, backbone: str, share: bool) -> None:
    """Before the first step, log-probabilities from the stored states are those acted with: the ratio is 1."""
    agent = WHOLE | {"segment_length": 4, "share_backbone": share, "normalize_obs": True}
    practice = practise(ENDING, agent, BACKBONES[backbone], 10_000)
    for _ in range(3):
        segment = practice.collector.collect(16)
        assert segment.is_first[1:].any()
        value, _ = practice.learner._look_back(practice.learner._prepare(segment)[0], segment, with_policy=False)
        whole, _ = practice.learner.network.value(segment.obs, tuple(s[0] for s in segment.state), segment.is_first)
        torch.testing.assert_close(value, whole.detach(), atol=1e-5, rtol=1e-5)
        metrics = practice.learner.update(segment)
        assert abs(float(metrics["approx_kl"])) < 1e-9
        assert float(metrics["clip_fraction"]) == 0.0
        assert float(metrics["grad_norm"]) > 0.0


def test_a_forgotten_state_would_be_noticed(practise: Practise) -> None:
    """The test above can fail: with the states of other columns the ratio is not 1."""
    practice = practise(ENDING, WHOLE | {"segment_length": 4}, BACKBONES["lstm"], 10_000).play(150)
    segment = practice.collector.collect(16)
    wrong = replace(segment, state=tuple(s.flip(0) for s in segment.state))
    assert float(practice.learner.update(wrong)["approx_kl"]) > 1e-7


def test_segment_length_does_not_matter_without_a_memory(practise: Practise) -> None:
    after = []
    for length in (1, 4, 16):
        practice = practise(ENDING, WHOLE | {"segment_length": length, "max_grad_norm": 100.0}, MLP, 10_000)
        practice.play(40)
        after.append(practice.learner.policy.weights())
    torch.testing.assert_close(after[0], after[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after[0], after[2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["mlp", "lstm"])
@pytest.mark.parametrize("kind", ["ppo", "pqn"])
def test_rows_that_were_not_played_teach_nothing(practise: Practise, kind: str, backbone: str) -> None:
    """Another action, reward and log-probability at the last observation of an episode: the same weights."""
    after = []
    for spoil in (False, True):
        settings = {"kind": kind, "num_steps": 16, "batch_size": 12, "num_epochs": 2, "learning_rate": 1e-2}
        practice = practise(ENDING, settings, BACKBONES[backbone], 10_000)
        segment = practice.collector.collect(16)
        unplayed = torch.cat([segment.is_first[1:], torch.ones(1, 3, dtype=torch.bool)])
        assert 3 < int(unplayed.sum()) < 20
        if spoil:
            segment.action[unplayed] = 1 - segment.action[unplayed]
            segment.reward[unplayed] = 1e6
            if kind == "ppo":
                segment.extras["logits"][unplayed] = -5.0
        practice.learner.update(segment)
        after.append(practice.learner.policy.weights())
    assert after[0].equal(after[1])


@pytest.mark.parametrize("normalize", [True, False])
def test_advantages_of_played_rows_are_normalized(practise: Practise, normalize: bool) -> None:
    practice = practise(ENDING, WHOLE | {"normalize_advantage": normalize, "vf_coef": 0.0}, MLP, 10_000)
    learner, losses = practice.learner, []
    rows, _ = learner._prepare(practice.collector.collect(16))
    plain = rows.targets["advantage"]
    for advantage in (plain, 10 * plain + 3, torch.where(rows.mask > 0, plain, 99.0)):
        targets = rows.targets | {"advantage": advantage}
        # Log-probabilities that differ from those acted with: at ratio 1 the loss would be the mean, 0, anyway.
        targets["log_prob"] = rows.targets["log_prob"] + 0.1 * torch.sin(torch.arange(48.0)).view(1, 48)
        arguments = (rows.obs, rows.state, rows.is_first, None, rows.action, rows.mask, targets, torch.tensor(0.2))
        losses.append(learner._loss(learner.network, *arguments)[0].item())
    assert losses[0] == pytest.approx(losses[2], abs=1e-6)  # what was not played does not count
    assert (losses[0] == pytest.approx(losses[1], abs=1e-5)) is normalize


def test_target_kl_stops_the_epochs(practise: Practise) -> None:
    settings = {"kind": "ppo", "num_steps": 16, "num_epochs": 10, "batch_size": 48, "learning_rate": 0.1}
    counts = []
    for target_kl in (None, 1e-4):
        practice = practise(ENDING, settings | {"target_kl": target_kl}, MLP, 10_000).play(30)
        counts.append(practice.metrics[0]["n_updates"])
    assert counts == [10, 2]  # the first epoch starts where acting ended: its divergence is 0


def test_annealing(practise: Practise) -> None:
    settings = WHOLE | {"anneal_learning_rate": True, "anneal_clip": True}
    practice = practise({"id": "triathlon/ProbeTimeLimit-v0", "num_envs": 2}, settings, MLP, 100).play()
    # Episodes of 5 played rows and one that is not: 2 x 14 of the first 16 rows.
    first, second = practice.metrics[:2]
    assert (first["learning_rate"], first["clip_range"]) == (pytest.approx(1e-2), pytest.approx(0.2))
    assert (second["learning_rate"], second["clip_range"]) == (pytest.approx(0.72e-2), pytest.approx(0.72 * 0.2))


def test_entropy_of_two_actions(practise: Practise) -> None:
    practice = practise(ENDING, WHOLE | {"learning_rate": 1e-9}, MLP, 1000).play(30)
    assert float(practice.metrics[0]["entropy_loss"]) == pytest.approx(-math.log(2), abs=1e-3)
