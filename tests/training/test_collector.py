"""What the collector writes down, row by row. T rows, B environments."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from triathlon.agents.actor_critic import ActorCritic, ActorCriticPolicy
from triathlon.agents.agent import Decision
from triathlon.agents.segment import Segment
from triathlon.envs import EnvConfig, make_envs
from triathlon.envs.errors import EnvError
from triathlon.networks.registry import BackboneConfig
from triathlon.training.collector import Collector
from triathlon.training.env_group import Episode


class Counting(gym.Env):
    """Shows 10 * episode + t and the last action; pays t; the episode ends after `lengths[episode]` steps."""

    observation_space: spaces.Space = spaces.Box(-100, 1000, (2,), np.float64)
    action_space: spaces.Space = spaces.Discrete(3, start=5)

    def __init__(self, lengths: tuple[int, ...], terminates: bool, masked: bool = False) -> None:
        self.lengths, self.terminates, self.masked, self.episode, self.action = lengths, terminates, masked, -1, 0.0

    def _obs(self) -> Any:
        return np.array([10.0 * self.episode + self.t, self.action])

    def _info(self) -> dict[str, Any]:
        return {"action_mask": np.arange(3) != self.t % 3} if self.masked else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t, self.action = self.episode + 1, 0, 0.0
        return self._obs(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.t, self.action = self.t + 1, float(np.sum(action))
        over = self.t == self.lengths[self.episode % len(self.lengths)]
        return self._obs(), float(self.t), over and self.terminates, over and not self.terminates, self._info()


class Adder:
    """Acts 0, 1, 2, 0, … by how often it has acted; remembers the sum of what it saw since the episode began."""

    def __init__(self, offset: int = 5) -> None:
        self.generator, self.offset, self.count = torch.Generator(), offset, 0
        self.seen: list[tuple[Any, Tensor, Tensor | None]] = []
        self.columns, self.acted_in = (0, 9), list[tuple[int, int]]()

    def set_columns(self, first: int, total: int) -> None:
        self.columns = first, total

    def steady(self) -> AbstractContextManager[None]:
        return nullcontext()

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        return (torch.zeros(batch_size),)

    def act(
        self, obs: Any, state: Any, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        self.seen.append((obs, is_first.clone(), legal))
        self.acted_in.append(self.columns)
        total = torch.where(is_first, 0.0, state[0]) + obs[:, 0]
        action = torch.full((len(is_first),), self.count % 3)
        self.count += 1
        return Decision(action, (total,), {"log_prob": -0.5 * torch.ones(len(is_first))})

    def env_action(self, action: np.ndarray) -> np.ndarray:
        return action + self.offset


def collector(*envs: gym.Env, period: int = 1) -> Collector:
    def making(env: gym.Env) -> Callable[[], gym.Env]:
        return lambda: env

    vector = SyncVectorEnv([making(env) for env in envs], autoreset_mode=AutoresetMode.NEXT_STEP)
    return Collector(vector, Adder(), seed=0, state_period=period)  # type: ignore[arg-type]


def column(segment: Segment, b: int) -> dict[str, list[Any]]:
    names = ("action", "reward", "terminated", "is_first")
    return {"obs": segment.obs[:, b, 0].tolist()} | {
        name: getattr(segment, name)[:, b].int().tolist() for name in names
    }


def test_rows_at_the_end_of_episodes() -> None:
    """Column 0 terminates after 2 steps, then 1; column 1 is cut off after 3."""
    collect = collector(Counting((2, 1), terminates=True), Counting((3,), terminates=False), period=2)
    segment = collect.collect(6)
    assert column(segment, 0) == {
        "obs": [0, 1, 2, 10, 11, 20, 21],
        "action": [0, 1, 2, 0, 1, 2, 0],
        "reward": [1, 2, 0, 1, 0, 1, 0],
        "terminated": [0, 1, 0, 1, 0, 0, 0],
        "is_first": [1, 0, 0, 1, 0, 1, 0],
    }
    assert column(segment, 1) == {
        "obs": [0, 1, 2, 3, 10, 11, 12],
        "action": [0, 1, 2, 0, 1, 2, 0],
        "reward": [1, 2, 3, 0, 1, 2, 0],
        "terminated": [0, 0, 0, 0, 0, 0, 0],
        "is_first": [1, 0, 0, 0, 1, 0, 0],
    }
    assert segment.valid.T.int().tolist() == [[1, 1, 0, 1, 0, 1], [1, 1, 1, 0, 1, 1]]
    assert (segment.num_rows, segment.num_columns, segment.num_steps) == (6, 2, 9)
    assert collect.take_episodes() == [Episode(3.0, 2), Episode(6.0, 3), Episode(1.0, 1)]
    assert collect.take_episodes() == []
    assert segment.extras["log_prob"].tolist() == [[-0.5, -0.5]] * 6 + [[0.0, 0.0]]
    assert segment.obs.dtype == torch.float32 and segment.legal is None
    # The sums of what was seen before rows 0, 2 and 4.
    assert segment.state_period == 2
    assert segment.state[0].tolist() == [[0, 0], [1, 1], [13 - 3, 6]] or segment.state[0].tolist() == [
        [0, 0],
        [1, 1],
        [10, 6],
    ]


class Teaching(Counting):
    """Pays the learner a tenth with the other sign, and tells it that the episode ended after every second step."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        lesson = {"learning_reward": -0.1 * reward, "learning_terminated": terminated or self.t % 2 == 0}
        return obs, reward, terminated, truncated, info | lesson


def test_the_learner_is_told_what_the_environment_wants_it_to_learn_and_the_score_stays() -> None:
    collect = collector(Teaching((3,), terminates=True))
    segment = collect.collect(6)
    torch.testing.assert_close(segment.reward[:, 0], torch.tensor([-0.1, -0.2, -0.3, 0.0, -0.1, -0.2, 0.0]))
    assert column(segment, 0)["terminated"] == [0, 1, 1, 0, 0, 1, 0]
    assert column(segment, 0)["is_first"] == [1, 0, 0, 0, 1, 0, 0]
    assert collect.take_episodes() == [Episode(6.0, 3)]


def test_row_0_is_row_t_of_the_segment_before() -> None:
    make = lambda: (Counting((2, 1, 4), terminates=True), Counting((3,), terminates=False))  # noqa: E731
    whole, parts = collector(*make()), collector(*make())
    once = whole.collect(10)
    pieces = [parts.collect(n) for n in (3, 1, 4, 2)]
    for first, second in pairwise(pieces):
        assert first.obs[-1].equal(second.obs[0]) and first.is_first[-1].equal(second.is_first[0])
    for name in ("obs", "action", "reward", "terminated", "is_first"):
        joined = torch.cat([getattr(piece, name)[:-1] for piece in pieces])
        assert joined.equal(getattr(once, name)[:-1])
    assert torch.cat([piece.state[0] for piece in pieces]).equal(once.state[0])
    assert whole.take_episodes() == parts.take_episodes()


def test_masks_stand_at_the_row_in_which_they_hold() -> None:
    collect = collector(Counting((3,), terminates=True, masked=True))
    segment = collect.collect(5)
    times = [0, 1, 2, 3, 0, 1]
    assert segment.legal is not None and segment.legal.dtype == torch.bool
    assert segment.legal[:, 0].tolist() == [[t % 3 != a for a in range(3)] for t in times]
    given = [legal[0].tolist() for _, _, legal in collect.policy.seen]  # type: ignore[attr-defined]
    assert given == segment.legal[:-1, 0].tolist()


def test_groups_are_columns_side_by_side() -> None:
    """Groups that take turns give what each gives alone, also where one is slow."""

    class Slow(Counting):
        def step(self, action: Any) -> Any:
            time.sleep(0.002)
            return super().step(action)

    class Looker(Adder):  # acts by what it sees, so the order of the groups does not matter
        def act(self, obs: Any, *others: Any, **options: Any) -> Decision:
            decision = super().act(obs, *others, **options)
            decision.action = obs[:, 0].long() % 3
            return decision

    def vector(*envs: gym.Env) -> SyncVectorEnv:
        return SyncVectorEnv([partial(lambda env: env, env) for env in envs], autoreset_mode=AutoresetMode.NEXT_STEP)

    def make() -> tuple[SyncVectorEnv, SyncVectorEnv]:
        return (
            vector(Counting((2, 5), terminates=True, masked=True), Counting((3,), terminates=False, masked=True)),
            vector(Slow((4, 1), terminates=True, masked=True)),
        )

    policy = Looker()
    policy.set_columns(4, 9)  # as a worker's, whose environments are not the first of the run
    together = Collector(make(), policy, seed=0, state_period=2)  # type: ignore[arg-type]
    alone = [Collector(envs, Looker(), seed=0, state_period=2) for envs in make()]  # type: ignore[arg-type]
    for num_rows in (4, 6):
        whole, parts = together.collect(num_rows), [each.collect(num_rows) for each in alone]
        for name in ("obs", "action", "reward", "terminated", "is_first", "legal"):
            assert torch.cat([getattr(part, name) for part in parts], 1).equal(getattr(whole, name)), name
        assert torch.cat([part.extras["log_prob"] for part in parts], 1).equal(whole.extras["log_prob"])
        assert torch.cat([part.state[0] for part in parts], 1).equal(whole.state[0])
    assert policy.acted_in == [(4, 9), (6, 9)] * 10 and policy.columns == (4, 9)
    ended = [each.take_episodes() for each in alone]
    assert sorted(together.take_episodes(), key=str) == sorted(ended[0] + ended[1], key=str)
    together.close()


def test_an_error_in_a_groups_thread_is_raised() -> None:
    class Broken(Counting):
        def step(self, action: Any) -> Any:
            raise ZeroDivisionError("the motor is hot")

    parts = [
        SyncVectorEnv([partial(cls, (3,), terminates=True)], autoreset_mode=AutoresetMode.NEXT_STEP)
        for cls in (Counting, Broken)
    ]
    with pytest.raises(EnvError, match="cannot step: it raised ZeroDivisionError: the motor is hot"):
        Collector(parts, Adder(), seed=0).collect(3)  # type: ignore[arg-type]


def test_a_restart_begins_new_episodes_whatever_had_just_ended() -> None:
    collect = collector(Counting((2,), terminates=True), Counting((5,), terminates=True))
    collect.collect(2)  # the next step would have reset column 0
    collect.take_episodes()
    collect.restart(seed=1)
    segment = collect.collect(3)
    assert segment.is_first.T.int().tolist() == [[1, 0, 0, 1], [1, 0, 0, 0]]
    assert segment.state[0][0].tolist() == [0, 0]
    assert collect.take_episodes() == [Episode(3.0, 2)]


def test_state_dict_goes_on_to_the_bit() -> None:
    def fresh() -> Collector:
        envs = make_envs(EnvConfig("triathlon/CueRecall-v0", num_envs=3, kwargs={"delay": 2}))
        policy = Adder(offset=0)
        policy.env_action = lambda action: action % 2  # type: ignore[method-assign]
        return Collector(envs, policy, seed=5)  # type: ignore[arg-type]

    one, two = fresh(), fresh()
    one.collect(7)
    saved = one.state_dict()
    assert saved is not None
    two.load_state_dict(saved)
    two.policy.count = one.policy.count  # type: ignore[attr-defined]
    one.take_episodes()
    first, second = one.collect(9), two.collect(9)
    for name in ("obs", "action", "reward", "terminated", "is_first"):
        assert getattr(first, name).equal(getattr(second, name))
    assert first.state[0].equal(second.state[0])
    assert one.take_episodes() == two.take_episodes() != []


FAULTY = """
import gymnasium as gym
import numpy as np

class Faulty(gym.Env):
    observation_space = gym.spaces.Dict(a=gym.spaces.Box(-1, 1, (2,), np.float32), b=gym.spaces.Discrete(2))
    action_space = gym.spaces.Discrete(3)
    def __init__(self, fault):
        self.fault = fault
    def _obs(self):
        a = np.array([0, np.inf if self.fault == "obs" and self.t == 2 else 0], np.float32)
        return {"a": a, "b": 1}
    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._obs(), {}
    def step(self, action):
        self.t += 1
        if self.fault == "step":
            raise ZeroDivisionError("the motor is hot")
        reward = float("nan") if self.fault == "reward" and self.t == 3 else 0.0
        return self._obs(), reward, False, False, {}
"""


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("reward", "collected_env:Faulty gave what is not finite: the reward of environment 0 is nan at row 2"),
        (
            "obs",
            "collected_env:Faulty gave what is not finite: the observation['a'] of environment 0 is [ 0. inf] at row 2",
        ),
        ("step", "collected_env:Faulty cannot step: it raised ZeroDivisionError: the motor is hot"),
    ],
)
def test_an_environment_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, sentence: str
) -> None:
    (tmp_path / "collected_env.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    envs = make_envs(EnvConfig("collected_env:Faulty", num_envs=2, kwargs={"fault": fault}))
    policy = Adder(offset=0)
    policy.act = lambda obs, state, *_: Decision(torch.zeros(2, dtype=torch.long), state)  # type: ignore[assignment]
    with pytest.raises(EnvError) as raised:
        Collector(envs, policy, seed=0).collect(4)  # type: ignore[arg-type]
    assert str(raised.value).startswith(sentence)
    assert (fault == "step") is isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32)), [3.0, -0.5], [1.0, 0.0]),
        (spaces.MultiDiscrete([3, 2], start=[1, 0]), [2, 0], [3, 0]),
        (spaces.Discrete(3, start=5), 2, 7),
        (spaces.MultiBinary(2), [1, 0], [1, 0]),
    ],
)
def test_the_environment_gets_an_action_of_its_space(space: spaces.Space, action: Any, expected: Any) -> None:
    """What is stored is what the policy decided; what is played is clipped to the box, or counted from the start."""
    env, played = Counting((4,), terminates=True), []
    env.action_space = space
    step = env.step

    def watched(action: Any) -> Any:
        played.append(action)
        return step(action)

    env.step = watched  # type: ignore[method-assign]
    collect = collector(env)
    network = ActorCritic(env.observation_space, space, BackboneConfig(), True, False, "free", 0.0)
    real = ActorCriticPolicy(network, space, torch.Generator())
    collect.policy.env_action = real.env_action  # type: ignore[method-assign]
    collect.policy.act = lambda obs, state, *_: Decision(torch.tensor([action]), state)  # type: ignore[assignment, method-assign]
    segment = collect.collect(2)
    assert segment.action[0, 0].tolist() == action
    assert np.asarray(played[0]).tolist() == expected
