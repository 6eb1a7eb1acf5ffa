"""DQN's targets, schedules and counting. A actions, L rows, N samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from triathlon.agents.registry import Task
from triathlon.agents.segment import Segment
from triathlon.networks.errors import SettingError

Practise = Callable[..., Any]

LINEAR = {"kind": "mlp", "hidden_sizes": []}
DQN = {
    "kind": "dqn",
    "learning_starts": 0,
    "batch_size": 4,
    "buffer_size": 200,
    "train_period": 1,
    "gamma": 0.5,
    "exploration_fraction": 0.5,
    "final_epsilon": 0.1,
}


def with_values(practice: Any, online: list[float], target: list[float]) -> None:
    """Networks that give these Q-values to every observation."""
    for network, values in ((practice.learner.network, online), (practice.learner.target, target)):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            network.head.advantage.bias.copy_(torch.tensor(values))


def goal(practice: Any, legal: list[bool] | None = None, terminated: bool = False) -> float:
    """The goal of a transition that earned 2 and led to an observation in which `legal` is allowed."""
    shape = (2, 1)
    practice.learner.replay.add(
        Segment(
            obs=torch.zeros(2, 1, practice.envs.single_observation_space.shape[0]),
            action=torch.zeros(shape, dtype=torch.long),
            reward=torch.tensor([[2.0], [0.0]]),
            terminated=torch.tensor([[terminated], [False]]),
            is_first=torch.tensor([[True], [False]]),
            legal=None if legal is None else torch.tensor([[[True] * 3], [legal]]),
        )
    )
    drawn = practice.learner.replay.sample(1)
    return float(practice.learner._goal(drawn, drawn.state))


@pytest.mark.parametrize(
    ("settings", "legal", "terminated", "expected"),
    [
        ({}, None, False, 2 + 0.5 * 30),
        ({"double": True}, None, False, 2 + 0.5 * 10),  # the online network's best is action 0
        ({}, [True, True, False], False, 2 + 0.5 * 20),
        ({"double": True}, [False, True, True], False, 2 + 0.5 * 20),  # its best legal one is action 1
        ({}, [False, False, False], False, 2 + 0.5 * 30),  # nothing legal: no mask
        ({}, None, True, 2.0),
        ({"double": True}, [False, True, True], True, 2.0),
    ],
)
def test_which_action_is_bootstrapped_from(
    practise: Practise, settings: dict[str, Any], legal: list[bool] | None, terminated: bool, expected: float
) -> None:
    practice = practise({"id": "triathlon/ProbeMask-v0", "num_envs": 1}, DQN | settings, LINEAR)
    with_values(practice, online=[3.0, 2.0, 1.0], target=[10.0, 20.0, 30.0])
    assert goal(practice, legal, terminated) == pytest.approx(expected)


def test_epsilon_falls_linearly_and_stays(practise: Practise) -> None:
    practice = practise({"id": "triathlon/ProbeTimeLimit-v0", "num_envs": 1}, DQN, LINEAR, 100)
    assert practice.learner.policy.epsilon == 1.0
    seen = {}
    for _ in range(100):
        practice.play(1)
        seen[practice.num_steps] = practice.metrics[-1]["rollout/exploration_rate"]
    assert [seen[n] for n in (10, 25, 50, 75)] == pytest.approx([0.82, 0.55, 0.1, 0.1])


def test_epsilon_one_plays_every_action_alike_and_zero_the_best(practise: Practise) -> None:
    practice = practise({"id": "triathlon/ProbeMask-v0", "num_envs": 1}, DQN, LINEAR)
    with_values(practice, online=[3.0, 2.0, 1.0], target=[0.0] * 3)
    policy, num = practice.learner.policy, 3000
    inputs = (torch.zeros(num, 2), (), torch.ones(num, dtype=torch.bool))
    counts = torch.bincount(policy.act(*inputs).action, minlength=3)
    assert (counts - num / 3).abs().max() < 100  # four standard deviations
    legal = torch.tensor([[False, True, True]]).expand(num, 3)
    counts = torch.bincount(policy.act(*inputs, legal).action, minlength=3)
    assert counts[0] == 0 and (counts[1:] - num / 2).abs().max() < 110
    policy.epsilon = 0.0
    assert (policy.act(*inputs).action == 0).all()
    assert (policy.act(*inputs, legal).action == 1).all()
    policy.epsilon = 1.0
    assert (policy.act(*inputs, deterministic=True).action == 0).all()


@pytest.mark.parametrize("num_envs", [1, 3, 8])
@pytest.mark.parametrize(("train_period", "gradient_steps"), [(4, 1), (1, 1), (16, 3), (1, 2), (10, 40)])
def test_updates_per_step_do_not_depend_on_the_number_of_environments(
    practise: Practise, num_envs: int, train_period: int, gradient_steps: int
) -> None:
    settings = DQN | {"learning_starts": 50, "train_period": train_period, "gradient_steps": gradient_steps}
    practice = practise({"id": "triathlon/ProbeTimeLimit-v0", "num_envs": num_envs}, settings, LINEAR, 200).play()
    learner = practice.learner
    steps_of_learning = practice.num_steps - 50
    assert learner._num_steps == practice.num_steps  # rows that were not played are not counted
    # A round may be owed, and the collection in which learning starts counts whole.
    slack = (train_period + learner.num_rows * num_envs) * gradient_steps / train_period
    assert abs(learner._num_updates - steps_of_learning * gradient_steps / train_period) <= slack
    assert 0 <= learner._owed < 1


@pytest.mark.parametrize("together", [True, False])
def test_the_target_follows_after_its_period(practise: Practise, together: bool) -> None:
    settings = DQN | {"target_period": 40, "double": not together, "learning_rate": 1e-2}
    practice = practise({"id": "triathlon/ProbeConstant-v0", "num_envs": 1}, settings, LINEAR, 1000)
    learner, changes = practice.learner, []
    before = learner._flat_target.data.clone()
    while practice.num_steps < 130:
        practice.play(1)
        now = learner._flat_target.data
        if not now.equal(before):
            changes.append(practice.num_steps)
            assert now.equal(learner.step.flat.data)
            before = now.clone()
        elif practice.num_steps > 5:
            assert not now.equal(learner.step.flat.data)
    assert changes == [40, 80, 120]


def test_a_soft_target_moves_by_tau(practise: Practise) -> None:
    practice = practise({"id": "triathlon/ProbeConstant-v0", "num_envs": 1}, DQN | {"tau": 0.25}, LINEAR, 100).play(3)
    learner = practice.learner
    updates, before = learner._num_updates, learner._flat_target.data.clone()
    while learner._num_updates == updates:
        practice.play(1)
    assert learner._num_updates == updates + 1
    torch.testing.assert_close(learner._flat_target.data, 0.75 * before + 0.25 * learner.step.flat.data)


def test_nothing_is_learned_before_learning_starts(practise: Practise) -> None:
    env = {"id": "triathlon/ProbeConstant-v0", "num_envs": 1}
    practice = practise(env, DQN | {"learning_starts": 30}, LINEAR, 100)
    before = practice.learner.step.flat.data.clone()
    practice.play(29)
    assert practice.learner.step.flat.data.equal(before)
    practice.play(2)
    assert not practice.learner.step.flat.data.equal(before)


def test_a_replay_that_was_not_saved_is_filled_anew_first(practise: Practise) -> None:
    env = {"id": "triathlon/ProbeConstant-v0", "num_envs": 1}
    first, second, third = (practise(env, DQN | {"learning_starts": 30}, LINEAR, 200) for _ in range(3))
    first.play(80)
    second.learner.load_state_dict(first.learner.state_dict(with_experience=False))
    before = second.learner.step.flat.data.clone()
    second.play(20)
    assert second.learner.step.flat.data.equal(before)
    third.learner.load_state_dict(second.learner.state_dict())  # stopped again meanwhile, this time with its replay
    third.play(8)
    assert third.learner.step.flat.data.equal(before)
    second.play(12)
    third.play(4)
    for practice in (second, third):
        assert not practice.learner.step.flat.data.equal(before)


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
def test_stored_states_give_what_acting_saw(practise: Practise, kind: str) -> None:
    """With unchanged weights, Q-values from a stored state after the burn-in are those of the whole episode."""
    sizes = {"width": 8, "num_heads": 2} if kind == "transformer" else {"hidden_size": 8}
    settings = DQN | {"segment_length": 4, "burn_in": 3, "learning_starts": 10_000, "normalize_obs": False}
    env = {"id": "CartPole-v1", "num_envs": 2, "max_episode_steps": 9}
    practice = practise(env, settings, {"kind": kind, **sizes}, 10_000)
    learner, segments = practice.learner, []
    for _ in range(12):
        segments.append(practice.collector.collect(learner.num_rows))
        learner.replay.add(segments[-1])
    network = learner.network
    obs = torch.cat([s.obs[:-1] for s in segments])
    is_first = torch.cat([s.is_first[:-1] for s in segments])
    with torch.no_grad():
        whole = network(obs, network.initial_state(2), is_first)
        sample = learner.replay.sample(16)
        rows = slice(learner.burn_in, learner.burn_in + learner.length)
        burn = slice(0, learner.burn_in)
        state = network.advance(sample.segment.obs[burn], sample.state, sample.segment.is_first[burn])
        values = network(sample.segment.obs[rows], state, sample.segment.is_first[rows])
    checked = 0
    for i in range(16):
        for t in range(learner.length):
            same = (obs == sample.segment.obs[rows][t, i]).all(-1)
            if same.sum() == 1:
                torch.testing.assert_close(values[t, i], whole[same][0], atol=1e-5, rtol=1e-5)
                checked += 1
    assert checked > 40


def test_the_replay_keeps_rewards_as_they_were_paid(practise: Practise) -> None:
    """Statistics move on while a transition lies in the replay: alike transitions have alike returns."""
    practice = practise({"id": "CartPole-v1", "num_envs": 1}, DQN | {"normalize_reward": True, "gamma": 0.99}, LINEAR)
    practice.play(100)
    drawn = practice.learner.replay.sample(64)
    assert drawn.segment.reward[0].unique().tolist() == [1.0]
    expected = practice.learner.reward_scaler.scale(torch.ones(1).numpy()).item()
    assert expected < 0.5
    torch.testing.assert_close(drawn.returns, torch.full_like(drawn.returns, expected))


def test_double_precision_on_a_device_without_it(practise: Practise) -> None:
    with pytest.raises(SettingError, match="device: mps has not; set device to cpu"):
        practise("CartPole-v1", DQN | {"normalize_obs": True}, LINEAR, device="mps")


def test_a_gpu_that_has_no_pictures_to_keep(practise: Practise) -> None:
    config = practise("CartPole-v1", DQN, LINEAR).learner.config
    space = gym.spaces.Box(0, 1, (4,))
    task = Task(space, gym.spaces.Discrete(2), 1, 100, np.random.SeedSequence(0), torch.device("cuda"))
    config.check(task)
    with pytest.raises(SettingError, match=r"replay_device: gpu keeps pictures .* there are none"):
        replace(config, replay_device="gpu").check(task)


@pytest.mark.parametrize("rescale", [True, False])
def test_a_search_is_told_returns_also_where_their_roots_are_learned(practise: Practise, rescale: bool) -> None:
    """h(8) = sqrt(9) - 1 + 0.008 = 2.008, h(-3) = -(sqrt(4) - 1) - 0.003 = -1.003."""
    env = {"id": "triathlon/ProbeMask-v0", "num_envs": 1}
    practice = practise(env, DQN | {"value_rescale": rescale}, LINEAR)
    with_values(practice, online=[2.008, -1.003, 0.0] if rescale else [8.0, -3.0, 0.0], target=[0.0] * 3)
    policy, is_first = practice.learner.policy, torch.ones(2, dtype=torch.bool)
    legal = torch.tensor([[True, True, True], [False, True, True]])
    log_probs, value = policy.assess(torch.zeros(2, 2), (), is_first, legal)
    torch.testing.assert_close(value, torch.tensor([8.0, 0.0]), atol=1e-4, rtol=0)
    returns = torch.tensor([[8.0, -3.0, 0.0], [-torch.inf, -3.0, 0.0]])
    torch.testing.assert_close(log_probs, (returns / 0.1).log_softmax(-1), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("num_envs", "extra", "sentence"),
    [
        (
            2,
            {"segment_length": 4, "burn_in": 2},
            r"agent\.burn_in is 2, but nothing reads it unless the backbone has a ",
        ),
        (
            1,
            {"epsilon_alpha": 7.0},
            r"agent\.epsilon_alpha is 7\.0, .* unless there are several environments \(env\.num",
        ),
    ],
)
def test_settings_that_nothing_reads(practise: Practise, num_envs: int, extra: dict[str, Any], sentence: str) -> None:
    env = {"id": "CartPole-v1", "num_envs": num_envs}
    with pytest.raises(SettingError, match=sentence):
        practise(env, DQN | extra, LINEAR)
    practise(env, DQN | {"segment_length": 4, "burn_in": 0}, LINEAR)  # what it is anyway, without a memory
    practise({"id": "CartPole-v1", "num_envs": 2}, DQN | extra, {"kind": "lstm", "hidden_size": 8})
