"""What rollout workers cost: beside bare loops, beside none, and beside RLlib's.

    python benchmarks/workers.py                    everything (minutes; wants an idle machine with two cores)
    python benchmarks/workers.py --only pong        one part: pong, cartpole or rllib

`pong`     two Ray workers against two processes that do nothing but step ALE: once with a network that sees eight
           pixels (`glance.py`), so that nothing but stepping, writing rows down, sending and joining them is left, and
           once with Nature's. What the workers spend on the network is taken out of both.
`cartpole` one worker of each kind against none, seconds of collecting a step, without learning.
`rllib`    processor time of the whole process tree a step: PPO on CartPole with two workers of ours and two stock
           EnvRunners of RLlib, the same network, rollouts, epochs and minibatches.
All parties take turns, round by round; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch

from triathlon.training.config import Experiment, from_mapping, load

NUM_WORKERS = 2


def pool_of(experiment: Experiment, more: ExitStack) -> tuple[Any, Any]:
    """The collector of an experiment and its learner, as a run makes them."""
    from triathlon.agents.registry import make_learner
    from triathlon.training.task import make_task
    from triathlon.training.workers.make import make_collector, make_run_envs

    torch.set_num_threads(1)
    envs = make_run_envs(experiment)
    task = make_task(experiment, envs[0], torch.device("cpu"), np.random.SeedSequence(1))
    learner = make_learner(experiment.agent, experiment.backbone, task)
    collector = make_collector(experiment, envs, learner, 1, None, lambda text: print(text, file=sys.stderr))
    for group in envs:
        more.callback(group.close)
    more.callback(collector.close)
    return collector, learner


# --- pong ------------------------------------------------------------------------------------------------------------

BARE = """
import sys, time
from triathlon.training.config import load
from triathlon.envs.make import make_envs
envs = make_envs(load(sys.argv[1]).env, int(sys.argv[2]))
envs.reset(seed=int(sys.argv[3]))
actions = [envs.action_space.sample() for _ in range(64)]
for i in range(64):
    envs.step(actions[i])
print("ready", flush=True)
sys.stdin.readline()
started, steps = time.perf_counter(), 0
while time.perf_counter() - started < float(sys.argv[4]):
    for action in actions:
        envs.step(action)
    steps += 64 * envs.num_envs
print(steps / (time.perf_counter() - started), flush=True)
"""


def pong(rounds: int, seconds: float, kind: str) -> None:
    """Steps per second of two workers in both modes and with both networks, and of two bare loops."""
    config, per_worker = "configs/atari/ppo_pong.yaml", 4
    networks = {"eight pixels": "glance:Glance", "Nature's network": "cnn"}
    for (network, backbone), mode in product(networks.items(), ("sync", "async")):
        found = []
        with ExitStack() as more:
            workers = {"kind": kind, "num": NUM_WORKERS, "envs_per_worker": per_worker, "mode": mode}
            experiment = load(config, ["--device", "cpu", "--backbone.kind", backbone])
            pool, learner = pool_of(replace_workers(experiment, workers), more)
            for _ in range(rounds):
                pool.restart(1)  # asynchronous workers rest while the bare loops run
                bare = bare_loops(config, per_worker, seconds)
                pool.collect(learner.num_rows)
                started, steps, acting = time.perf_counter(), 0, pool.worker_seconds["acting"]
                while time.perf_counter() - started < seconds:
                    steps += pool.collect(learner.num_rows).num_steps
                whole = time.perf_counter() - started
                acting = (pool.worker_seconds["acting"] - acting) / NUM_WORKERS
                found.append((bare, steps / (whole - acting), steps / whole))
        bare, ours, with_acting = (statistics.median(column) for column in zip(*found, strict=True))
        share = statistics.median(ours / bare for bare, ours, _ in found)
        print(
            f"pong      bare loops {bare:,.0f} steps/s, {kind} workers ({mode}, {network}) {ours:,.0f} without acting, "
            f"{with_acting:,.0f} with it: {share:.2f} of bare; to reach: 0.90",
            flush=True,
        )


def bare_loops(config: str, num_envs: int, seconds: float) -> float:
    """Steps per second of two processes together that step ALE and do nothing else."""
    loops = [
        subprocess.Popen(
            [sys.executable, "-c", BARE, config, str(num_envs), str(seed), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(NUM_WORKERS)
    ]
    total = 0.0
    for loop in loops:
        assert loop.stdout is not None
        loop.stdout.readline()
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write("go\n")
        loop.stdin.flush()
    for loop in loops:
        assert loop.stdout is not None
        total += float(loop.stdout.readline())
        loop.communicate()
    return total


# --- cartpole --------------------------------------------------------------------------------------------------------


def cartpole(rounds: int, seconds: float) -> None:
    """Seconds of collecting a step with one worker, over those without."""
    base = cartpole_experiment(8)
    kinds: dict[str, dict[str, Any]] = {"none": {}} | {
        kind: {"kind": kind, "num": 1} for kind in ("local", "process", "ray")
    }
    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    with ExitStack() as more:
        made = {kind: pool_of(replace_workers(base, workers), more) for kind, workers in kinds.items()}
        for collector, learner in made.values():
            collector.collect(learner.num_rows)
        for _ in range(rounds):
            for kind, (collector, learner) in made.items():
                started, steps = time.perf_counter(), 0
                while time.perf_counter() - started < seconds:
                    steps += collector.collect(learner.num_rows).num_steps
                spent[kind].append((time.perf_counter() - started) / steps)
    for kind in ("local", "process", "ray"):
        ratio = statistics.median(a / b for a, b in zip(spent[kind], spent["none"], strict=True))
        print(
            f"cartpole  {kind:8} {1e6 * statistics.median(spent[kind]):.1f} µs a step, none "
            f"{1e6 * statistics.median(spent['none']):.1f}: {ratio:.2f} times; to reach: 1.30"
        )


def cartpole_experiment(num_envs: int, **more: Any) -> Experiment:
    agent = {"kind": "ppo", "num_steps": 128, "num_epochs": 1, "batch_size": 256, "share_backbone": False}
    env = {"id": "CartPole-v1", "num_envs": num_envs, "vectorization": "sync"}
    settings = {"env": env, "agent": agent, "backbone": {"kind": "mlp", "hidden_sizes": [64, 64]}, "device": "cpu"}
    return from_mapping(settings | {"total_steps": 100_000_000} | more)


def replace_workers(experiment: Experiment, workers: dict[str, Any]) -> Experiment:
    from triathlon.training.workers.config import WorkersConfig

    return replace(experiment, workers=WorkersConfig(**workers))


# --- rllib -----------------------------------------------------------------------------------------------------------


def rllib(rounds: int, seconds: float) -> None:
    """Processor microseconds a step of the whole process tree, each party in a process of its own."""
    found: dict[str, list[float]] = {"ours": [], "rllib": []}
    for _ in range(rounds):
        for party, values in found.items():
            command = [sys.executable, __file__, "--party", party, "--seconds", str(seconds)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            values.append(float(json.loads(done.stdout.splitlines()[-1])))
    ratio = statistics.median(theirs / ours for ours, theirs in zip(found["ours"], found["rllib"], strict=True))
    ours, theirs = (1e6 * statistics.median(values) for values in found.values())
    print(f"rllib     ours {ours:.0f} µs of CPU a step, RLlib {theirs:.0f}: {ratio:.1f} times less; to reach: 3.0")


def play_ours(more: ExitStack) -> Callable[[], int]:
    """One rollout of 2 x 8 x 128 steps and its update."""
    experiment = cartpole_experiment(8 * NUM_WORKERS, workers={"kind": "ray", "num": NUM_WORKERS})
    collector, learner = pool_of(experiment, more)

    def play() -> int:
        segment = collector.collect(learner.num_rows)
        learner.update(segment)
        return int(segment.num_steps)

    return play


def play_rllib(more: ExitStack) -> Callable[[], int]:
    """The same by RLlib's new API stack, as it comes."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=NUM_WORKERS, num_envs_per_env_runner=8, rollout_fragment_length=128)
        .training(train_batch_size_per_learner=2048, num_epochs=1, minibatch_size=256)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], vf_share_layers=False))
    )
    algorithm = config.build_algo()
    more.callback(algorithm.stop)

    def play() -> int:
        algorithm.train()
        return 2048

    return play


def measure(party: str, seconds: float) -> None:
    """Print the processor seconds a step of this process and of all that it started."""
    import psutil

    me = psutil.Process()

    def spent() -> float:
        total = 0.0
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    with ExitStack() as more:
        play = {"ours": play_ours, "rllib": play_rllib}[party](more)
        for _ in range(3):
            play()
        before, started, steps = spent(), time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            steps += play()
        print(json.dumps((spent() - before) / steps))


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("pong", "cartpole", "rllib"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--kind", choices=("ray", "process"), default="ray", help="workers of pong")
    parser.add_argument("--party", choices=("ours", "rllib"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.party:
        measure(options.party, options.seconds)
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home  # Ray writes a token there
        parts: dict[str, Callable[[], None]] = {
            "pong": lambda: pong(options.rounds, options.seconds, options.kind),
            "cartpole": lambda: cartpole(options.rounds, options.seconds),
            "rllib": lambda: rllib(options.rounds, options.seconds),
        }
        for name, part in parts.items():
            if options.only in (None, name):
                part()


if __name__ == "__main__":
    main()
