"""The line about the replay's memory, and the refusal of what cannot fit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.agents.registry import Task, make_learner
from triathlon.training.config import from_mapping
from triathlon.training.errors import RunError
from triathlon.training.memory import announce_replay, available_bytes, example, replay_line
from triathlon.training.runner import train

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)
CART = spaces.Box(-1, 1, (4,), np.float64)


def learner_and_task(space: spaces.Space[Any], frame_stack: int = 1, **agent: Any) -> tuple[Any, Task]:
    settings = {
        "total_steps": 1000,
        "env": {"id": "CartPole-v1"},
        "agent": {"kind": "dqn", **agent},
        "backbone": {"kind": "auto"},
    }
    experiment = from_mapping(settings)
    seed, device = np.random.SeedSequence(0), torch.device("cpu")
    task = Task(space, spaces.Discrete(4), 8, 1000, seed, device, frame_stack=frame_stack)
    return make_learner(experiment.agent, experiment.backbone, task), task


def line(space: spaces.Space[Any], available: int | None, **options: Any) -> str:
    learner, task = learner_and_task(space, **options)
    return replay_line(learner.replay, example(learner, task), task, available)


def test_the_line() -> None:
    million = {"frame_stack": 4, "buffer_size": 1_000_000}
    # 7,056 of the frame, 8 action, 4 reward, 3 flags; 1,000,000 and four rows of 8
    assert line(ATARI, 24_000_000_000, **million) == (
        "Replay: 1,000,000 transitions, 7.1 GB when full (24.0 GB available)"
    )
    assert line(ATARI, None, **million, prioritized=True) == "Replay: 1,000,000 transitions, 7.1 GB when full"
    assert line(ATARI, 2_000_000_000, **million, compress_replay=True) == (
        "Replay: 1,000,000 transitions, about 1.0 GB when full, at most 7.1 GB (2.0 GB available)"
    )
    # 16 of four float32, 8 action, 4 reward, 2 flags
    assert line(CART, None, buffer_size=1_000_000) == "Replay: 1,000,000 transitions, 30.0 MB when full"


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    with pytest.raises(RunError) as refused:
        line(ATARI, 4_000_000_000, frame_stack=4, buffer_size=1_000_000)
    assert str(refused.value) == (
        "agent.buffer_size is 1000000, and so many transitions take 7.1 GB, but 4.0 GB of memory are free: set "
        "agent.buffer_size to 500000 or less, or agent.compress_replay: true, which takes about a seventh for a "
        "typical Atari game"
    )
    with pytest.raises(RunError, match=r"about 1.0 GB when full, at most 7.1 GB, but 0.5 GB of .* to 440000 or less$"):
        line(ATARI, 500_000_000, frame_stack=4, buffer_size=1_000_000, compress_replay=True)
    with pytest.raises(RunError, match=r"set agent.buffer_size to 89000000 or less$"):  # no pictures to compress
        line(CART, 3_000_000_000, buffer_size=1_000_000_000)


def test_an_agent_without_a_replay_has_no_line() -> None:
    experiment = from_mapping(
        {"total_steps": 9, "env": {"id": "CartPole-v1"}, "agent": {"kind": "ppo"}, "backbone": {"kind": "mlp"}}
    )
    task = Task(CART, spaces.Discrete(2), 2, 100, np.random.SeedSequence(0), torch.device("cpu"))
    stream = io.StringIO()
    announce_replay(make_learner(experiment.agent, experiment.backbone, task), task, stream)
    assert stream.getvalue() == ""
    learner, task = learner_and_task(CART)
    announce_replay(learner, task, stream)
    assert stream.getvalue().startswith("Replay: 100,000 transitions, 3.0 MB when full")


def test_the_example_is_what_the_learner_is_given(practise: Any) -> None:
    practice = practise("CartPole-v1", "dqn", {"kind": "gru", "hidden_size": 8, "encoder": {"kind": "mlp"}})
    collected = practice.collector.collect(practice.learner.num_rows)
    task = Task(
        practice.envs.single_observation_space, spaces.Discrete(2), practice.envs.num_envs, 1000,
        np.random.SeedSequence(0), torch.device("cpu"),
    )  # fmt: skip
    made = example(practice.learner, task)
    for name in ("obs", "action", "reward", "terminated", "is_first"):
        found, given = getattr(made, name), getattr(collected, name)
        assert (found.dtype, found.shape[1:]) == (given.dtype, given.shape[1:]), name
    assert [s.shape[1:] for s in made.state] == [s.shape[1:] for s in collected.state]
    practice.learner.replay.add(collected)
    assert practice.learner.replay.nbytes == practice.learner.replay.expected_nbytes(made)[1]


def test_a_run_that_cannot_fit_writes_nothing(tmp_path: Path) -> None:
    agent = {"kind": "dqn", "buffer_size": 10**13}
    experiment = from_mapping(
        {"env": {"id": "CartPole-v1"}, "agent": agent, "backbone": {"kind": "mlp"}, "total_steps": 100}
    )
    with pytest.raises(RunError, match=r"agent.buffer_size is 10000000000000, and .* set agent.buffer_size to \d+ or"):
        train(experiment, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("group", "files", "available"),
    [
        ("", {}, 8000 * 1024),
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}, 8000 * 1024),
        ("0::/\n", {"memory.max": "5000", "memory.current": "2000", "memory.stat": "inactive_file 300\n"}, 3300),
        ("0::/a/b\n", {"a/memory.max": "4000", "a/memory.current": "1000", "a/b/memory.max": "max"}, 3000),
        ("0::/a/b\n", {"a/b/memory.max": "400", "a/b/memory.current": "1000"}, 0),
        (
            "3:cpu:/\n9:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": "900",
                "memory/x/memory.usage_in_bytes": "500",
                "memory/x/memory.stat": "inactive_file 7\ntotal_inactive_file 50\n",
            },
            450,
        ),
    ],
)
def test_memory_that_is_free(tmp_path: Path, group: str, files: dict[str, str], available: int) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    (proc / "self" / "cgroup").write_text(group)
    for name, text in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(text)
    assert available_bytes(proc, cgroups) == available


def test_where_there_is_no_proc(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path) is None
