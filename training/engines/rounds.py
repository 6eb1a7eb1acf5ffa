"""How engines that count steps of all environments together divide what was played. B environments."""

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


def minibatch_size(num_rows: int, batch_size: int) -> int:
    """The size of as many equal minibatches as we make of a rollout of so many rows, of all environments together."""
    return -(-num_rows // max(1, num_rows // batch_size))


__all__ = ["minibatch_size", "rounds_of_updates"]
