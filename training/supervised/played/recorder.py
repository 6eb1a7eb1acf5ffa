"""Plays environments and writes down every row. T rows in time, B environments."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.agent import Decision
from triathlon.envs.make import EnvConfig
from triathlon.networks.backbone import Obs, State
from triathlon.training.errors import RunError
from triathlon.training.evaluate import Actor, policy_batch
from triathlon.training.supervised.played.recording import Recording, checked
from triathlon.training.supervised.played.space_json import to_json

RECORDING_SEED = 2**31 + 30_000  # far from the seeds of training and of evaluations


def record(
    policy: Actor | None,
    envs: VectorEnv[Any, Any, Any],
    num_steps: int,
    seed: int,
    env: EnvConfig | None = None,
    deterministic: bool = False,
    epsilon: float = 0.0,
) -> Recording:
    """Play `num_steps` steps (rounded up to whole rows of `envs`), a share `epsilon` of them at random.

    Without a policy all of it is random. The policy's generator is seeded with `seed`. Episodes under way when the
    steps are played stay in the recording without an end.

    Raises:
        RunError: observations or actions are of a space that a recording cannot hold.
    """
    observation_space, action_space = envs.single_observation_space, envs.single_action_space
    to_json(observation_space), to_json(action_space)  # refused before anything is played
    num_envs, rng = envs.num_envs, np.random.default_rng(seed)
    chance = RandomPolicy(action_space, seed)
    num_rows = -(-num_steps // num_envs)
    obs, info = envs.reset(seed=seed)
    if policy is not None:
        policy.generator.manual_seed(seed)
        state = policy.initial_state(num_envs)
    is_first, done = np.ones(num_envs, bool), np.zeros(num_envs, bool)
    rows: list[tuple[NDArray[Any], ...]] = []
    for _ in range(num_rows):
        mask = info.get("action_mask")
        seen = policy_batch(obs)
        assert isinstance(seen, torch.Tensor)
        if policy is None:
            action = chance.draw(num_envs, mask)
        else:
            legal = None if mask is None else torch.from_numpy(np.asarray(mask, bool))
            decision = policy.act(seen, state, torch.from_numpy(is_first), legal, deterministic=deterministic)
            action, state = policy.env_action(decision.action.cpu().numpy()), decision.state
            if epsilon > 0.0:
                where = rng.random(num_envs) < epsilon
                action = np.array(action)
                action[where] = chance.draw(num_envs, mask)[where]
        # Copies: an environment may give the same arrays again, changed.
        before, first = np.array(seen.numpy()), is_first
        obs, reward, terminated, truncated, info = envs.step(action)
        is_first, done = done, np.logical_or(terminated, truncated)
        rows.append((before, np.array(action), *(np.array(x) for x in (reward, terminated, truncated, first))))
    last = policy_batch(obs)
    assert isinstance(last, torch.Tensor)
    nothing = tuple(np.zeros_like(x) for x in rows[-1][1:5])
    rows.append((np.array(last.numpy()), *nothing, is_first))
    found, action, reward, terminated, truncated, first = (
        np.stack(column, 1).reshape(-1, *column[0].shape[1:]) for column in zip(*rows, strict=True)
    )
    whole = Recording(
        found, action, reward.astype(np.float32), terminated, truncated, first, observation_space, action_space, env
    )
    return checked(whole, "what was played")


class RandomPolicy:
    """Draws from an action space as Gymnasium does: evenly, where it has bounds; of Discrete what a mask allows."""

    def __init__(self, space: Space[Any], seed: int) -> None:
        self._space, self.generator = copy.deepcopy(space), torch.Generator()
        self._space.seed(seed)

    def initial_state(self, batch_size: int) -> State:
        return ()

    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        return Decision(torch.from_numpy(self.draw(len(is_first), None if legal is None else legal.numpy())), ())

    def env_action(self, action: NDArray[Any]) -> NDArray[Any]:
        return action

    def draw(self, num: int, mask: NDArray[Any] | None = None) -> NDArray[Any]:
        """`[num, *action]`, each among those that its row of `mask [num, A]` allows.

        Raises:
            RunError: only some actions are allowed, and they are not one choice out of A.
        """
        space = self._space
        if mask is None:
            return np.stack([space.sample() for _ in range(num)])
        if not isinstance(space, spaces.Discrete):
            raise RunError(f"random play obeys action masks of Discrete spaces only, and the actions here are {space}")
        return np.stack([space.sample(mask=np.asarray(row, np.int8)) for row in mask])


__all__ = ["RECORDING_SEED", "RandomPolicy", "record"]
