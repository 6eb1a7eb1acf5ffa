"""A trained agent to play with from Python: load a run, ask what it would do.

B observations at once.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike, NDArray

from triathlon.agents.agent import Policy
from triathlon.envs.make import make_env, make_envs
from triathlon.envs.tuples import named_parts
from triathlon.networks.backbone import State
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.evaluate import policy_batch
from triathlon.training.restoring import load_policy
from triathlon.training.run_folder import open_run


@dataclass(frozen=True)
class TrainedAgent:
    """The policy of a run, and the experiment that it comes from."""

    policy: Policy
    experiment: Experiment
    checkpoint: Path
    observation_space: gym.Space[Any]
    """Of one environment, a Tuple as a Dict with keys "0", "1", …."""

    @classmethod
    def load(cls, run: str | Path = "latest", checkpoint: str | None = None) -> TrainedAgent:
        """The agent of a run folder (`latest`: the last one started below `runs`).

        `checkpoint` is `"best"` or `"last"`; by default the best if there is one.

        Raises:
            RunError: there is no such run or checkpoint, or it is damaged.
            EnvError: its environment cannot be made here.
        """
        folder = open_run(run)
        path, experiment = folder.checkpoint(checkpoint), folder.experiment()
        with closing(make_envs(experiment.judging_env, 1)) as envs:
            space = envs.single_observation_space
        return cls(load_policy(path, experiment), experiment, path, space)

    def make_env(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """One environment as the agent is scored in; not of Atari and board games, which `make_envs` makes."""
        return make_env(self.experiment.judging_env, render_mode)

    def make_envs(self, num_envs: int = 1, render: bool = False) -> VectorEnv[Any, Any, Any]:
        """Environments as the agent is scored in, which step together and begin anew in the step after an end."""
        return make_envs(self.experiment.judging_env, num_envs, render)

    def predict(
        self,
        obs: Any,
        state: State | None = None,
        episode_start: ArrayLike | None = None,
        deterministic: bool = True,
        action_masks: ArrayLike | None = None,
    ) -> tuple[NDArray[Any], State]:
        """Actions for one observation or a batch `[B, *obs]`, as the action space has them, and the memory after it.

        Arguments are those of `predict` in Stable-Baselines3. Whoever plays with a memory gives back the `state` that
        the last call returned; it is forgotten where `episode_start` (`[B]`, or one for one observation) is true.
        `action_masks` (`[A]` or `[B, A]`) are true where an action may be taken, as in `info["action_mask"]`.

        Raises:
            RunError: the observation has not the shape of the environment's.
        """
        obs = named_parts(obs)
        single = _is_single(obs, self.observation_space)
        rows = _map(lambda x: np.asarray(x)[None] if single else np.asarray(x), obs)
        num_rows = len(_leaf(rows))
        first = np.full(num_rows, state is None) if episode_start is None else np.atleast_1d(episode_start)
        legal = None
        if action_masks is not None:
            mask = np.atleast_2d(action_masks)
            legal = torch.from_numpy(np.array(np.broadcast_to(mask, (num_rows, mask.shape[1])), bool))
        decision = self.policy.act(
            policy_batch(rows),
            self.policy.initial_state(num_rows) if state is None else state,
            torch.from_numpy(np.array(np.broadcast_to(first, num_rows), bool)),
            legal,
            deterministic=deterministic,
        )
        action = self.policy.env_action(decision.action.cpu().numpy())
        return action[0] if single else action, decision.state


def _is_single(obs: Any, space: gym.Space[Any]) -> bool:
    """Whether it is one observation rather than a batch of them."""
    leaf, expected = np.asarray(_leaf(obs)), _leaf_shape(space)
    if leaf.shape == expected:
        return True
    if leaf.shape[1:] == expected and leaf.ndim == len(expected) + 1:
        return False
    raise RunError(f"an observation has shape {expected}, or {('B', *expected)} for B of them; found {leaf.shape}")


def _map(function: Any, obs: Any) -> Any:
    return {key: _map(function, part) for key, part in obs.items()} if isinstance(obs, dict) else function(obs)


def _leaf(obs: Any) -> Any:
    """The first array of an observation, which are all as many rows long."""
    return _leaf(obs[min(obs)]) if isinstance(obs, dict) else obs


def _leaf_shape(space: gym.Space[Any]) -> tuple[int, ...]:
    return _leaf_shape(space[min(space)]) if isinstance(space, spaces.Dict) else tuple(space.shape or ())
