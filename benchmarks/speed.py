"""Environment steps per second of training, beside Stable-Baselines3 in the same run.

    python benchmarks/speed.py             everything
    python benchmarks/speed.py --only ppo  one part: ppo, dqn or start
    python benchmarks/speed.py --rounds 3

Peer and project take turns, round by round, with the same settings, each with the CPU threads that it uses by default
(`--threads` fixes them for both); the ratio is taken round by round and its median is printed, because shared machines
drift. Compiling and the first updates are not timed. `compiled` is `agent.compile: true`. `start` is a whole process
from nothing to the end of its first update.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from triathlon.envs import EnvConfig

CPU = torch.device("cpu")
ALL_THREADS = torch.get_num_threads()
THREADS: int | None = None  # `--threads`
Training = Callable[[int], float]  # trains for about so many environment steps; gives steps per second


def ours(
    agent: Any,
    backbone: Any,
    env: EnvConfig,
    losses: list[float] | None = None,
    device: torch.device = CPU,
) -> Training:
    """A training of this project that goes on where it stopped; `losses` gets the loss of each update."""
    from triathlon.agents.registry import make_learner
    from triathlon.envs.make import make_groups
    from triathlon.training.collector import Collector
    from triathlon.training.config import Experiment
    from triathlon.training.machine import default_threads
    from triathlon.training.task import make_task

    groups = make_groups(env)
    experiment = Experiment(env, agent, total_steps=10_000_000, backbone=backbone)
    task = make_task(experiment, groups[0], device, np.random.SeedSequence(1))
    learner = make_learner(agent, backbone, task)
    collector = Collector(groups, learner.policy, 1, learner.state_period)

    def train(num_steps: int) -> float:
        torch.set_num_threads(THREADS or default_threads(learner.policy, task))
        done, start = 0, time.perf_counter()
        while done < num_steps:
            segment = collector.collect(learner.num_rows)
            metrics = learner.update(segment)
            if losses is not None and "loss" in metrics:
                losses.append(float(metrics["loss"]))
            done += segment.num_steps
        if device.type == "cuda":
            torch.cuda.synchronize()
        return done / (time.perf_counter() - start)

    return train


def sb3(algorithm: str, num_envs: int, **settings: Any) -> Training:
    """The same by Stable-Baselines3, with its fastest in-process vectorisation."""
    import stable_baselines3
    from stable_baselines3.common.env_util import make_vec_env

    model = getattr(stable_baselines3, algorithm)(
        "MlpPolicy", make_vec_env("CartPole-v1", num_envs), device="cpu", seed=1, **settings
    )

    def train(num_steps: int) -> float:
        torch.set_num_threads(THREADS or ALL_THREADS)
        before, start = model.num_timesteps, time.perf_counter()
        model.learn(num_steps, reset_num_timesteps=False)
        return float((model.num_timesteps - before) / (time.perf_counter() - start))

    return train


def ppo(num_envs: int) -> dict[str, Training]:
    """CartPole, 128 steps, 4 epochs, 4 minibatches, 64 x 64 tanh."""
    from triathlon.agents.ppo_config import PPOConfig
    from triathlon.networks.mlp import MLPConfig

    batch_size = 128 * num_envs // 4
    config = PPOConfig(num_steps=128, num_epochs=4, batch_size=batch_size, learning_rate=3e-4)
    return {
        "sb3": sb3("PPO", num_envs, n_steps=128, n_epochs=4, batch_size=batch_size),
        "eager": ours(config, MLPConfig(), EnvConfig("CartPole-v1", num_envs)),
        "compiled": ours(replace(config, compile=True), MLPConfig(), EnvConfig("CartPole-v1", num_envs)),
    }


def dqn(num_envs: int) -> dict[str, Training]:
    """CartPole, batch 32, an update for every 4 environment steps, done after every 4 steps of all environments."""
    from triathlon.agents.dqn_config import DQNConfig
    from triathlon.networks.mlp import MLPConfig

    period = 4 * num_envs
    config = DQNConfig(batch_size=32, train_period=period, gradient_steps=period // 4, learning_starts=1000)
    backbone = MLPConfig(activation="relu")
    return {
        "sb3": sb3("DQN", num_envs, batch_size=32, train_freq=4, gradient_steps=period // 4, learning_starts=1000),
        "eager": ours(config, backbone, EnvConfig("CartPole-v1", num_envs)),
        "compiled": ours(replace(config, compile=True), backbone, EnvConfig("CartPole-v1", num_envs)),
    }


def compare(name: str, trainings: dict[str, Training], num_steps: int, rounds: int) -> None:
    """Take turns and print the medians."""
    for train in trainings.values():
        train(2_000 if name.startswith("DQN") else num_steps // 4)
    speeds: dict[str, list[float]] = {kind: [] for kind in trainings}
    for _ in range(rounds):
        for kind, train in trainings.items():
            speeds[kind].append(train(num_steps))
    for kind in ("eager", "compiled"):
        ratios = [a / b for a, b in zip(speeds[kind], speeds["sb3"], strict=True)]
        print(
            f"| {name} | {kind} | {statistics.median(speeds[kind]):,.0f} | {statistics.median(speeds['sb3']):,.0f} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |",
            flush=True,
        )


def start(rounds: int) -> None:
    """Whole processes, each to the end of its first PPO update on CartPole with 8 environments of 128 steps."""
    peer = (
        "from stable_baselines3 import PPO\nfrom stable_baselines3.common.env_util import make_vec_env\n"
        "envs = make_vec_env('CartPole-v1', 8)\n"
        "PPO('MlpPolicy', envs, n_steps=128, batch_size=256, n_epochs=4, device='cpu').learn(1024)"
    )
    with tempfile.TemporaryDirectory() as root:
        options = ["--agent.num-steps", "128", "--agent.num-epochs", "4", "--total-steps", "1024", "--root", root]
        quiet = ["--evaluation.final-episodes", "0", "--evaluation.video", "false", "--evaluation.period", "null"]
        commands = {
            "sb3": [sys.executable, "-c", peer],
            "triathlon": [sys.executable, "-m", "triathlon.scripts.main", "train", "cartpole_ppo", *options, *quiet],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, command in commands.items():
                begun = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - begun)
    a, b = (statistics.median(seconds[name][1:]) for name in ("triathlon", "sb3"))
    print(f"\nFrom started process to the end after one update: {a:.2f} s, Stable-Baselines3 {b:.2f} s")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("ppo", "dqn", "start"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    global THREADS
    THREADS = options.threads
    if options.only in (None, "ppo", "dqn"):
        print("| CartPole-v1 | mode | steps/s | SB3 steps/s | median ratio | from, to |\n|---|---|---|---|---|---|")
    for num_envs in (8, 64):
        if options.only in (None, "ppo"):
            compare(f"PPO, {num_envs} envs", ppo(num_envs), 4_096 * num_envs, options.rounds)
        if options.only in (None, "dqn"):
            compare(f"DQN, {num_envs} envs", dqn(num_envs), 6_400, options.rounds)
    if options.only in (None, "start"):
        start(options.rounds)


if __name__ == "__main__":
    main()
