"""A saved environment goes on exactly where it was, in the same object and in a fresh one, or says that it cannot."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from triathlon.envs import EnvConfig, EnvError, make_envs, restore, state_of
from triathlon.envs.state import decode, encode

EXACT = [
    EnvConfig("CartPole-v1", num_envs=3),
    EnvConfig("CartPole-v1", num_envs=3, hide="velocities"),
    EnvConfig("CartPole-v1", num_envs=3, vectorization="sync"),
    EnvConfig("Acrobot-v1", num_envs=2, max_episode_steps=40),
    EnvConfig("Pendulum-v1", num_envs=2, max_episode_steps=40),
    EnvConfig("MountainCar-v0", num_envs=2, max_episode_steps=40),
    EnvConfig("triathlon/CueRecall-v0", num_envs=3),
    EnvConfig("triathlon/TMaze-v0", num_envs=3),
    EnvConfig("triathlon/RepeatPrevious-v0", num_envs=3),
    EnvConfig("triathlon/CartPolePixels-v0", num_envs=3),
    EnvConfig("triathlon/CartPolePixels-v0", num_envs=3, vectorization="sync"),
    EnvConfig("triathlon/ProbeMask-v0", num_envs=3),
    EnvConfig("MinAtar/Seaquest-v1", num_envs=2),
    EnvConfig("MinAtar/SpaceInvaders-v1", num_envs=2),
    EnvConfig("HalfCheetah-v5", num_envs=2, max_episode_steps=40),
    EnvConfig("Ant-v5", num_envs=2, max_episode_steps=40),
    EnvConfig("Hopper-v5", num_envs=2),
]


def steps(envs, actions):
    return [[np.array(x) for x in envs.step(a)[:4]] for a in actions]


def through_disk(value):
    """What JSON and npz leave of a state: the same values in new objects."""
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)
        return {key: through_disk(v) for key, v in value.items()}
    if isinstance(value, list):
        return [through_disk(v) for v in value]
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "biuf"
        return value.copy()
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("config", EXACT, ids=lambda c: f"{c.id}-{c.vectorization}-{c.hide}")
def test_fifty_steps_are_the_same_after_restoring(config):
    if config.id.startswith("MinAtar"):
        pytest.importorskip("minatar")
    if config.id.endswith("-v5"):
        pytest.importorskip("mujoco")
    envs = make_envs(config)
    envs.reset(seed=3)
    envs.action_space.seed(0)
    steps(envs, [envs.action_space.sample() for _ in range(30)])
    state = state_of(envs)
    assert state is not None
    state = through_disk(state)
    actions = [envs.action_space.sample() for _ in range(50)]
    expected = steps(envs, actions)
    assert any(e[2].any() or e[3].any() for e in expected) or config.id.startswith("MinAtar")
    for again in (envs, make_envs(config)):
        restore(again, state)
        for got, wanted in zip(steps(again, actions), expected, strict=True):
            assert all(np.array_equal(g, w) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize(
    "config",
    [EnvConfig("LunarLander-v3", num_envs=1), EnvConfig("CartPole-v1", num_envs=1, vectorization="process")],
    ids=["box2d", "process"],
)
def test_what_cannot_be_saved_exactly_is_not_saved(config):
    if config.id.startswith("Lunar"):
        pytest.importorskip("Box2D")
    envs = make_envs(config)
    envs.reset(seed=0)
    assert state_of(envs) is None
    envs.close()


def test_a_state_of_other_environments_is_refused():
    state = state_of(make_envs(EnvConfig("CartPole-v1", num_envs=2)))
    with pytest.raises(EnvError, match=r"they differ in .*CartPoleVectorEnv of 2, 1 CartPoleVectorEnv of 3"):
        restore(make_envs(EnvConfig("CartPole-v1", num_envs=3)), state)


class Telling(gym.Env):
    """Counts to 9, and tells its state by methods of its own, if it has them both."""

    observation_space = gym.spaces.Box(0, 9, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.number = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number = 0
        return self._obs(), {}

    def step(self, action):
        self.number += 1
        return self._obs(), 1.0, self.number == 9, False, {}

    def _obs(self):
        return np.array([self.number], np.float32)


class TellsTheObservation(Telling):
    """A name that many environments have for something else."""

    def get_state(self):
        return self._obs()


class TellsSomethingElse(Telling):
    def get_state(self):
        return {"pole": self.number}


class TellsInKeysOfItsOwn(Telling):
    """Keys that are no text, tuples and a generator do not pass through JSON as they are."""

    def get_state(self):
        return {0: (self.number, None), "random": self.np_random}

    def set_state(self, state):
        (self.number, _), self.np_random = state[0], state["random"]
        assert isinstance(state[0], tuple)


@pytest.mark.parametrize("kind", [Telling, TellsTheObservation, TellsSomethingElse, TellsInKeysOfItsOwn])
def test_an_environments_own_methods_are_used_where_both_are_there(kind):
    config = EnvConfig(f"{__name__}:{kind.__name__}", num_envs=2)
    envs, again = make_envs(config), make_envs(config)
    envs.reset(seed=0)
    again.reset(seed=1)
    actions = [np.zeros(2, np.int64)] * 5
    steps(envs, actions)
    state = state_of(envs)
    assert state is not None
    restore(again, through_disk(state))
    for got, wanted in zip(steps(again, actions), steps(envs, actions), strict=True):
        assert all(np.array_equal(g, w) for g, w in zip(got, wanted, strict=True))


class TellsNoDict(Telling):
    def get_state(self):
        return [self.number]

    def set_state(self, state):
        (self.number,) = state


class TellsWhatCannotBeKept(Telling):
    def get_state(self):
        return {"number": bytes([self.number])}

    def set_state(self, state):
        (self.number,) = state["number"]


@pytest.mark.parametrize("kind", [TellsNoDict, TellsWhatCannotBeKept])
def test_a_state_that_no_file_can_hold_counts_as_none(kind):
    envs = make_envs(EnvConfig(f"{__name__}:{kind.__name__}", num_envs=2))
    envs.reset(seed=0)
    assert state_of(envs) is None


@pytest.mark.parametrize("kind", [list, tuple, deque])
@pytest.mark.parametrize(
    ("items", "is_short"),
    [
        ([0.1 * i for i in range(1_000)], True),
        ([7 - i for i in range(1_000)], True),
        ([2**70 + i for i in range(100)], False),
        ([float(i) if i % 2 else i for i in range(100)], False),
        ([True, False] * 50, False),
        ([1.5, 2.5], False),
    ],
)
def test_long_lists_of_numbers_take_the_room_of_arrays(kind: Any, items: list[float], is_short: bool) -> None:
    encoded = encode(kind(items))
    assert isinstance(encoded["value"], np.ndarray) is is_short
    found = decode(encoded)
    assert type(found) is kind and list(found) == items
    assert [type(item) for item in found] == [type(item) for item in items]
