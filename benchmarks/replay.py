"""Compare the replay with Stable-Baselines3's `ReplayBuffer`: bytes a transition and transitions drawn a second.

    python benchmarks/replay.py [--capacity 20000] [--rounds 15] [--only pong]
    python benchmarks/replay.py --only games         what a compressed frame takes in each of 57 games

All hold the same experience of 8 environments: numbers as CartPole's, and frames of Pong played at random, stacked by
four (extra: atari). Each round times one buffer after the other, so that whatever else the machine does falls on all;
what is printed is the median of the rounds. Bytes do not depend on the machine: those of a full buffer, of the
priorities too, and of compressed pictures as these are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from triathlon.agents.picture_store import INDEX_BYTES, PictureStore
from triathlon.agents.replay import Replay
from triathlon.agents.segment import Segment
from triathlon.agents.sum_tree import SumTree
from triathlon.envs.atari_scores import RANDOM_AND_HUMAN

NUM_ENVS, NUM_ROWS, EPISODE = 8, 250, 200
BATCH_SIZES = (32, 256)
REPEATS = 20
GAME_SEGMENTS = 8  # of each game, 16,000 frames in all

OURS: dict[str, dict[str, Any]] = {
    "triathlon": {},
    "triathlon 3-step": {"n_step": 3},
    "triathlon prioritised": {"prioritized": True},
    "triathlon compressed": {"compress": True},
    "triathlon compressed, prioritised": {"compress": True, "prioritized": True},
}
SB3: dict[str, dict[str, Any]] = {
    "SB3": {},
    "SB3 optimize_memory_usage": {"optimize_memory_usage": True, "handle_timeout_termination": False},
}


def numbers() -> Iterator[Segment]:
    """Rows of episodes of fixed length, each of four numbers."""
    generator, shape = np.random.default_rng(0), (NUM_ROWS + 1, NUM_ENVS)
    row = np.broadcast_to(np.arange(NUM_ROWS + 1)[:, None], shape)
    while True:
        yield Segment(
            obs=torch.from_numpy(generator.normal(size=(*shape, 4)).astype(np.float32)),
            action=torch.from_numpy(generator.integers(0, 2, shape)),
            reward=torch.ones(shape),
            terminated=torch.from_numpy(row % EPISODE == EPISODE - 2),
            is_first=torch.from_numpy(row % EPISODE == 0),
        )


def atari(game: str) -> Iterator[Segment]:
    """A game played at random."""
    from ale_py.vector_env import AtariVectorEnv

    generator = np.random.default_rng(0)
    envs: Any = AtariVectorEnv(game, NUM_ENVS, num_threads=1)
    num_actions = int(envs.single_action_space.n)
    obs, _ = envs.reset(seed=0)
    first, done = np.ones(NUM_ENVS, bool), np.zeros(NUM_ENVS, bool)
    shape = (NUM_ROWS + 1, NUM_ENVS)
    while True:
        rows = np.empty((*shape, *obs.shape[1:]), np.uint8)
        segment = Segment(
            obs=torch.from_numpy(rows),
            action=torch.from_numpy(generator.integers(0, num_actions, shape)),
            reward=torch.zeros(shape),
            terminated=torch.zeros(shape, dtype=torch.bool),
            is_first=torch.zeros(shape, dtype=torch.bool),
        )
        for t in range(NUM_ROWS):
            rows[t], segment.is_first[t] = obs, torch.from_numpy(first)
            obs, reward, terminated, truncated, _ = envs.step(segment.action[t].numpy())
            segment.reward[t] = torch.from_numpy(reward * ~done)
            segment.terminated[t] = torch.from_numpy(terminated & ~done)
            first, done = done, terminated | truncated
        rows[NUM_ROWS], segment.is_first[NUM_ROWS] = obs, torch.from_numpy(first)
        yield segment


def games() -> None:
    """Print what a frame takes in the replay when it is packed, game by game."""
    found: dict[str, float] = {}
    for game in RANDOM_AND_HUMAN:
        segments = atari(game)
        num_rows = GAME_SEGMENTS * NUM_ROWS
        store = PictureStore(num_rows, NUM_ENVS, (84, 84))
        for start in range(0, num_rows, NUM_ROWS):
            frames = np.asarray(next(segments).obs)[:-1, :, -1]
            store.write(np.arange(start, start + NUM_ROWS), frames)
        found[game] = store.nbytes / (num_rows * NUM_ENVS) - INDEX_BYTES
    print("\n| game | bytes a frame of 7,056 |\n|---|---|")
    for game, size in sorted(found.items(), key=lambda item: item[1]):
        print(f"| {game} | {size:,.0f} |")
    print(f"\nThe median of {len(found)} games is {statistics.median(found.values()):,.0f} bytes.")


def fill(segments: Iterator[Segment], ours: list[Replay], theirs: list[ReplayBuffer], capacity: int) -> None:
    """Add the same rows to all of them until they are full; SB3 is given those that were played."""
    while len(ours[0]) < capacity // NUM_ENVS * NUM_ENVS:
        segment = next(segments)
        for replay in ours:
            replay.add(segment)
        tensors: Any = segment.obs, segment.action, segment.reward, segment.terminated
        obs, action, reward, terminated = (x.numpy() for x in tensors)
        for t in range(NUM_ROWS):
            for buffer in theirs:
                infos: list[dict[str, Any]] = [{}] * NUM_ENVS
                buffer.add(obs[t], obs[t + 1], action[t][:, None], reward[t], terminated[t], infos)


def bytes_of(buffer: Replay | ReplayBuffer) -> int:
    """What a full one takes."""
    if isinstance(buffer, Replay):
        return buffer.nbytes + (SumTree.nbytes(buffer.capacity) if buffer.prioritized else 0)
    arrays = [buffer.observations, buffer.actions, buffer.rewards, buffer.dones, buffer.timeouts]
    arrays += [] if buffer.optimize_memory_usage else [buffer.next_observations]
    return sum(array.nbytes for array in arrays)


def seconds(sample: Callable[[int], object], batch_size: int) -> float:
    """What one draw takes."""
    begin = time.perf_counter()
    for _ in range(REPEATS):
        sample(batch_size)
    return (time.perf_counter() - begin) / REPEATS


def compare(title: str, segments: Iterator[Segment], frame_stack: int, capacity: int, rounds: int) -> None:
    """Print a table of all buffers full of these segments."""
    first = next(segments)
    shape = tuple(first.obs.shape[2:])  # type: ignore[union-attr]
    space = spaces.Box(0, 255, shape, np.uint8) if frame_stack > 1 else spaces.Box(-np.inf, np.inf, shape, np.float32)
    ours = {
        name: Replay(
            capacity, 0.99, contiguous=False, generator=np.random.default_rng(0), frame_stack=frame_stack, **options
        )
        for name, options in OURS.items()
        if frame_stack > 1 or "compress" not in options
    }
    theirs = {
        name: ReplayBuffer(capacity, space, spaces.Discrete(6), device="cpu", n_envs=NUM_ENVS, **options)
        for name, options in SB3.items()
    }
    fill(segments, list(ours.values()), list(theirs.values()), capacity)
    buffers: dict[str, Any] = ours | theirs
    times: dict[tuple[str, int], list[float]] = {(name, size): [] for name in buffers for size in BATCH_SIZES}
    for _ in range(rounds):
        for name, buffer in buffers.items():
            for size in BATCH_SIZES:
                times[name, size].append(seconds(buffer.sample, size))
    print(f"\n{title}, {capacity:,} transitions of {NUM_ENVS} environments\n")
    print("| buffer | bytes a transition |" + "".join(f" transitions/s, batch {size} |" for size in BATCH_SIZES))
    print("|---|---|" + "---|" * len(BATCH_SIZES))
    for name, buffer in buffers.items():
        speeds = "".join(f" {size / statistics.median(times[name, size]):,.0f} |" for size in BATCH_SIZES)
        print(f"| {name} | {bytes_of(buffer) / capacity:,.0f} |{speeds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=["numbers", "pong", "games"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only == "games":
        return games()
    if options.only != "pong":
        compare("Four numbers", numbers(), 1, options.capacity, options.rounds)
    if options.only != "numbers":
        compare("Frames of Pong, stacked by four", atari("pong"), 4, options.capacity, options.rounds)


if __name__ == "__main__":
    main()
