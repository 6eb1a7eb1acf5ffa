"""Probe environments: episodes of at most five steps whose values are known, each of which tests one thing.

The first five follow Jones, "Debugging RL, Without the Agonizing Pain" (2021), section "Probe environments". Each class
states the truth as `action_values(gamma)`: for every observation the optimal Q-value of each action, so that the value
of an observation is their maximum (over legal actions, where there is a mask). B environments (columns), A actions.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.envs.vector import Columns, NumpyVectorEnv

ActionValues = dict[tuple[float, ...], tuple[float, ...]]


class ProbeVectorEnv(NumpyVectorEnv):
    """What the probes share: a sign of ±1 drawn for each episode, and an observation of `num_features` numbers."""

    state_names: ClassVar[tuple[str, ...]] = ("sign",)
    num_actions: ClassVar[int] = 1
    num_features: ClassVar[int] = 1
    episode_length: ClassVar[int] = 1

    def __init__(self, num_envs: int = 1, max_episode_steps: int | None = None, render_mode: str | None = None) -> None:
        self.single_observation_space = spaces.Box(-1.0, 1.0, (self.num_features,), np.float32)
        self.single_action_space = self.action_kind()
        super().__init__(num_envs, max_episode_steps, render_mode)
        self.sign = np.ones(num_envs, np.int64)

    def action_kind(self) -> spaces.Space[Any]:
        """The space of one action."""
        return spaces.Discrete(self.num_actions)

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        """The optimal Q-value of each action for every observation."""
        raise NotImplementedError("a probe must state its values")

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        """What `actions [B]` earn, `[B]`."""
        raise NotImplementedError("a probe must define its reward")

    def begin(self, columns: Columns) -> None:
        for i in columns:
            self.sign[i] = 2 * self.generators[i].integers(2) - 1

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return self.reward(actions), self.num_steps == self.episode_length - 1

    def observe(self) -> NDArray[np.float32]:
        return np.zeros((self.num_envs, self.num_features), np.float32)


class ProbeConstantVectorEnv(ProbeVectorEnv):
    """One action, one step, reward 1: can the value be learned at all?"""

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        return {(0.0,): (1.0,)}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return np.ones(self.num_envs)


class ProbeObservationVectorEnv(ProbeVectorEnv):
    """One action, one step, the reward is the observation (±1): does the observation reach the value?"""

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        return {(-1.0,): (-1.0,), (1.0,): (1.0,)}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return self.sign.astype(np.float64)

    def observe(self) -> NDArray[np.float32]:
        return self.sign.astype(np.float32)[:, None]


class ProbeDiscountVectorEnv(ProbeVectorEnv):
    """One action, five steps numbered 0, ¼, … 1, reward 1 at the last: is the future discounted, and by how much?"""

    episode_length = 5

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        return {(t / 4,): (gamma ** (4 - t),) for t in range(5)}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(self.num_steps == 4, np.float64)

    def observe(self) -> NDArray[np.float32]:
        # The observation after the last step repeats it; nothing may be learned from it.
        return (np.minimum(self.num_steps, 4) / 4).astype(np.float32)[:, None]


class ProbeActionVectorEnv(ProbeVectorEnv):
    """Two actions, one step, action 0 earns -1 and action 1 earns +1: does the policy follow the reward?"""

    num_actions = 2

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        return {(0.0,): (-1.0, 1.0)}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(2.0 * actions - 1.0)


class ProbePolicyVectorEnv(ProbeVectorEnv):
    """Two actions, one step, action 1 is right (+1, else -1) where the observation is +1, action 0 where it is -1."""

    num_actions = 2

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        return {(-1.0,): (1.0, -1.0), (1.0,): (-1.0, 1.0)}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((2.0 * actions - 1.0) * self.sign)

    def observe(self) -> NDArray[np.float32]:
        return self.sign.astype(np.float32)[:, None]


class ProbeTimeLimitVectorEnv(ProbeVectorEnv):
    """One action, reward 1 for ever, cut off (truncated, never terminated) after five steps.

    Every observation is 0, so its value is 1 / (1 - gamma) if the cut-off is bootstrapped, and below 5 if it is taken
    for an end.
    """

    def __init__(self, num_envs: int = 1, max_episode_steps: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(num_envs, 5 if max_episode_steps is None else max_episode_steps, render_mode)

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        return {(0.0,): (1.0 / (1.0 - gamma),)}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return np.ones(self.num_envs)

    def advance(self, actions: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return self.reward(actions), np.zeros(self.num_envs, np.bool_)


class ProbeMaskVectorEnv(ProbeVectorEnv):
    """Three actions, two steps; the action that would earn 10 is illegal, of the others the outer one earns 1.

    Where the observation is +1 action 0 is illegal and 2 is best; where it is -1, the other way round. The sign turns
    after the first step, so an agent that takes the illegal maximum for its target learns 1 + 10 gamma. The second
    feature numbers the step.
    """

    num_actions = 3
    num_features = 2
    episode_length = 2

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        last: ActionValues = {(-1.0, 1.0): (1.0, 0.0, 10.0), (1.0, 1.0): (10.0, 0.0, 1.0)}
        first: ActionValues = {(sign, 0.0): tuple(q + gamma for q in last[sign, 1.0]) for sign in (-1.0, 1.0)}
        return last | first

    def _now(self) -> NDArray[np.int64]:
        return np.where(self.num_steps % 2 == 0, self.sign, -self.sign)

    def legal(self) -> NDArray[np.int8]:
        mask = np.ones((self.num_envs, 3), np.int8)
        mask[np.arange(self.num_envs), 1 - self._now()] = 0
        return mask

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        side = (actions - 1) * self._now()  # -1 illegal, 0 the middle, 1 best
        return np.select([side == -1, side == 1], [10.0, 1.0], 0.0)

    def observe(self) -> NDArray[np.float32]:
        return np.stack((self._now(), np.minimum(self.num_steps, 1)), axis=1).astype(np.float32)


class ProbeContinuousVectorEnv(ProbeVectorEnv):
    """One number in [-1, 1] as action, one step, reward 1 - (action - obs / 2)²: best is half the observation (±1)."""

    def action_kind(self) -> spaces.Space[Any]:
        return spaces.Box(-1.0, 1.0, (1,), np.float32)

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        """The value of the best action, which `best_actions` gives."""
        return {(-1.0,): (1.0,), (1.0,): (1.0,)}

    best_actions: ClassVar[dict[tuple[float, ...], float]] = {(-1.0,): -0.5, (1.0,): 0.5}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(1.0 - (actions[:, 0].astype(np.float64) - self.sign / 2) ** 2)

    def observe(self) -> NDArray[np.float32]:
        return self.sign.astype(np.float32)[:, None]


class ProbeMemoryVectorEnv(ProbeVectorEnv):
    """Two actions, five steps: the first shows ±1, the last (marked in the second feature) asks for it, for ±1.

    `action_values` holds the observations of an agent that remembers; without memory the best value is 0.
    """

    num_actions = 2
    num_features = 2
    episode_length = 5

    @staticmethod
    def action_values(gamma: float) -> ActionValues:
        return {(sign, 0.0): (gamma**4, gamma**4) for sign in (-1.0, 1.0)}

    def reward(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray((self.num_steps == 4) * (2.0 * actions - 1.0) * self.sign)

    def observe(self) -> NDArray[np.float32]:
        return np.stack((self.sign * (self.num_steps == 0), self.num_steps == 4), axis=1).astype(np.float32)


# Name of each probe (its id is triathlon/<name>-v0) and the class that states its values.
PROBES: dict[str, type[ProbeVectorEnv]] = {
    vector.__name__.removesuffix("VectorEnv"): vector
    for vector in (
        ProbeConstantVectorEnv,
        ProbeObservationVectorEnv,
        ProbeDiscountVectorEnv,
        ProbeActionVectorEnv,
        ProbePolicyVectorEnv,
        ProbeTimeLimitVectorEnv,
        ProbeMaskVectorEnv,
        ProbeContinuousVectorEnv,
        ProbeMemoryVectorEnv,
    )
}
