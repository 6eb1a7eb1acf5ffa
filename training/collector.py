"""Steps the environments with a policy and writes down what happened as segments.

T rows in time, B environments, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.agent import Decision, Policy
from triathlon.agents.segment import Segment
from triathlon.envs.errors import EnvError
from triathlon.envs.state import restore, state_of
from triathlon.networks.backbone import Obs, State
from triathlon.training.stopwatch import REST, Stopwatch

Arrays: TypeAlias = "NDArray[Any] | dict[str, Arrays]"


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished episode as the environment scored it: undiscounted return and length in agent steps."""

    episode_return: float
    length: int


class Collector:
    """Owns the environments, the episodes under way and the policy's memory of them.

    Environments follow `AutoresetMode.NEXT_STEP`: after an episode has ended, the next call to `step` ignores the
    action and gives the first observation of a new episode.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], policy: Policy, seed: int, state_period: int = 1) -> None:
        self.envs, self.policy, self.state_period = envs, policy, state_period
        self.num_envs = envs.num_envs
        self.stopwatch = Stopwatch()
        self._for_gpu = policy.generator.device.type == "cuda"
        self.episodes: list[Episode] = []  # finished since the last `take_episodes`
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin new episodes everywhere; those under way are dropped."""
        self._obs, info = self.envs.reset(seed=seed)
        self._legal = info.get("action_mask")
        self._is_first = np.ones(self.num_envs, bool)
        self._done = np.zeros(self.num_envs, bool)  # the environments whose next step resets them
        self._state = self.policy.initial_state(self.num_envs)
        self._begin(self._is_first)

    def collect(self, num_rows: int) -> Segment:
        """Play `num_rows` rows in every environment.

        Raises:
            EnvError: an environment failed, or gave a reward or an observation that is not finite.
        """
        rows = _Rows(num_rows, self.num_envs, self._obs, self._legal, self._for_gpu)
        states: list[State] = []
        for t in range(num_rows):
            if t % self.state_period == 0:
                states.append(self._state)
            obs, is_first, legal = rows.see(t, self._obs, self._is_first, self._legal)
            self.stopwatch.lap(REST)
            decision = self.policy.act(obs, self._state, is_first, legal)
            rows.decide(t, decision)
            self._state = decision.state
            action = self.policy.env_action(rows.actions[t])
            self.stopwatch.lap("acting")
            self._step(rows, t, action)
        rows.see(num_rows, self._obs, self._is_first, self._legal)
        self._check_finite(rows)
        stored = tuple(torch.stack(parts) for parts in zip(*states, strict=True))
        segment = rows.segment(stored, self.state_period)
        self.stopwatch.lap(REST)
        return segment

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since this was last asked."""
        episodes, self.episodes = self.episodes, []
        return episodes

    def load_weights(self, weights: Tensor) -> None:
        """Act with these weights from the next row on."""
        self.policy.load_weights(weights)

    def _step(self, rows: _Rows, t: int, action: NDArray[Any]) -> None:
        try:
            self._obs, reward, terminated, truncated, info = self.envs.step(action)
        except EnvError:
            raise
        except Exception as error:
            raise EnvError(f"{self._name} cannot step: it raised {type(error).__name__}: {error}") from error
        self.stopwatch.lap("stepping")
        rows.rewards[t] = info.get("learning_reward", reward)  # an environment may score otherwise than it teaches
        rows.terminated[t] = info.get("learning_terminated", terminated)
        self._legal = info.get("action_mask")
        self._returns += reward
        self._lengths += ~self._done
        self._is_first = self._done
        self._done = np.logical_or(terminated, truncated)
        if self._done.any():
            for i in np.flatnonzero(self._done):
                self.episodes.append(Episode(float(self._returns[i]), int(self._lengths[i])))
            self._begin(self._done)

    def _begin(self, where: NDArray[np.bool_]) -> None:
        self._returns[where] = 0.0
        self._lengths[where] = 0

    def _check_finite(self, rows: _Rows) -> None:
        for name, array in (("reward", rows.rewards), *_leaves(rows.obs, "observation")):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                t, column = (int(i[0]) for i in np.nonzero(~np.isfinite(array))[:2])
                raise EnvError(
                    f"{self._name} gave what is not finite: the {name} of environment {column} is {array[t, column]} "
                    f"at row {t} of the rollout; nothing was learned from it"
                )

    @property
    def _name(self) -> str:
        """What the environments are called in a configuration."""
        return str(getattr(self.envs, "name", type(self.envs).__name__))

    def state_dict(self) -> dict[str, Any] | None:
        """All that is needed to go on to the bit, or None if the environments cannot tell their state."""
        envs = state_of(self.envs)
        if envs is None:
            return None
        return {
            "envs": envs,
            "obs": self._obs,
            "legal": self._legal,
            "is_first": self._is_first,
            "done": self._done,
            "returns": self._returns.copy(),  # these two are added to in place
            "lengths": self._lengths.copy(),
            "state": list(self._state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        restore(self.envs, state["envs"])
        self._obs, self._legal = state["obs"], state["legal"]
        self._is_first, self._done = state["is_first"], state["done"]
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
        self._state = tuple(state["state"])


class _Rows:
    """The arrays that one segment is written into, row by row: numpy, whose small writes cost a tenth of torch's.

    What is large is page-locked where it goes on to a GPU (`for_gpu`), so that copies need not be waited for.
    """

    def __init__(self, num_rows: int, num_envs: int, obs: Any, legal: Any, for_gpu: bool) -> None:
        shape = (num_rows + 1, num_envs)
        self._for_gpu = for_gpu
        self.obs = _allocate(num_rows + 1, obs, for_gpu)
        self.actions: NDArray[Any] = np.empty(0)  # its shape is known at the first decision
        self.rewards = np.zeros(shape, np.float32)
        self.terminated = np.zeros(shape, bool)
        self.is_first = np.zeros(shape, bool)
        self.legal = None if legal is None else np.ones((*shape, *legal.shape[1:]), bool)
        self.extras: dict[str, NDArray[Any]] = {}

    def see(self, t: int, obs: Any, is_first: NDArray[np.bool_], legal: Any) -> tuple[Obs, Tensor, Tensor | None]:
        """Write what was seen at row t; returns it as views for the policy."""
        _write(self.obs, t, obs)
        self.is_first[t] = is_first
        if self.legal is not None and legal is not None:
            self.legal[t] = legal
        mask = None if self.legal is None else torch.from_numpy(self.legal[t])
        return _tensors(_row(self.obs, t)), torch.from_numpy(self.is_first[t]), mask

    def decide(self, t: int, decision: Decision) -> None:
        """Write what was decided at row t."""
        if t == 0:
            self.actions = self._like(decision.action)
            self.extras = {name: self._like(value) for name, value in decision.extras.items()}
        for name, value in decision.extras.items():
            if self._for_gpu:
                torch.from_numpy(self.extras[name][t]).copy_(value.detach(), non_blocking=True)
            else:
                self.extras[name][t] = value.numpy(force=True)
        self.actions[t] = decision.action.numpy(force=True)  # waits for the GPU, and so for all copies before it

    def _like(self, row: Tensor) -> NDArray[Any]:
        array: NDArray[Any] = torch.zeros(
            len(self.rewards), *row.shape, dtype=row.dtype, pin_memory=self._for_gpu
        ).numpy()
        return array

    def segment(self, state: State, state_period: int) -> Segment:
        """All of it as a segment that shares this memory."""
        return Segment(
            obs=_tensors(self.obs),
            action=torch.from_numpy(self.actions),
            reward=torch.from_numpy(self.rewards),
            terminated=torch.from_numpy(self.terminated),
            is_first=torch.from_numpy(self.is_first),
            legal=None if self.legal is None else torch.from_numpy(self.legal),
            extras={name: torch.from_numpy(value) for name, value in self.extras.items()},
            state=state,
            state_period=state_period,
        )


def _allocate(num_rows: int, obs: Any, for_gpu: bool) -> Any:
    if isinstance(obs, dict):
        return {key: _allocate(num_rows, value, for_gpu) for key, value in obs.items()}
    dtype = np.float32 if obs.dtype == np.float64 else obs.dtype  # networks compute in float32
    rows = np.empty((num_rows, *obs.shape), dtype)
    return torch.from_numpy(rows).pin_memory().numpy() if for_gpu else rows


def _write(rows: Any, t: int, obs: Any) -> None:
    if isinstance(rows, dict):
        for key, value in rows.items():
            _write(value, t, obs[key])
    else:
        rows[t] = obs


def _tensors(rows: Any) -> Any:
    return {key: _tensors(value) for key, value in rows.items()} if isinstance(rows, dict) else torch.from_numpy(rows)


def _row(rows: Any, t: int) -> Any:
    return {key: _row(value, t) for key, value in rows.items()} if isinstance(rows, dict) else rows[t]


def _leaves(obs: Any, name: str) -> list[tuple[str, NDArray[Any]]]:
    if isinstance(obs, dict):
        return [leaf for key, value in obs.items() for leaf in _leaves(value, f"{name}['{key}']")]
    return [(name, obs)]


def policy_batch(obs: Any) -> Obs:
    """One row of numpy observations `[B, *obs]` as tensors in the precision that networks compute in."""
    if isinstance(obs, dict):
        return {key: policy_batch(value) for key, value in obs.items()}
    return torch.from_numpy(np.ascontiguousarray(obs, np.float32 if obs.dtype == np.float64 else obs.dtype))
