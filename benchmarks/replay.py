"""Compare the replay with Stable-Baselines3's `ReplayBuffer`: bytes a transition and minibatches a second.

    python benchmarks/replay.py [--rounds 15]

Both hold the same CartPole-like experience of 8 environments. Each round times one after the other, so that whatever
else the machine does falls on both; what is printed is the median of the rounds and of their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from triathlon.agents.replay import Replay
from triathlon.agents.segment import Segment

CAPACITY, NUM_ENVS, EPISODE = 100_000, 8, 200
REPEATS = 500


def segment(num_rows: int, generator: np.random.Generator) -> Segment:
    """Rows of episodes of fixed length."""
    shape = (num_rows + 1, NUM_ENVS)
    row = np.broadcast_to(np.arange(num_rows + 1)[:, None], shape)
    return Segment(
        obs=torch.from_numpy(generator.normal(size=(*shape, 4)).astype(np.float32)),
        action=torch.from_numpy(generator.integers(0, 2, shape)),
        reward=torch.ones(shape),
        terminated=torch.from_numpy(row % EPISODE == EPISODE - 2),
        is_first=torch.from_numpy(row % EPISODE == 0),
    )


def fill(replay: Replay) -> Replay:
    """A replay that is full."""
    generator = np.random.default_rng(0)
    while len(replay) < CAPACITY:
        replay.add(segment(5 * EPISODE, generator))
    return replay


def fill_sb3() -> ReplayBuffer:
    """A buffer of Stable-Baselines3 that is full; its own default settings."""
    box = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    buffer = ReplayBuffer(CAPACITY, box, spaces.Discrete(2), device="cpu", n_envs=NUM_ENVS)
    generator = np.random.default_rng(0)
    for _ in range(CAPACITY // NUM_ENVS):
        obs = generator.normal(size=(2, NUM_ENVS, 4)).astype(np.float32)
        action = generator.integers(0, 2, (NUM_ENVS, 1))
        buffer.add(obs[0], obs[1], action, np.ones(NUM_ENVS), np.zeros(NUM_ENVS), [{}] * NUM_ENVS)
    return buffer


def seconds(sample: Callable[[int], object], batch_size: int) -> float:
    """What one draw takes."""
    begin = time.perf_counter()
    for _ in range(REPEATS):
        sample(batch_size)
    return (time.perf_counter() - begin) / REPEATS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    kinds: dict[str, dict[str, Any]] = {"1-step": {}, "3-step": {"n_step": 3}}
    kinds["1-step prioritised"] = {"prioritized": True}
    replays = {
        name: fill(Replay(CAPACITY, 0.99, contiguous=False, generator=np.random.default_rng(0), **options))
        for name, options in kinds.items()
    }
    sb3 = fill_sb3()
    arrays = [sb3.observations, sb3.next_observations, sb3.actions, sb3.rewards, sb3.dones, sb3.timeouts]
    print(
        f"bytes a transition: triathlon {replays['1-step'].nbytes / CAPACITY:.1f}, "
        f"Stable-Baselines3 {sum(array.nbytes for array in arrays) / CAPACITY:.1f}"
    )
    print(f"{'':>20} {'batch':>6} {'triathlon µs':>13} {'SB3 µs':>8} {'SB3 / triathlon':>16}")
    for name, replay in replays.items():
        for batch_size in (32, 256):
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(seconds(replay.sample, batch_size))
                theirs.append(seconds(sb3.sample, batch_size))
            ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
            middle = [1e6 * statistics.median(x) for x in (ours, theirs)]
            print(f"{name:>20} {batch_size:>6} {middle[0]:>13.1f} {middle[1]:>8.1f} {ratio:>16.2f}")
    at_once = statistics.median(seconds(replays["1-step"].sample, 16 * 32) / 16 for _ in range(rounds))
    print(f"sixteen minibatches of 32 drawn together: {1e6 * at_once:.1f} µs each (SB3's buffer is uniform and 1-step)")


if __name__ == "__main__":
    main()
