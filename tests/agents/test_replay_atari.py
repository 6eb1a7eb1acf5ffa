"""The replay on frames of ALE itself: every stack that is drawn is the one that was added."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.agents.replay import Replay
from triathlon.agents.segment import Segment
from triathlon.networks.errors import SettingError
from triathlon.training import checkpoint

NUM_ENVS = 2


def play(num_segments: int, num_rows: int) -> Iterator[Segment]:
    """Breakout at random, by the vector environment of ale-py alone; lives end episodes for learning only."""
    vector_env = pytest.importorskip("ale_py.vector_env")
    envs = vector_env.AtariVectorEnv("breakout", NUM_ENVS, num_threads=1, max_num_frames_per_episode=200)
    generator = np.random.default_rng(0)
    obs, info = envs.reset(seed=1)
    first, done, lives = np.ones(NUM_ENVS, bool), np.zeros(NUM_ENVS, bool), info["lives"]
    for _ in range(num_segments):
        rows: dict[str, list[Any]] = {"obs": [obs], "is_first": [first], "action": [], "reward": [], "terminated": []}
        for _ in range(num_rows):
            action = generator.integers(0, 4, NUM_ENVS)
            obs, reward, terminated, truncated, info = envs.step(action)
            lost_life, lives = info["lives"] < lives, info["lives"]
            first, done = done, terminated | truncated
            played = {"action": action, "reward": reward * ~first, "terminated": (terminated | lost_life) & ~first}
            for name, value in {**played, "obs": obs.copy(), "is_first": first}.items():
                rows[name].append(value)
        for name in ("action", "reward", "terminated"):
            rows[name].append(np.zeros_like(rows[name][0]))
        tensors = {name: torch.from_numpy(np.stack(values)) for name, values in rows.items()}
        yield Segment(**(tensors | {"reward": tensors["reward"].float()}))
    envs.close()


@pytest.mark.parametrize(
    "options",
    [
        {"compress": False},
        {"picture_device": torch.device("cpu"), "n_step": 3},  # the code of a GPU, on the host
        {"picture_device": torch.device("cpu"), "length": 5, "burn_in": 2, "contiguous": True, "prioritized": True},
        {"compress": True, "n_step": 3, "prioritized": True},
        {"compress": True, "length": 5, "burn_in": 2, "contiguous": True, "prioritized": True},
    ],
)
def test_every_stack_is_the_one_that_was_added(options: dict[str, Any], tmp_path: Path) -> None:
    options = {"contiguous": False, "frame_stack": 4, **options}
    added: list[Any] = []
    replay = Replay(300, 0.99, generator=np.random.default_rng(0), **options)
    num_episodes = num_lives = 0
    for number, segment in enumerate(play(12, 25)):
        replay.add(segment)
        added.append(segment.obs[:-1])
        num_episodes += int(segment.is_first.sum())
        num_lives += int(segment.terminated.sum())
        if number == 8:  # through a file, in the middle of episodes
            checkpoint.save(tmp_path / "replay", replay.state_dict())
            replay = Replay(300, 0.99, generator=np.random.default_rng(0), **options)
            replay.load_state_dict(checkpoint.load(tmp_path / "replay"))
        latest: Any = segment.obs[-1:]
        seen = torch.cat([*added, latest])
        sample = replay.sample(200)
        start, column = sample.index // NUM_ENVS - 3, sample.index % NUM_ENVS  # rows count from 3: the oldest frames
        window = torch.arange(len(sample.segment.obs)) if options["contiguous"] else torch.tensor([0])
        for row in window.tolist():
            assert torch.equal(sample.segment.obs[row], seen[start + row, column])
    assert num_episodes > 10 and num_lives > 4
    if replay.compress:
        assert replay.nbytes / 300 < 1200  # of 7,056


def test_a_transition_of_atari_takes_a_quarter_of_its_stack() -> None:
    (segment,) = play(1, 2)
    replay = Replay(1_000_000, 0.99, contiguous=False, frame_stack=4, generator=np.random.default_rng(0))
    assert replay.expected_nbytes(segment)[1] == pytest.approx(7.07e9, rel=0.001)  # 84 * 84 + 15 bytes a transition
    packed = Replay(
        1_000_000,
        0.99,
        contiguous=False,
        frame_stack=4,
        compress=True,
        prioritized=True,
        generator=np.random.default_rng(0),
    )
    assert packed.expected_nbytes(segment)[0] < 1.1e9


def test_pictures_on_a_device_are_counted_apart_and_a_checkpoint_moves_them() -> None:
    (segment,) = play(1, 20)
    options: dict[str, Any] = {"contiguous": False, "frame_stack": 4}
    near = Replay(50, 0.99, generator=np.random.default_rng(0), **options)
    far = Replay(50, 0.99, generator=np.random.default_rng(0), picture_device=torch.device("cpu"), **options)
    sizes = far.expected_nbytes(segment)
    assert sizes.picture_device == torch.device("cpu")
    assert sizes.of_pictures == 84 * 84 * NUM_ENVS * (25 + 1 + 3)
    assert sizes.expected + sizes.of_pictures == near.expected_nbytes(segment).most
    assert sizes.most == near.expected_nbytes(segment).most  # all of them, on their way into a checkpoint
    far.add(segment)
    near.load_state_dict(far.state_dict())
    back = Replay(50, 0.99, generator=np.random.default_rng(0), picture_device=torch.device("cpu"), **options)
    back.load_state_dict(near.state_dict())
    drawn = [replay.sample(40).segment.obs for replay in (far, near, back)]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def stacks(*frames: int) -> torch.Tensor:
    """`[T+1, 1, 3, 8, 8]`: stacks of three frames along these values."""
    values = torch.tensor(frames, dtype=torch.uint8).unfold(0, 3, 1)
    return values[:, None, :, None, None].expand(-1, 1, 3, 8, 8).clone()


def rows(obs: torch.Tensor, is_first: list[int]) -> Segment:
    flags = torch.zeros(len(obs), 1, dtype=torch.bool)
    first = torch.tensor(is_first, dtype=torch.bool)[:, None]
    return Segment(obs, flags.long(), flags.float(), flags, first)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([rows(stacks(9, 9, 1, 2, 3), [1, 0, 0])], "row 0, column 0 starts an episode neither with zeros nor with one"),
        ([rows(stacks(0, 0, 1, 2, 3, 4)[[0, 1, 3]], [1, 0, 0])], "row 2, column 0 does not go on from the one before"),
        ([rows(stacks(5, 6, 7, 8), [0, 0]), rows(stacks(5, 6, 8, 9), [0, 0])], "row 0, column 0 does not go on"),
        ([rows(stacks(0, 0, 1, 2)[:, :, :2], [1, 0])], "is not one stack of as many frames"),
        ([rows(stacks(0, 0, 1, 2).float(), [1, 0])], "is not one stack of as many frames"),
    ],
)
def test_what_is_no_stack_is_refused(segments: list[Segment], message: str) -> None:
    replay = Replay(20, 0.99, contiguous=False, frame_stack=3, generator=np.random.default_rng(0))
    for segment in segments[:-1]:
        replay.add(segment)
    with pytest.raises(SettingError, match=message):
        replay.add(segments[-1])


def test_resume_with_other_settings() -> None:
    options: dict[str, Any] = {"contiguous": False, "frame_stack": 3, "generator": np.random.default_rng(0)}
    replay = Replay(60, 0.99, **options)
    replay.add(rows(stacks(1, 1, 1, 2), [1, 0]))
    for changed, message in (
        ({"capacity": 50}, r"agent\.buffer_size: the replay holds 50 transitions, and the saved one held 60; resume"),
        ({"prioritized": True}, r"agent\.prioritized is true, and the saved replay had false"),
        ({"compress": True}, r"agent\.compress_replay is true, and the saved replay had false"),
        ({"frame_stack": 1}, r"\(env\.atari\.frame_stack\) is 1, and the saved replay had 3"),
    ):
        with pytest.raises(SettingError, match=message):
            Replay(**({"capacity": 60, "gamma": 0.99} | options | changed)).load_state_dict(replay.state_dict())


@pytest.mark.parametrize("agent", [{}, {"compress_replay": True, "n_step": 3, "prioritized": True}])
def test_dqn_learns_from_stacks(practise: Any, agent: dict[str, Any]) -> None:
    pytest.importorskip("ale_py")
    settings = {"kind": "dqn", "buffer_size": 200, "learning_starts": 20, "batch_size": 4, "train_period": 8, **agent}
    practice = practise({"id": "ALE/Pong-v5", "num_envs": 2}, settings).play(60)
    assert practice.learner.replay.frame_stack == 4 and np.isfinite(float(practice.metrics[-1]["loss"]))
    sample = practice.learner.replay.sample(8).segment.obs
    assert sample.shape == (2, 8, 4, 84, 84) and sample.dtype == torch.uint8
    assert torch.equal(sample[1, :, :-1], sample[0, :, 1:]) is ("n_step" not in agent)
