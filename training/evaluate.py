"""Plays whole episodes with a trained policy and says how well it did.

B environments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from triathlon.agents.agent import Decision
from triathlon.networks.backbone import Obs, State

# Seeds of evaluations, far from those of training (below 2**31); choosing the best checkpoint and judging it differ.
CHOOSING_SEED, JUDGING_SEED = 2**31 + 10_000, 2**31 + 20_000


class Actor(Protocol):
    """The part of a policy that plays (`triathlon.agents.agent.Policy`)."""

    generator: torch.Generator

    def initial_state(self, batch_size: int) -> State: ...

    def act(
        self,
        obs: Obs,
        state: State,
        is_first: torch.Tensor,
        legal: torch.Tensor | None = None,
        deterministic: bool = False,
    ) -> Decision: ...

    def env_action(self, action: np.ndarray) -> np.ndarray: ...


@dataclass(slots=True)
class Evaluation:
    """Returns and lengths (agent steps) of whole episodes, in the order in which they ended."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


def evaluate(
    policy: Actor,
    envs: VectorEnv[Any, Any, Any],
    num_episodes: int,
    seed: int,
    deterministic: bool = True,
    on_step: Callable[[NDArray[np.bool_]], None] | None = None,
) -> Evaluation:
    """Play `num_episodes` whole episodes in `envs`, seeded with `seed`.

    Each environment has its share of the episodes to play, so that short episodes do not crowd out long ones.
    `on_step(active [B])` is called after every reset and step, for a caller that films those that still played it. The
    policy's generator is seeded for the evaluation and put back, so that evaluating changes nothing about training.
    """
    before = policy.generator.get_state()
    policy.generator.manual_seed(seed)
    try:
        return _play(policy, envs, num_episodes, seed, deterministic, on_step)
    finally:
        policy.generator.set_state(before)


def _play(
    policy: Actor,
    envs: VectorEnv[Any, Any, Any],
    num_episodes: int,
    seed: int,
    deterministic: bool,
    on_step: Callable[[NDArray[np.bool_]], None] | None,
) -> Evaluation:
    num_envs = envs.num_envs
    quota = np.full(num_envs, num_episodes // num_envs)
    quota[: num_episodes % num_envs] += 1
    obs, info = envs.reset(seed=seed)
    state = policy.initial_state(num_envs)
    is_first, done = np.ones(num_envs, bool), np.zeros(num_envs, bool)
    returns, lengths, result = np.zeros(num_envs), np.zeros(num_envs, np.int64), Evaluation()
    if on_step is not None:
        on_step(quota > 0)
    while quota.any():
        mask = info.get("action_mask")
        decision = policy.act(
            policy_batch(obs),
            state,
            torch.from_numpy(is_first),
            None if mask is None else torch.from_numpy(np.asarray(mask, bool)),
            deterministic=deterministic,
        )
        state = decision.state
        obs, reward, terminated, truncated, info = envs.step(policy.env_action(decision.action.cpu().numpy()))
        returns += reward
        lengths += ~done
        is_first, done = done, np.logical_or(terminated, truncated)
        active = quota > 0  # as the step was taken: what an episode ends with is seen too
        for i in np.flatnonzero(done):
            if quota[i] > 0:
                result.returns.append(float(returns[i]))
                result.lengths.append(int(lengths[i]))
                quota[i] -= 1
            returns[i], lengths[i] = 0.0, 0
        if on_step is not None:
            on_step(active)
    return result


def film(
    policy: Actor,
    envs: VectorEnv[Any, Any, Any],
    add_frame: Callable[[NDArray[np.uint8]], None],
    seed: int,
    num_episodes: int = 1,
    deterministic: bool = True,
) -> Evaluation:
    """Play whole episodes in one environment that renders RGB arrays, giving each frame `[H, W, 3]` to `add_frame`."""

    def shoot(active: NDArray[np.bool_]) -> None:
        pictures: Sequence[NDArray[np.uint8]] | None = envs.render()
        if active[0] and pictures is not None:
            add_frame(np.asarray(pictures[0], np.uint8))

    return evaluate(policy, envs, num_episodes, seed, deterministic, on_step=shoot)


def policy_batch(obs: Any) -> Obs:
    """One row of numpy observations `[B, *obs]` as tensors in the precision that networks compute in."""
    if isinstance(obs, dict):
        return {key: policy_batch(value) for key, value in obs.items()}
    return torch.from_numpy(np.ascontiguousarray(obs, np.float32 if obs.dtype == np.float64 else obs.dtype))
