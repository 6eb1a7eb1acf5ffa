"""Exploration spread over environments and priorities from what acting saw (Ape-X). T rows, B columns, N samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triathlon.agents.priorities import SMALLEST_ERROR
from triathlon.agents.replay import Replay
from triathlon.agents.segment import Segment
from triathlon.networks.errors import SettingError

Practise = Callable[..., Any]

LINEAR = {"kind": "mlp", "hidden_sizes": []}
DQN = {"kind": "dqn", "learning_starts": 0, "buffer_size": 200, "train_period": 1, "batch_size": 4}
APEX = DQN | {"initial_epsilon": 0.4, "final_epsilon": 0.4, "epsilon_alpha": 7.0}
ERRORS_SEEN = DQN | {"prioritized": True, "initial_priority": "td_error"}


def with_values(practice: Any, values: list[float]) -> None:
    """A network that gives these Q-values to every observation."""
    with torch.no_grad():
        for parameter in practice.learner.network.parameters():
            parameter.zero_()
        practice.learner.network.head.advantage.bias.copy_(torch.tensor(values))


@pytest.mark.parametrize(
    ("num_envs", "epsilons"),
    # .4^(1 + 7 i/(N-1)): .4^1, .4^4.5, .4^8
    [(2, [0.4, 0.00065536]), (3, [0.4, 0.0161908629, 0.00065536])],
)
def test_epsilon_of_each_environment(practise: Practise, num_envs: int, epsilons: list[float]) -> None:
    practice = practise({"id": "triathlon/ProbeTimeLimit-v0", "num_envs": num_envs}, APEX, LINEAR, 100).play(5)
    assert practice.learner.policy.epsilons().tolist() == pytest.approx(epsilons)
    assert practice.metrics[-1]["rollout/exploration_rate"] == pytest.approx(sum(epsilons) / num_envs)


def test_a_worker_explores_as_its_columns_do(practise: Practise) -> None:
    practice = practise({"id": "triathlon/ProbeMask-v0", "num_envs": 3}, APEX, LINEAR)
    with_values(practice, [3.0, 2.0, 1.0])
    policy = practice.learner.policy.twin(torch.Generator().manual_seed(0))
    policy.set_columns(1, 3)  # .4^4.5 and .4^8
    policy.load_acting_state({"epsilon": 0.9})  # now .9^4.5 = .6225 and .9^8 = .4305: 2/3 of them are not action 0
    obs, is_first = torch.zeros(2, 2), torch.ones(2, dtype=torch.bool)
    others = torch.stack([policy.act(obs, (), is_first).action != 0 for _ in range(2000)]).float().mean(0)
    assert others.tolist() == pytest.approx([0.6225 * 2 / 3, 0.4305 * 2 / 3], abs=0.045)  # four standard deviations


def test_the_acting_state_travels(practise: Practise) -> None:
    env = {"id": "triathlon/ProbeTimeLimit-v0", "num_envs": 2}
    first, second = (practise(env, DQN | {"exploration_fraction": 0.5}, LINEAR, 100) for _ in range(2))
    first.play(20)
    state = first.learner.policy.acting_state()
    assert state == {"epsilon": pytest.approx(0.62)}  # 20 of the 50 steps over which it falls from 1 to .05
    second.learner.policy.load_acting_state(state)
    assert second.learner.policy.acting_state() == state
    ppo = practise("CartPole-v1", {"kind": "ppo"}, LINEAR).learner.policy
    assert ppo.acting_state() == {}
    ppo.load_acting_state({})


def test_decisions_carry_the_values_seen(practise: Practise) -> None:
    practice = practise({"id": "triathlon/ProbeMask-v0", "num_envs": 1}, ERRORS_SEEN | {"train_period": 16}, LINEAR)
    values = torch.tensor([1.0, 2.0, 30.0])
    with_values(practice, values.tolist())
    segment = practice.collector.collect(16)
    assert len(segment.action[:-1].unique()) > 1
    assert segment.extras["q_taken"][:-1].equal(values[segment.action[:-1]])
    best = torch.where(segment.legal, values, -torch.inf).amax(-1)
    assert segment.extras["q_best"][:-1].equal(best[:-1]) and len(best.unique()) > 1


def rows(
    reward: list[float], taken: list[float], best: list[float], terminated: list[int], is_first: list[int]
) -> Segment:
    """One column; the last row was seen only."""

    def column(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor(values).to(dtype).unsqueeze(1)

    return Segment(
        obs=torch.zeros(len(reward), 1, 2),
        action=torch.zeros(len(reward), 1, dtype=torch.long),
        reward=column(reward),
        terminated=column(terminated, torch.bool),
        is_first=column(is_first, torch.bool),
        extras={"q_taken": column(taken), "q_best": column(best)},
    )


# Episode one is rows 0-2 (row 2 its last observation), terminated; episode two begins at row 3; row 6 is only seen.
STREAM = rows(
    reward=[1, 2, 0, 4, 8, 16, 0],
    taken=[10, 20, 30, 40, 50, 60, 0],
    best=[11, 21, 31, 41, 51, 61, 0],
    terminated=[0, 1, 0, 0, 0, 0, 0],
    is_first=[1, 0, 0, 1, 0, 0, 0],
)


def priorities(replay: Replay, num: int) -> list[float]:
    """The priorities of the first starts, with exponent 1 the errors."""
    assert replay._priorities is not None
    return [p and p - SMALLEST_ERROR for p in replay._priorities.tree.get(np.arange(num)).tolist()]


def replay(**options: Any) -> Replay:
    settings = {"gamma": 0.5, "prioritized": True, "priority_exponent": 1.0, "values_seen": True, "contiguous": False}
    return Replay(100, **(settings | options), generator=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("n_step", "expected"),
    [
        # 1 + .5*21 - 10 = 1.5; 2 - 20 = -18; not played; 4 + .5*51 - 40 = -10.5; 8 + .5*61 - 50 = -11.5; row 5 waits
        (1, [1.5, 18, 0, 10.5, 11.5, 0]),
        # 1 + .5*2 - 10 = -8; -18; not played; 4 + .5*8 + .25*61 - 40 = -16.75; rows 4 and 5 wait
        (2, [8, 18, 0, 16.75, 0, 0]),
    ],
)
def test_priorities_from_values_seen(n_step: int, expected: list[float]) -> None:
    memory = replay(n_step=n_step)
    memory.add(STREAM)
    assert priorities(memory, 6) == pytest.approx(expected)


def test_priorities_of_sequences_from_values_seen() -> None:
    # Rows 1 to 3 after a burn-in of one: errors 18, not played, 10.5: .9*18 + .1*(28.5/2) = 17.625
    memory = replay(contiguous=True, burn_in=1, length=3)
    memory.add(STREAM)
    assert priorities(memory, 1) == pytest.approx([17.625])


def test_priorities_on_the_rescaled_scale() -> None:
    """h(4 + .5 * h⁻¹(51)) - 40 with h⁻¹(51) = 2460.0436 and h(1234.0218) = 35.3762."""
    memory = replay(value_rescale=True)
    memory.add(STREAM)
    inverse = ((np.sqrt(1 + 4e-3 * (51 + 1 + 1e-3)) - 1) / 2e-3) ** 2 - 1  # Pohlen et al. 2018, proposition A.2
    goal = 4 + 0.5 * inverse
    error = np.sqrt(goal + 1) - 1 + 1e-3 * goal - 40
    assert priorities(memory, 4)[3] == pytest.approx(abs(error), rel=1e-4)


@given(st.integers(1, 3), st.booleans(), st.lists(st.integers(1, 3), min_size=1, max_size=6), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_it_does_not_matter_how_rows_are_cut_into_segments(
    n_step: int, contiguous: bool, cuts: list[int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    num_rows = sum(cuts)
    reward, taken, best = generator.normal(size=(3, num_rows + 1)).tolist()
    is_first = (generator.random(num_rows + 1) < 0.3).tolist()
    options = {"n_step": n_step, "contiguous": contiguous, "length": 2 if contiguous else 1}
    whole, parts = replay(**options), replay(**options)
    segment = rows(reward, taken, best, [0] * (num_rows + 1), is_first)
    whole.add(segment)
    start = 0
    for length in cuts:

        def part(x: Tensor, first: int = start, length: int = length) -> Tensor:
            return x[first : first + length + 1].clone()

        piece = segment.map(part)
        for values in piece.extras.values():
            values[-1] = 0.0  # nothing was decided there yet
        parts.add(piece)
        start += length
    assert parts.num_sampleable == whole.num_sampleable
    if whole._priorities is not None and parts._priorities is not None:
        leaves = np.arange(num_rows)
        np.testing.assert_allclose(parts._priorities.tree.get(leaves), whole._priorities.tree.get(leaves), rtol=1e-6)


def test_it_learns_and_goes_on_from_what_it_saved(practise: Practise) -> None:
    learning = {"learning_rate": 1e-2, "batch_size": 32, "target_period": 25, "gamma": 0.5, "epsilon_alpha": 2.0}
    env = {"id": "triathlon/ProbeAction-v0", "num_envs": 8}
    practice = practise(env, ERRORS_SEEN | learning | {"buffer_size": 1000}, LINEAR, 1000).play()
    assert practice.score() == 1.0
    other = practise(env, ERRORS_SEEN | learning | {"buffer_size": 1000}, LINEAR, 1000)
    other.learner.load_state_dict(practice.learner.state_dict())
    assert other.learner.replay.sample(8).index.equal(practice.learner.replay.sample(8).index)


def test_cross_entropies_and_errors_do_not_mix(practise: Practise) -> None:
    head = {"kind": "c51", "v_min": 0.0, "v_max": 1.0}
    with pytest.raises(SettingError, match=r"agent\.initial_priority: td_error compares values"):
        practise("CartPole-v1", ERRORS_SEEN | {"head": head}, LINEAR)
    with pytest.raises(SettingError, match=r"nothing reads it unless agent\.prioritized is true"):
        practise("CartPole-v1", ERRORS_SEEN | {"prioritized": False}, LINEAR)
