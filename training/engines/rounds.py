"""Rounds of updates of engines that count steps of all environments together. B environments."""

from __future__ import annotations

from triathlon.training.errors import RunError


def rounds_of_updates(train_period: int, gradient_steps: int, num_envs: int, engine: str) -> tuple[int, int]:
    """How many steps of all environments stand between two rounds of updates, and how many updates a round has.

    Raises:
        RunError: these are no whole numbers.
    """
    rows = max(1, train_period // num_envs)
    updates, rest = divmod(gradient_steps * rows * num_envs, train_period)
    if rest or not updates:
        raise RunError(
            f"agent.train_period is {train_period} with env.num_envs {num_envs} and agent.gradient_steps "
            f"{gradient_steps}, which engine: {engine} cannot keep: it learns a whole number of times after steps "
            f"of all environments; use a multiple of {num_envs}"
        )
    return rows, updates


__all__ = ["rounds_of_updates"]
