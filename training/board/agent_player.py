"""A trained policy as a player of board games, with or without its training around it.

N positions, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triathlon.agents.agent import Policy
from triathlon.envs.board.planes import Planes
from triathlon.networks.backbone import Obs
from triathlon.training.errors import RunError
from triathlon.training.evaluate import policy_batch

if TYPE_CHECKING:
    import pyspiel


class AgentPlayer:
    """Plays what a policy plays, greedily or as it explores; positions and actions go through the game's planes.

    Raises:
        RunError: the policy has a memory, which a position alone cannot tell.
    """

    def __init__(self, policy: Policy, planes: Planes, name: str, deterministic: bool = True) -> None:
        if policy.initial_state(1):
            raise RunError(f"{name} remembers what it saw, and can be no player: it is asked about single positions")
        self.policy, self.name, self._planes, self._deterministic = policy, name, planes, deterministic

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        obs, legal, sides = self._see(states)
        fresh = torch.ones(len(states), dtype=torch.bool)
        decision = self.policy.act(obs, (), fresh, legal, deterministic=self._deterministic)
        actions = self.policy.env_action(decision.action.cpu().numpy())
        chosen: list[int] = self._planes.to_game(actions, sides).tolist()
        return chosen

    def assess(self, states: Sequence[pyspiel.State]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a search asks: probabilities `[N, A]` by the game's names of actions, and values `[N]` for the mover."""
        obs, legal, sides = self._see(states)
        probs, value = self.policy.assess(obs, (), torch.ones(len(states), dtype=torch.bool), legal)
        return self._by_game(probs.cpu().numpy(), sides), value.cpu().numpy()

    def greedy(self, states: Sequence[pyspiel.State]) -> NDArray[np.float32]:
        """`[N, A]`: all on the action that it plays greedily; for exact measures."""
        obs, legal, _ = self._see(states)
        decision = self.policy.act(obs, (), torch.ones(len(states), dtype=torch.bool), legal, deterministic=True)
        sides = np.array([state.current_player() for state in states])
        actions = self._planes.to_game(self.policy.env_action(decision.action.cpu().numpy()), sides)
        probs = np.zeros((len(states), self._planes.num_actions), np.float32)
        probs[np.arange(len(states)), actions] = 1.0
        return probs

    def close(self) -> None:
        """Nothing runs outside this process."""

    def _see(self, states: Sequence[pyspiel.State]) -> tuple[Obs, Tensor, NDArray[np.intp]]:
        sides = np.array([state.current_player() for state in states], np.intp)
        obs = policy_batch(self._planes.see(states, sides))
        return obs, torch.from_numpy(self._planes.legal(states, sides)), sides

    def _by_game(self, values: NDArray[Any], sides: NDArray[np.intp]) -> NDArray[Any]:
        """`[N, A]` by the mover's names of actions, by the game's."""
        names = self._planes.to_game(np.broadcast_to(np.arange(values.shape[1]), values.shape), sides[:, None])
        renamed = np.empty_like(values)
        np.put_along_axis(renamed, names, values, 1)
        return renamed


__all__ = ["AgentPlayer"]
