"""Environment steps per second of training on Pong, beside Stable-Baselines3 in the same run, and the machine's limit.

    python benchmarks/atari.py                 everything
    python benchmarks/atari.py --only ppo      one part: limit, ppo, dqn, memory or grid
    python benchmarks/atari.py --rounds 3
    python benchmarks/atari.py --only grid --rows gru-ppo gru-dqn

PPO: 8 environments, 128 steps, 4 epochs, 4 minibatches, NatureCNN. DQN: 8 environments, batches of 32, an update for
every 4 steps. Peer and project take turns, round by round, each with the CPU threads that it uses by default; compiling
and the first updates are not timed. Both play the protocol `nature`.

`limit` measures what the machine could do: games stepped with random actions and nothing else, and the arithmetic of
PPO's updates at the rate of a large matrix product. `memory` compares PPO with an LSTM and a transformer on top of the
CNN to plain PPO, all on one picture at a time. `grid` trains every backbone with both agents for `--grid-steps` and
lists its first and last loss and throughput.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from speed import ALL_THREADS, Training, ours

from triathlon.agents.dqn_config import DQNConfig
from triathlon.agents.ppo_config import PPOConfig
from triathlon.envs import EnvConfig, make_envs
from triathlon.envs.atari import AtariConfig
from triathlon.networks import BackboneConfig, config_class, make_backbone
from triathlon.training.machine import num_cores

NUM_ENVS = 8
ROLLOUT = 128 * NUM_ENVS
PPO = PPOConfig(
    num_steps=128, num_epochs=4, batch_size=ROLLOUT // 4, learning_rate=2.5e-4, clip_coef=0.1, ent_coef=0.01
)
DQN = DQNConfig(
    buffer_size=20_000,
    learning_starts=1_000,
    batch_size=32,
    train_period=4 * NUM_ENVS,
    gradient_steps=NUM_ENVS,
    target_period=1_000,
)


def pong(frame_stack: int = 4) -> EnvConfig:
    """Eight games of Pong under the protocol `nature`."""
    return EnvConfig("ALE/Pong-v5", NUM_ENVS, atari=AtariConfig(frame_stack=frame_stack))


def backbone(kind: str = "cnn", **settings: Any) -> BackboneConfig:
    """A backbone's settings by its kind."""
    return config_class(kind)(**settings)


def sb3(algorithm: str, **settings: Any) -> Training:
    """The same by Stable-Baselines3 with its own Atari wrappers."""
    import stable_baselines3
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    make_envs(pong()).close()  # registers the games
    envs = VecFrameStack(make_atari_env("ALE/Pong-v5", NUM_ENVS, seed=1), 4)
    model = getattr(stable_baselines3, algorithm)("CnnPolicy", envs, device="cpu", seed=1, **settings)

    def train(num_steps: int) -> float:
        torch.set_num_threads(ALL_THREADS)
        before, start = model.num_timesteps, time.perf_counter()
        model.learn(num_steps, reset_num_timesteps=False)
        return float((model.num_timesteps - before) / (time.perf_counter() - start))

    return train


def take_turns(trainings: dict[str, Training], warm_up: int, num_steps: int, rounds: int) -> dict[str, list[float]]:
    """Steps per second of each, round by round."""
    for train in trainings.values():
        train(warm_up)
    speeds: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(rounds):
        for name, train in trainings.items():
            speeds[name].append(train(num_steps))
    return speeds


def print_ratios(title: str, speeds: dict[str, list[float]], peer: str) -> None:
    """One row for each, with its median ratio to the peer."""
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds[peer], strict=True)]
        print(
            f"| {title} | {name} | {statistics.median(values):,.0f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} |",
            flush=True,
        )


def stepping_alone(seconds: float = 5.0) -> float:
    """Steps per second of the games with random actions."""
    envs = make_envs(pong())
    envs.reset(seed=1)
    actions = np.random.default_rng(1).integers(0, 6, (1000, NUM_ENVS))
    num_rows, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        envs.step(actions[num_rows % 1000])
        num_rows += 1
    return num_rows * NUM_ENVS / (time.perf_counter() - start)


def matrix_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating-point operations per second of a large matrix product."""
    torch.set_num_threads(ALL_THREADS)
    a, b = torch.randn(2, size, size).to(dtype)
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def flop_of_ppo() -> float:
    """Multiplications and additions of one environment step: acting, values, and forward and backward each epoch."""
    from torch.utils.flop_counter import FlopCounterMode

    network = make_backbone(backbone(), make_envs(pong()).single_observation_space)
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 4, 84, 84, dtype=torch.uint8))
    return float(counter.get_total_flops()) * (1 + 1 + 3 * PPO.num_epochs)


def limit() -> None:
    """The machine's limit for PPO on Pong."""
    stepping, rate, flop = stepping_alone(), matrix_rate(torch.bfloat16), flop_of_ppo()
    seconds = 1 / stepping + flop / rate
    print(f"\nGames alone {stepping:,.0f} steps/s; bfloat16 products {rate / 1e9:,.0f} GFLOP/s;")
    print(f"PPO needs {flop / 1e6:,.0f} MFLOP a step: limit {1 / seconds:,.0f} steps/s if nothing overlaps.")


def ppo(rounds: int) -> None:
    """Plain PPO beside Stable-Baselines3."""
    trainings = {
        "sb3": sb3("PPO", n_steps=128, n_epochs=4, batch_size=ROLLOUT // 4, learning_rate=2.5e-4, ent_coef=0.01),
        "eager": ours(PPO, backbone(), pong()),
        "compiled": ours(replace(PPO, compile=True), backbone(), pong()),
    }
    print_ratios("PPO", take_turns(trainings, ROLLOUT, 4 * ROLLOUT, rounds), "sb3")


def dqn(rounds: int) -> None:
    """DQN beside Stable-Baselines3."""
    trainings = {
        "sb3": sb3(
            "DQN", batch_size=32, train_freq=4, gradient_steps=NUM_ENVS, learning_starts=1_000, buffer_size=20_000
        ),
        "eager": ours(DQN, backbone(), pong()),
        "compiled": ours(replace(DQN, compile=True), backbone(), pong()),
    }
    print_ratios("DQN", take_turns(trainings, 1_500, 1_000, rounds), "sb3")


def memory(rounds: int) -> None:
    """What a memory on top of the CNN costs; all see one picture at a time and learn in segments of 32 rows."""
    config = replace(PPO, segment_length=32)
    kinds = {
        "cnn": backbone(),
        "lstm": backbone("lstm", encoder=backbone(), hidden_size=128),
        "gru": backbone("gru", encoder=backbone(), hidden_size=128),
        "transformer": backbone("transformer", encoder=backbone(), width=128, num_layers=2, memory_length=32),
    }
    trainings = {
        name: ours(PPO if name == "cnn" else config, kind, pong(frame_stack=1)) for name, kind in kinds.items()
    }
    print_ratios("PPO, one picture", take_turns(trainings, ROLLOUT, 2 * ROLLOUT, rounds), "cnn")


KINDS = {  # what the grid trains, and how many pictures it sees at once
    "cnn": (backbone(), 4),
    "impala": (backbone("impala"), 4),
    "lstm": (backbone("lstm", encoder=backbone()), 1),
    "gru": (backbone("gru", encoder=backbone()), 1),
    "transformer": (backbone("transformer", encoder=backbone(), width=128, memory_length=32), 1),
}
# A sample of a memory is 24 rows, 16 of them learned from: an eighth of the updates is still twice as many rows a step.
SEQUENCES = replace(DQN, gradient_steps=1)
ROWS = [f"{name}-{agent.kind}" for name in KINDS for agent in (PPO, DQN)]


def grid(num_steps: int, rows: Sequence[str]) -> None:
    """Every backbone with both agents: throughput and loss at the start and at the end of a short training."""
    for name, (kind, frame_stack) in KINDS.items():
        for agent in (PPO, DQN):
            if f"{name}-{agent.kind}" not in rows:
                continue
            losses: list[float] = []
            remembers = frame_stack == 1
            train = ours(SEQUENCES if agent is DQN and remembers else agent, kind, pong(frame_stack), losses=losses)
            parts = 10
            speeds = [train(num_steps // parts) for _ in range(parts)]
            tenth = max(1, len(losses) // parts)
            first, last = np.mean(losses[:tenth]), np.mean(losses[-tenth:])
            print(
                f"| {name} | {agent.kind} | {speeds[0]:,.0f} | {speeds[-1]:,.0f} | {first:.4g} | {last:.4g} |",
                flush=True,
            )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["limit", "ppo", "dqn", "memory", "grid"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grid-steps", type=int, default=20_000)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="of the grid")
    options = parser.parse_args()

    def wanted(part: str) -> bool:
        return options.only in (None, part)

    if wanted("limit"):
        limit()
    if wanted("ppo") or wanted("dqn") or wanted("memory"):
        print("\n| Pong | mode | steps/s | median ratio | from, to |\n|---|---|---|---|---|")
    for part, measure in (("ppo", ppo), ("dqn", dqn), ("memory", memory)):
        if wanted(part):
            measure(options.rounds)
    if wanted("grid"):
        print("\n| backbone | agent | first steps/s | last | first loss | last |\n|---|---|---|---|---|---|")
        grid(options.grid_steps, options.rows)
    print(f"\n{num_cores()} CPU cores, PyTorch {torch.__version__}.")


if __name__ == "__main__":
    main()
