"""Plies per second of training connect four by self-play, beside MaskablePPO of sb3-contrib on PettingZoo's game.

    python benchmarks/board_training.py
    python benchmarks/board_training.py --rounds 5 --steps 40000

PPO on both sides: an MLP of two layers of 64, 2,048 plies a rollout, 4 epochs, minibatches of 256, masks of legal
moves, one CPU thread. Ours plays 64 games at once, and one (the row `1 game`); MaskablePPO plays one PettingZoo game,
both sides of it, as in PettingZoo's own tutorial. Peer and project take turns, round by round.

Peer: `pip install sb3-contrib pettingzoo pygame`; without them only ours is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from atari import backbone, print_ratios, take_turns
from speed import Training, ours

from triathlon.agents.ppo_config import PPOConfig
from triathlon.envs import EnvConfig

ROLLOUT = 2_048
PPO = PPOConfig(num_epochs=4, batch_size=256, learning_rate=3e-4)


def project(num_games: int) -> Training:
    """Our PPO with so many games at once."""
    agent = replace(PPO, num_steps=ROLLOUT // num_games)
    return ours(agent, backbone("mlp", hidden_sizes=(64, 64)), EnvConfig("board/connect_four", num_games))


def maskable() -> Training:
    """MaskablePPO on PettingZoo's connect four, moving for both sides."""
    import gymnasium as gym
    from pettingzoo.classic import connect_four_v3
    from sb3_contrib import MaskablePPO

    class BothSides(gym.Env[Any, Any]):
        """The game as a single-agent environment of whoever is to move."""

        def __init__(self) -> None:
            self.game = connect_four_v3.env()
            self.game.reset(seed=0)
            side = self.game.possible_agents[0]
            self.observation_space = self.game.observation_space(side)["observation"]
            self.action_space = self.game.action_space(side)

        def _see(self) -> Any:
            self.seen = self.game.last()[0]
            return self.seen["observation"]

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            self.game.reset(seed=seed)
            return self._see(), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            mover = self.game.agent_selection
            self.game.step(int(action))
            over = any(self.game.terminations.values())
            return self._see(), float(self.game.rewards[mover]), over, False, {}

        def action_masks(self) -> Any:
            return np.asarray(self.seen["action_mask"], bool)

    model = MaskablePPO("MlpPolicy", BothSides(), n_steps=ROLLOUT, batch_size=256, n_epochs=4, device="cpu", seed=1)

    def train(num_steps: int) -> float:
        torch.set_num_threads(1)
        before, start = model.num_timesteps, time.perf_counter()
        model.learn(num_steps, reset_num_timesteps=False)
        return float((model.num_timesteps - before) / (time.perf_counter() - start))

    return train


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20_480, help="plies of a row in a round")
    options = parser.parse_args()
    rows = {"64 games": project(64), "1 game": project(1)}
    peer = "1 game"
    if all(importlib.util.find_spec(name) for name in ("pettingzoo", "sb3_contrib")):
        peer = "MaskablePPO"
        rows = {peer: maskable()} | rows
    else:
        print("MaskablePPO is not measured: pip install sb3-contrib pettingzoo pygame")
    print("\n| connect four | | plies/s | median ratio | from, to |\n|---|---|---|---|---|")
    print_ratios("PPO, both sides", take_turns(rows, ROLLOUT, options.steps, options.rounds), peer)


if __name__ == "__main__":
    main()
