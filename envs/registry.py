"""The environments of this project by name, made known to Gymnasium when `triathlon.envs` is imported."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym

from triathlon.envs.catch import CatchVectorEnv
from triathlon.envs.memory import CueRecallVectorEnv, RepeatPreviousVectorEnv, TMazeVectorEnv
from triathlon.envs.pixels import CartPolePixelsVectorEnv
from triathlon.envs.probes import PROBES
from triathlon.envs.vector import SingleEnv


def _register(name: str, vector_class: Any, max_episode_steps: int | None = None) -> None:
    single = partial(SingleEnv, vector_class)
    single.metadata = SingleEnv.metadata  # type: ignore[attr-defined]  # where Gymnasium looks for the render modes
    gym.register(
        f"triathlon/{name}-v0",
        entry_point=single,
        vector_entry_point=vector_class,
        max_episode_steps=max_episode_steps,
    )


def register() -> None:
    """Register every environment of ours, single and vector, as `triathlon/<name>-v0`."""
    _register("CueRecall", CueRecallVectorEnv)
    _register("TMaze", TMazeVectorEnv)
    _register("RepeatPrevious", RepeatPreviousVectorEnv)
    _register("CartPolePixels", CartPolePixelsVectorEnv, max_episode_steps=500)
    _register("Catch", CatchVectorEnv)
    for name, probe in PROBES.items():
        _register(name, probe)
