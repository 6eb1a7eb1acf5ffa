"""V-trace by hand, against its definition written as a double sum, and in PPO. T rows, B columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triathlon.agents.returns import gae, lambda_returns, vtrace

Practise = Callable[..., Any]

GAMMA, LAMBDA = 0.5, 0.5


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def flags(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool).unsqueeze(1)


# Six rows: episode one is rows 0-2 (row 2 its last observation), episode two begins at row 3 and goes on past the end.
REWARD = column(1, 2, 0, 4, 8)
VALUE = column(10, 20, 30, 40, 50, 60)
IS_FIRST = flags(1, 0, 0, 1, 0, 0)
TRUNCATED, TERMINATED = flags(0, 0, 0, 0, 0), flags(0, 1, 0, 0, 0)
SIGN = column(-1, 1, 1, -1, -1)  # the mover changes after rows 0, 3 and 4, and moves twice at row 1
LOG_RATIO = column(2, 0.5, 7, 4, 0.25).log()


@pytest.mark.parametrize(
    ("terminated", "sign", "rho_clip", "c_clip", "targets", "advantage", "rho"),
    [
        # Errors d: 1, -3, (not valid), -11, -12. rho and c: 1, .5, -, 1, .25; c is halved by lambda.
        # x4 = .25*-12 = -3, x3 = -11 + .5*.5*-3 = -11.75, x1 = .5*-3 = -1.5, x0 = 1 + .5*.5*-1.5 = .625
        # a3 = -11 + .25*-3 = -11.75, a0 = 1 + .25*-1.5 = .625
        (TRUNCATED, None, 1, 1, [10.625, 18.5, 30, 28.25, 47], [0.625, -3, 0, -11.75, -12], [1, 0.5, 0, 1, 0.25]),
        # rho 2, .5, -, 2, .25: x3 = -22 + .25*-3 = -22.75, x0 = 2 + .25*-1.5 = 1.625; the advantages as before
        (TRUNCATED, None, 2, 1, [11.625, 18.5, 30, 17.25, 47], [0.625, -3, 0, -11.75, -12], [2, 0.5, 0, 2, 0.25]),
        # c .5, .5, -, .5, .25: x3 = -11 + .5*.25*-3 = -11.375, x0 = 1 + .125*-1.5 = .8125; the advantages as before
        (TRUNCATED, None, 1, 0.5, [10.8125, 18.5, 30, 28.625, 47], [0.625, -3, 0, -11.75, -12], [1, 0.5, 0, 1, 0.25]),
        # d1 = 2 - 20 = -18: x1 = -9, x0 = 1 + .25*-9 = -1.25
        (TERMINATED, None, 1, 1, [8.75, 11, 30, 28.25, 47], [-1.25, -18, 0, -11.75, -12], [1, 0.5, 0, 1, 0.25]),
        # d: -19, -3, -, -61, -72. x4 = -18, x3 = -61 - .25*-18 = -56.5, x1 = -1.5, x0 = -19 - .25*-1.5 = -18.625
        (TRUNCATED, SIGN, 1, 1, [-8.625, 18.5, 30, -16.5, 32], [-18.625, -3, 0, -56.5, -72], [1, 0.5, 0, 1, 0.25]),
    ],
    ids=["clipped", "rho clipped at 2", "c clipped at a half", "terminated", "two sides"],
)
def test_by_hand(
    terminated: Tensor,
    sign: Tensor | None,
    rho_clip: float,
    c_clip: float,
    targets: list[float],
    advantage: list[float],
    rho: list[float],
) -> None:
    found = vtrace(LOG_RATIO, REWARD, VALUE, terminated, IS_FIRST, GAMMA, LAMBDA, rho_clip, c_clip, sign)
    assert found.targets.squeeze(1).tolist() == pytest.approx(targets)
    assert found.advantage.squeeze(1).tolist() == pytest.approx(advantage)
    assert found.rho.squeeze(1).tolist() == pytest.approx(rho)


@pytest.mark.parametrize("terminated", [TRUNCATED, TERMINATED])
@pytest.mark.parametrize("sign", [None, SIGN])
def test_on_policy_it_is_the_lambda_return_and_gae(terminated: Tensor, sign: Tensor | None) -> None:
    found = vtrace(torch.zeros(5, 1), REWARD, VALUE, terminated, IS_FIRST, GAMMA, LAMBDA, next_sign=sign)
    valid = ~IS_FIRST[1:]
    returns = lambda_returns(REWARD, VALUE[1:], terminated, IS_FIRST, GAMMA, LAMBDA, sign)
    assert found.advantage.tolist() == gae(REWARD, VALUE, terminated, IS_FIRST, GAMMA, LAMBDA, sign).tolist()
    assert found.targets[valid].tolist() == returns[valid].tolist()


def test_with_lambda_1_the_advantage_is_that_of_the_paper() -> None:
    """`r[s] + gamma * v[s+1] - V[s]` (section 4.2) of rows whose successor was played."""
    found = vtrace(LOG_RATIO, REWARD, VALUE, TRUNCATED, IS_FIRST, GAMMA, 1.0)
    for s in (0, 3):
        expected = REWARD[s] + GAMMA * found.targets[s + 1] - VALUE[s]
        assert found.advantage[s].item() == pytest.approx(expected.item())


@st.composite
def experience(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """A stream of episodes of random length in each column, cut at random."""
    num_rows, num_columns = draw(st.integers(1, 10)), draw(st.integers(1, 3))
    terminated = np.zeros((num_rows + 1, num_columns), bool)
    is_first = np.zeros((num_rows + 1, num_columns), bool)
    for b in range(num_columns):
        row = draw(st.integers(-4, 1))
        while row <= num_rows:
            if row >= 0:
                is_first[row, b] = True
            last_observation = row + draw(st.integers(1, 6))
            if draw(st.booleans()) and 0 <= last_observation - 1 <= num_rows:
                terminated[last_observation - 1, b] = True
            row = last_observation + 1
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    reward, log_ratio = generator.normal(size=(2, num_rows, num_columns)).astype(np.float32)
    value = generator.normal(size=(num_rows + 1, num_columns)).astype(np.float32)
    sign = generator.choice(np.float32([1, -1]), (num_rows, num_columns))
    return log_ratio, reward, value, terminated[:-1], is_first, sign


@given(experience(), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 3), st.floats(0.1, 3))
@settings(deadline=None, max_examples=60)
def test_against_the_sum_that_defines_it(
    rows: tuple[np.ndarray, ...], gamma: float, lambda_: float, rho_clip: float, c_clip: float
) -> None:
    """Equation 1: `v[s] = V[s] + sum over t >= s of (product over s <= i < t of gamma c[i]) rho[t] d[t]`."""
    log_ratio, reward, value, terminated, is_first, sign = rows
    num_rows, num_columns = reward.shape
    ratio = np.exp(log_ratio)
    targets = value[:-1].copy()
    for b in range(num_columns):
        for s in range(num_rows):
            factor = 1.0
            for t in range(s, num_rows):
                if is_first[t + 1, b]:
                    break
                discount = 0.0 if terminated[t, b] else gamma * sign[t, b]
                delta = reward[t, b] + discount * value[t + 1, b] - value[t, b]
                targets[s, b] += factor * min(rho_clip, ratio[t, b]) * delta
                factor *= discount * lambda_ * min(c_clip, ratio[t, b])
    first, *others = (torch.from_numpy(x) for x in (log_ratio, reward, value, terminated, is_first))
    clips = {"rho_clip": rho_clip, "c_clip": c_clip, "next_sign": torch.from_numpy(sign)}
    found = vtrace(first, others[0], others[1], others[2], others[3], gamma, lambda_, **clips)
    np.testing.assert_allclose(found.targets, targets, rtol=1e-4, atol=1e-5)
    played = ~is_first[1:]
    np.testing.assert_allclose(found.rho, np.where(played, np.minimum(rho_clip, ratio), 0), rtol=1e-5)
    assert not found.advantage[~torch.from_numpy(played)].any()


MLP = {"kind": "mlp", "hidden_sizes": [16]}
BACKBONES = {"mlp": MLP, "lstm": {"kind": "lstm", "encoder": MLP, "hidden_size": 8}}
PPO = {"kind": "ppo", "num_steps": 16, "num_epochs": 1, "batch_size": 48, "learning_rate": 1e-2, "gamma": 0.9}
ENDING = {"id": "CartPole-v1", "num_envs": 3, "max_episode_steps": 7}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("share", [True, False])
def test_ppo_corrects_what_an_older_policy_collected(practise: Practise, backbone: str, share: bool) -> None:
    clips = {"rho_clip": 1.1, "c_clip": 0.9}
    agent = PPO | clips | {"segment_length": 16, "share_backbone": share, "learning_rate": 0.1}
    practice = practise(ENDING, agent, BACKBONES[backbone], 10_000)
    segment = replace(practice.collector.collect(16), lag=3)
    practice.play(144)  # three updates
    learner, network = practice.learner, practice.learner.network
    rows, metrics = learner._prepare(segment)
    with torch.no_grad():
        state = tuple(s[0] for s in segment.state)
        now, value, _ = network(segment.obs, state, segment.is_first)
    acted = torch.log_softmax(segment.extras["logits"], -1).gather(-1, segment.action.unsqueeze(-1)).squeeze(-1)
    log_ratio = (now.log_prob(segment.action) - acted)[:-1]
    assert log_ratio.abs().max() > 0.02
    expected = vtrace(
        log_ratio, segment.reward[:-1], value, segment.terminated[:-1], segment.is_first, 0.9, 0.95, 1.1, 0.9
    )
    for name, x in (("advantage", expected.advantage), ("returns", expected.targets), ("rho", expected.rho)):
        torch.testing.assert_close(rows.targets[name], x, atol=1e-5, rtol=1e-5)
    assert float(metrics["vtrace_rho"]) == pytest.approx(expected.rho.sum().item() / segment.num_steps)
    # The clip is around the policy of now: before the first step the ratio to it is 1.
    found = learner.update(segment)
    assert abs(float(found["approx_kl"])) < 1e-9 and float(found["clip_fraction"]) == 0.0


@pytest.mark.parametrize(("vtrace_when", "lag", "corrects"), [("auto", 0, 0), ("auto", 1, 1), ("never", 1, 0)])
def test_when_it_is_corrected(practise: Practise, vtrace_when: str, lag: int, corrects: int) -> None:
    practice = practise(ENDING, PPO | {"vtrace": vtrace_when}, MLP, 10_000)
    segment = replace(practice.collector.collect(16), lag=lag)
    assert ("rho" in practice.learner._prepare(segment)[0].targets) == bool(corrects)


@pytest.mark.parametrize("normalize", [True, False])
def test_without_a_lag_the_correction_changes_nothing(practise: Practise, normalize: bool) -> None:
    after = []
    for when in ("never", "always"):
        agent = PPO | {"vtrace": when, "normalize_advantage": normalize, "batch_size": 12, "max_grad_norm": 100.0}
        after.append(practise(ENDING, agent, MLP, 10_000).play(150).learner.policy.weights())
    torch.testing.assert_close(after[0], after[1], atol=1e-5, rtol=1e-4)


def test_the_gradient_is_that_of_the_weighted_advantages(practise: Practise) -> None:
    """`rho[s] * grad log pi(a[s]) * advantage[s]` (section 4.2), averaged over the rows that were played."""
    agent = PPO | {"normalize_advantage": False, "vf_coef": 0.0, "max_grad_norm": 1e9, "rho_clip": 1.01}
    practice = practise(ENDING, agent, MLP, 10_000)
    segment = replace(practice.collector.collect(16), lag=2)
    practice.play(96)
    learner, network = practice.learner, practice.learner.network
    targets = {name: x.view(16, 3) for name, x in learner._prepare(segment)[0].targets.items()}
    assert 0 < (targets["rho"] == 1.01).sum() < 48
    log_prob = network(segment.obs, (), segment.is_first)[0].log_prob(segment.action)[:-1]
    loss = -(targets["rho"] * targets["advantage"] * log_prob).sum() / segment.num_steps
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    expected = torch.cat([g.flatten() for g in gradients if g is not None]).norm()
    assert float(learner.update(segment)["grad_norm"]) == pytest.approx(expected.item(), rel=1e-4)


def learned(practice: Any) -> tuple[Tensor, Tensor]:
    """Of the observations -1 and 1: the values, and the probabilities of action 1."""
    obs, first = torch.tensor([[[-1.0], [1.0]]]), torch.ones(1, 2, dtype=torch.bool)
    with torch.no_grad():
        distribution, value, _ = practice.learner.network(obs, (), first)
    return value[0], distribution.log_probs.exp()[0, :, 1]


@pytest.mark.parametrize("corrected", [True, False])
def test_values_of_the_policy_although_another_acted(practise: Practise, corrected: bool) -> None:
    """All data is of a policy at random, whose values are 0. The best policy's are 1."""
    agent = PPO | {"num_epochs": 4, "batch_size": 128, "vtrace": "auto" if corrected else "never"}
    practice = practise({"id": "triathlon/ProbePolicy-v0", "num_envs": 8}, agent, MLP, 10_000)
    practice.collector.policy = practice.learner.policy.twin(torch.Generator().manual_seed(0))
    for _ in range(40):
        practice.learner.update(replace(practice.collector.collect(16), lag=1))
    value, probability = learned(practice)
    if corrected:
        assert value.tolist() == pytest.approx([1, 1], abs=0.1)
        assert probability[0] < 0.05 and probability[1] > 0.95
    else:  # it learns what it is worth to act at random, and keeps within the clip of that policy
        assert value.tolist() == pytest.approx([0, 0], abs=0.25)
        assert probability[0] > 0.1 and probability[1] < 0.9


def test_it_learns_although_the_policy_that_acts_is_five_updates_old(practise: Practise) -> None:
    agent = PPO | {"num_epochs": 4, "batch_size": 128}
    practice = practise({"id": "triathlon/ProbePolicy-v0", "num_envs": 8}, agent, MLP, 10_000)
    learner = practice.learner
    acting = practice.collector.policy = learner.policy.twin(torch.Generator().manual_seed(0))
    weights = [learner.policy.weights()]
    for _ in range(40):
        acting.load_weights(weights[0])
        learner.update(replace(practice.collector.collect(16), lag=len(weights) - 1))
        weights = [*weights, learner.policy.weights()][-6:]
    value, probability = learned(practice)
    assert value.tolist() == pytest.approx([1, 1], abs=0.1)
    assert probability[0] < 0.05 and probability[1] > 0.95
    assert practice.score() == 1.0
