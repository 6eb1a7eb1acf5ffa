"""How tests of board games play: given rows of actions, or at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyspiel

from triathlon.envs.board import BoardEnvs


def play(envs: BoardEnvs, *rows: Any) -> list[tuple[Any, ...]]:
    """Each row of actions for all games: reward, terminated, learning reward and next sign of every step."""
    steps = []
    for row in rows:
        _, reward, terminated, truncated, info = envs.step(np.broadcast_to(row, envs.num_envs))
        assert not truncated.any()
        steps.append((reward, terminated, info["learning_reward"], info["next_sign"]))
    return steps


def random_actions(info: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    mask = info["action_mask"]
    return np.argmax(rng.random(mask.shape) * mask, axis=1)


def play_randomly(envs: Any, num_steps: int, seed: int = 0, mask: Any = None) -> list[tuple[Any, ...]]:
    """Random legal play; what `reset` gave (unless a mask says that play goes on) and what every step gave."""
    rng, seen = np.random.default_rng(seed), []
    info: dict[str, Any] = {"action_mask": mask}
    if mask is None:
        obs, info = envs.reset(seed=seed)
        seen.append((obs,))
    for _ in range(num_steps):
        obs, *results, info = envs.step(random_actions(info, rng))
        seen.append((obs, *results, *info.values()))
    return seen


def same(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(a, b) for step, again in pairs for a, b in zip(step, again, strict=True))


def random_positions(game: pyspiel.Game, num_games: int, seed: int) -> Iterator[pyspiel.State]:
    rng = np.random.default_rng(seed)
    for _ in range(num_games):
        state = game.new_initial_state()
        while not state.is_terminal():
            yield state
            state.apply_action(int(rng.choice(state.legal_actions())))
