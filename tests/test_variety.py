"""Things that nobody named: odd spaces, masks, short episodes and other people's files just work, for every agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

Practise = Callable[..., Any]

PPO = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 2}
DQN = {"kind": "dqn", "learning_starts": 32, "batch_size": 16, "buffer_size": 500, "train_period": 8}
PQN = {"kind": "pqn", "num_steps": 16, "batch_size": 32}
AGENTS = {
    "ppo": PPO,
    "dqn": DQN,
    "rainbow": DQN | {"prioritized": True, "n_step": 3, "double": True, "head": {"kind": "c51", "dueling": True}},
    "pqn": PQN,
}
MLP = {"kind": "mlp", "hidden_sizes": [16]}
MEMORIES = {
    "lstm": {"kind": "lstm", "hidden_size": 8},
    "gru": {"kind": "gru", "hidden_size": 8},
    "transformer": {"kind": "transformer", "width": 8, "num_heads": 2, "num_layers": 1, "memory_length": 4},
}

FILE = '''
import gymnasium as gym
import numpy as np
from gymnasium import spaces

EYE = spaces.Box(0, 255, (12, 12, 3), np.uint8)
OBSERVATIONS = {
    "image and vector": spaces.Dict(eye=EYE, body=spaces.Box(-1, 1, (3,), np.float32)),
    "nested": spaces.Dict(inner=spaces.Dict(eye=EYE, word=spaces.Discrete(4, start=2)), bits=spaces.MultiBinary(3)),
    "tuple": spaces.Tuple((spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4))),
    "tuple in dict": spaces.Dict(pair=spaces.Tuple((spaces.Discrete(4), EYE)), body=spaces.Box(-1, 1, (2,))),
    "multi-discrete": spaces.MultiDiscrete([3, 5]),
    "multi-binary": spaces.MultiBinary(6),
    "discrete with start": spaces.Discrete(5, start=-2),
    "float64": spaces.Box(-1, 1, (4,), np.float64),
    "float16": spaces.Box(-1, 1, (4,), np.float16),
    "scalar": spaces.Box(-1, 1, (), np.float32),
    "unbounded": spaces.Box(-np.inf, np.inf, (4,), np.float32),
    "uint8 vector": spaces.Box(0, 255, (5,), np.uint8),
    "int64 vector": spaces.Box(-9, 9, (5,), np.int64),
    "uint16 picture": spaces.Box(0, 1000, (12, 12, 1), np.uint16),
    "bool grid": spaces.Box(0, 1, (6, 6, 2), bool),
    "channels first": spaces.Box(0, 255, (3, 16, 12), np.uint8),
    "matrix": spaces.Box(-1, 1, (2, 3), np.float32),
    "grey picture": spaces.Box(0, 255, (16, 16), np.uint8),
    "float picture": spaces.Box(0, 1, (16, 16, 3), np.float32),
}
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "discrete with start": spaces.Discrete(3, start=5),
    "multi-discrete": spaces.MultiDiscrete([3, 2]),
    "multi-discrete of two axes": spaces.MultiDiscrete([[3, 2], [2, 2]]),
    "multi-binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "box of two axes": spaces.Box(-0.5, 2, (2, 2), np.float32),
    "box of float64": spaces.Box(-1, 1, (1,), np.float64),
    "box without bounds": spaces.Box(-np.inf, np.inf, (2,), np.float32),
}


class Odd(gym.Env):
    """Shows random observations; an action that is not of the space is an error. Truncates after `length` steps."""

    def __init__(self, obs="float64", action="discrete", length=5, terminates=False, masked=False):
        self.observation_space, self.action_space = OBSERVATIONS[obs], ACTIONS[action]
        self.length, self.terminates, self.masked = length, terminates, masked

    def _sample(self, space):
        if isinstance(space, spaces.Dict):
            return {key: self._sample(part) for key, part in space.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self._sample(part) for part in space)
        space.seed(int(self.np_random.integers(2**31)))
        return space.sample()

    def _info(self):
        if not self.masked:
            return {}
        space = self.action_space
        size = space.nvec.sum() if isinstance(space, spaces.MultiDiscrete) else space.n
        self.mask = (self.np_random.random(size) < 0.5).astype(np.int8)
        if isinstance(space, spaces.Discrete):
            self.mask[self.np_random.integers(size)] = 1
        elif isinstance(space, spaces.MultiDiscrete):
            self.mask[[0, 3]] = 1
        return {"action_mask": self.mask.copy()}

    def _allows(self, action):
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return self.mask[action - space.start]
        if isinstance(space, spaces.MultiDiscrete):
            return self.mask[action[0]] and self.mask[3 + action[1]]
        return not np.any(action & (1 - self.mask))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._sample(self.observation_space), self._info()

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        if self.masked and not self._allows(action):
            raise ValueError(f"{action!r} is not allowed by {self.mask}")
        self.t += 1
        over = self.t >= self.length
        reward = float(np.sum(action))
        return self._sample(self.observation_space), reward, over and self.terminates, over and not self.terminates, \\
            self._info()
'''

BACKBONE = '''
from dataclasses import dataclass
import torch
from torch import nn
from triathlon.networks.backbone import Backbone, keep_where
from triathlon.networks.registry import BackboneConfig


class Running(Backbone):
    """Remembers the running mean of what it saw."""

    @dataclass(frozen=True)
    class Config(BackboneConfig):
        width: int = 8
        forget: float = 0.5

    def __init__(self, space, config):
        super().__init__()
        self.linear = nn.Linear(space.shape[0], config.width)
        self.forget, self.out_features = config.forget, config.width

    def initial_state(self, batch_size):
        return (torch.zeros(batch_size, self.out_features),)

    def forward(self, obs, state=None, is_first=None):
        rows, state = [], self.initial_state(obs.shape[1]) if state is None else state
        for t, x in enumerate(torch.tanh(self.linear(obs.float()))):
            if is_first is not None:
                state = keep_where(state, ~is_first[t])
            state = (self.forget * state[0] + x,)
            rows.append(state[0])
        return torch.stack(rows), state
'''


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of somebody who brings an environment and a backbone."""
    (tmp_path / "odd_env.py").write_text(FILE)
    (tmp_path / "running_backbone.py").write_text(BACKBONE)
    monkeypatch.chdir(tmp_path)


def odd(num_envs: int = 3, **kwargs: Any) -> dict[str, Any]:
    return {"id": "odd_env:Odd", "num_envs": num_envs, "kwargs": kwargs}


def check(practice: Any) -> Any:
    """It plays and learns: weights moved and stayed finite, and it can be scored."""
    policy = practice.learner.policy
    before = policy.weights()
    practice.play()
    assert policy.weights().isfinite().all()
    assert not policy.weights().equal(before)
    for metrics in practice.metrics:
        for name, value in metrics.items():
            finite = torch.as_tensor(value, dtype=torch.float32).isfinite().all()
            assert finite or name == "explained_variance"
    assert np.isfinite(practice.score(4))
    return practice


OBSERVATIONS = [
    "image and vector",
    "nested",
    "tuple",
    "tuple in dict",
    "multi-discrete",
    "multi-binary",
    "discrete with start",
    "float64",
    "float16",
    "scalar",
    "unbounded",
    "uint8 vector",
    "int64 vector",
    "uint16 picture",
    "bool grid",
    "channels first",
    "matrix",
    "grey picture",
    "float picture",
]


@pytest.mark.parametrize("obs", OBSERVATIONS)
@pytest.mark.parametrize("agent", ["ppo", "dqn", "pqn"])
def test_observations(practise: Practise, agent: str, obs: str) -> None:
    check(practise(odd(obs=obs), AGENTS[agent], "auto", 60))


@pytest.mark.parametrize("obs", ["image and vector", "nested", "multi-discrete"])
@pytest.mark.parametrize("agent", ["ppo", "rainbow"])
@pytest.mark.parametrize("kind", MEMORIES)
def test_observations_with_a_memory(practise: Practise, agent: str, obs: str, kind: str) -> None:
    settings = AGENTS[agent] | ({"segment_length": 4, "burn_in": 2} if agent == "rainbow" else {})
    check(practise(odd(obs=obs), settings, MEMORIES[kind], 100))


@pytest.mark.parametrize("obs", ["image and vector", "float64", "unbounded"])
@pytest.mark.parametrize("agent", ["ppo", "dqn", "pqn"])
def test_normalized_observations_and_rewards(practise: Practise, agent: str, obs: str) -> None:
    check(practise(odd(obs=obs), AGENTS[agent] | {"normalize_obs": True, "normalize_reward": True}, "auto", 100))


DISCRETE = ["discrete", "discrete with start", "multi-discrete", "multi-discrete of two axes", "multi-binary"]
BOXES = ["box", "box of two axes", "box of float64", "box without bounds"]


@pytest.mark.parametrize(
    ("agent", "action"), [*((a, x) for a in AGENTS for x in DISCRETE), *(("ppo", x) for x in BOXES)]
)
def test_actions(practise: Practise, agent: str, action: str) -> None:
    check(practise(odd(action=action), AGENTS[agent], MLP, 100))


@pytest.mark.parametrize("action", ["discrete", "discrete with start", "multi-discrete", "multi-binary"])
@pytest.mark.parametrize("agent", AGENTS)
def test_masks_that_change_each_step_are_never_violated(practise: Practise, agent: str, action: str) -> None:
    check(practise(odd(action=action, masked=True), AGENTS[agent], MLP, 200))


@pytest.mark.parametrize("kind", MEMORIES)
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("task", ["RepeatPrevious", "TMaze"])
def test_memory_tasks(practise: Practise, agent: str, task: str, kind: str) -> None:
    env = {"id": f"triathlon/{task}-v0", "num_envs": 4, "max_episode_steps": 20}
    check(practise(env, AGENTS[agent], MEMORIES[kind], 100))


@pytest.mark.parametrize("backbone", ["mlp", "lstm"])
@pytest.mark.parametrize(
    "episodes",
    [{"length": 3}, {"length": 1}, {"length": 1, "terminates": True}],
    ids=["truncated every 3 steps", "one step, truncated", "one step, terminated"],
)
@pytest.mark.parametrize("agent", AGENTS)
def test_short_episodes(practise: Practise, agent: str, episodes: dict[str, Any], backbone: str) -> None:
    """Half of the rows or more are not played where episodes have one step; a minibatch may have none that is."""
    batches: dict[str, Any] = {"batch_size": 4} if agent in ("ppo", "pqn") else {}
    memory = MLP if backbone == "mlp" else MEMORIES[backbone]
    check(practise(odd(**episodes), AGENTS[agent] | batches, memory, 100))


@pytest.mark.parametrize("num_envs", [1, 7])
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("backbone", ["mlp", "gru"])
def test_numbers_of_environments(practise: Practise, agent: str, num_envs: int, backbone: str) -> None:
    memory = MLP if backbone == "mlp" else MEMORIES[backbone]
    check(practise(odd(num_envs), AGENTS[agent], memory, 120))


@pytest.mark.parametrize("agent", AGENTS)
def test_a_backbone_and_an_environment_from_a_file(practise: Practise, agent: str) -> None:
    backbone = {"kind": "running_backbone:Running", "width": 6, "forget": 0.25}
    practice = check(practise(odd(obs="float64"), AGENTS[agent], backbone, 200))
    network = practice.learner.network
    assert type(getattr(network, "actor", None) or network.backbone).__name__ == "Running"


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_environments_in_processes(practise: Practise, agent: str) -> None:
    env = odd(2, obs="image and vector", action="discrete with start", masked=True) | {"vectorization": "process"}
    check(practise(env, AGENTS[agent], "auto", 60))
