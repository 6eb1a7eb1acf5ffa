"""What a GPU learner gains by each of its settings: environment steps per second of training on Pong.

    python benchmarks/gpu.py                   on the GPU; the table names it
    python benchmarks/gpu.py --envs 64 --rounds 3
    python benchmarks/gpu.py --device cpu      the rows that need no GPU (groups that take turns)

Each row adds to the plain training of its agent: `compile`, `cuda_graphs` (acting and updating), both, two groups of
environments that take turns (`env.num_groups`), all together; for DQN the replay's pictures on the GPU against host
memory. Rows take turns, round by round; compiling and recording are not timed. PPO: 128 steps, 4 epochs, 4 minibatches;
DQN: batches of 32, an update for every 4 steps.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import Any

import torch
from atari import DQN, PPO, backbone, pong, print_ratios, take_turns
from speed import Training, ours

from triathlon.training.bottleneck import device_name


def trainings(agent: Any, num_envs: int, device: torch.device) -> dict[str, Training]:
    """The rows of one agent by name; `plain` first, to which the others are compared."""
    on_gpu, env = device.type == "cuda", replace(pong(), num_envs=num_envs)
    graphs, fast = {"cuda_graphs": True}, {"cuda_graphs": True, "compile": True}
    rows: dict[str, tuple[dict[str, Any], int]] = {"plain": ({}, 1), "groups": ({}, 2)}
    if on_gpu:
        rows |= {"compile": ({"compile": True}, 1), "graphs": (graphs, 1), "compile + graphs": (fast, 1)}
        rows["compile + graphs + groups"] = (fast, 2)
        if agent.kind == "dqn":
            rows["replay on the host"] = ({"replay_device": "host"}, 1)
    return {
        name: ours(replace(agent, **settings), backbone(), replace(env, num_groups=num_groups), device=device)
        for name, (settings, num_groups) in rows.items()
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agents", nargs="+", choices=["ppo", "dqn"], default=["ppo", "dqn"])
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps of a row in a round")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no GPU that PyTorch can use; --device cpu measures what needs none")
    device = torch.device(options.device)
    print("\n| Pong | setting | steps/s | median ratio | from, to |\n|---|---|---|---|---|")
    for name in options.agents:
        rollout = PPO.num_steps * options.envs
        agents = {
            "ppo": replace(PPO, batch_size=rollout // 4),
            "dqn": replace(DQN, train_period=4 * options.envs, gradient_steps=options.envs, buffer_size=100_000),
        }
        rows = trainings(agents[name], options.envs, device)
        print_ratios(name.upper(), take_turns(rows, max(2 * rollout, 4_000), options.steps, options.rounds), "plain")
    print(
        f"\n{options.envs} environments; {device_name(device)}; {os.cpu_count()} CPU cores, "
        f"PyTorch {torch.__version__}."
    )


if __name__ == "__main__":
    main()
