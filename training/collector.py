"""Steps the environments with a policy and writes down what happened as segments.

T rows in time, B environments, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from triathlon.agents.agent import Policy
from triathlon.agents.segment import Segment
from triathlon.envs.errors import EnvError
from triathlon.networks.backbone import State
from triathlon.training.board.sides import Advise
from triathlon.training.env_group import EnvGroup, Episode
from triathlon.training.segment_rows import SegmentRows
from triathlon.training.stopwatch import REST, Stopwatch


class Collector:
    """Plays environments with a policy, in one or more groups; the groups' environments are columns side by side.

    With several groups, one steps (in a thread of its own) while the actions of another are computed: the processor
    and a GPU, or the processes of environments and this one, need not wait for each other (Stooke & Abbeel 2018,
    "Accelerated Methods for Deep Reinforcement Learning", section 3.1: alternating sampling).
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any] | Sequence[VectorEnv[Any, Any, Any]],
        policy: Policy,
        seed: int,
        state_period: int = 1,
        advise: Advise | None = None,
    ) -> None:
        self.policy, self.state_period, self._advise = policy, state_period, advise
        self._columns = policy.columns  # those of all groups
        parts = [envs] if isinstance(envs, VectorEnv) else list(envs)
        self._threads = ThreadPoolExecutor(len(parts)) if len(parts) > 1 else None
        self.groups: list[EnvGroup] = []
        self.num_envs = 0
        for part in parts:
            self.groups.append(EnvGroup(part, policy, self.num_envs, self._threads))
            self.num_envs += part.num_envs
        self.stopwatch = Stopwatch()
        self._for_gpu = policy.generator.device.type == "cuda"
        self.episodes: list[Episode] = []  # finished since the last `take_episodes`
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin new episodes everywhere; those under way are dropped."""
        for number, group in enumerate(self.groups):
            more = [number] if number else []  # one group alone plays what it played before there were groups
            group.restart(int(np.random.SeedSequence([seed, *more]).generate_state(1)[0] >> 1) if more else seed)

    def collect(self, num_rows: int) -> Segment:
        """Play `num_rows` rows in every environment.

        Raises:
            EnvError: an environment failed, or gave a reward or an observation that is not finite.
        """
        rows = SegmentRows(num_rows, self.num_envs, self.groups[0], self._for_gpu)
        states: list[list[State]] = [[] for _ in self.groups]
        with self.policy.steady():
            for t in range(num_rows):
                for group, stored in zip(self.groups, states, strict=True):
                    if t:
                        self._finish_step(rows, t - 1, group)
                    if t % self.state_period == 0:
                        stored.append(group.memory)
                    self._act(rows, t, group)
        for group in self.groups:
            self._finish_step(rows, num_rows - 1, group)
            rows.see(num_rows, group)
        self.policy.set_columns(*self._columns)
        if (what := rows.not_finite()) is not None:
            raise EnvError(f"{self.groups[0].name} gave what is not finite: {what}; nothing was learned from it")
        segment = rows.segment(_stacked(states), self.state_period)
        self.stopwatch.lap(REST)
        return segment

    def _act(self, rows: SegmentRows, t: int, group: EnvGroup) -> None:
        obs, is_first, legal = rows.see(t, group)
        self.stopwatch.lap(REST)
        first, total = self._columns
        self.policy.set_columns(first + group.columns.start, total)
        decision = self.policy.act(obs, group.memory, is_first, legal)
        group.memory = decision.state
        if self._advise is not None:
            decision.extras = decision.extras | self._advise(group.envs)
        action = self.policy.env_action(rows.decide(t, group, decision))
        self.stopwatch.lap("acting")
        group.begin_step(action)

    def _finish_step(self, rows: SegmentRows, t: int, group: EnvGroup) -> None:
        self.stopwatch.lap(REST)
        step, episodes = group.finish_step()
        self.stopwatch.lap("stepping")
        rows.reward(t, group, step)
        self.episodes.extend(episodes)

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since this was last asked."""
        episodes, self.episodes = self.episodes, []
        return episodes

    def metrics(self) -> dict[str, float]:
        """Scalars to log with the run's own: none."""
        return {}

    def close(self) -> None:
        """Wait for the steps under way; the environments can then be closed."""
        if self._threads is not None:
            self._threads.shutdown()

    def load_weights(self, weights: Tensor) -> None:
        """Act with these weights from the next row on."""
        self.policy.load_weights(weights)

    def state_dict(self) -> dict[str, Any] | None:
        """All that is needed to go on to the bit, or None if the environments cannot tell their state."""
        groups = [group.state_dict() for group in self.groups]
        return None if None in groups else {"groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`, for as many groups."""
        for group, saved in zip(self.groups, state["groups"], strict=True):
            group.load_state_dict(saved)


def _stacked(states: list[list[State]]) -> State:
    """The memories `[B, ...]` of each group before rows 0, P, … as `[K, B, ...]`, the groups side by side."""
    of_groups = [[torch.stack(parts) for parts in zip(*stored, strict=True)] for stored in states]
    return tuple(parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in zip(*of_groups, strict=True))


__all__ = ["Collector"]
