"""A trained policy as a player of board games, with or without its training around it.

N positions, A actions, G symmetries of a board.
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
from triathlon.envs.board.symmetries import Symmetries
from triathlon.networks.backbone import Obs, State
from triathlon.training.errors import RunError
from triathlon.training.evaluate import policy_batch

if TYPE_CHECKING:
    import pyspiel


class AgentPlayer:
    """Plays what a policy plays, greedily or as it explores; positions and actions go through the game's planes.

    With `symmetries` it looks at each position in all ways that its board allows and plays by the mean of what it makes
    of them (as KataGo may: Wu 2019, "Accelerating Self-Play Learning in Go"): no symmetry of the game is held exactly
    by a network.

    Raises:
        RunError: the policy has a memory, which a position alone cannot tell.
    """

    def __init__(
        self,
        policy: Policy,
        planes: Planes,
        name: str,
        deterministic: bool = True,
        symmetries: Symmetries | None = None,
    ) -> None:
        if policy.initial_state(1):
            raise RunError(f"{name} remembers what it saw, and can be no player: it is asked about single positions")
        self.policy, self.name, self._planes, self._deterministic = policy, name, planes, deterministic
        self._symmetries = symmetries

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        seen, mask, sides = self._see(states)
        if self._symmetries is None:
            decision = self.policy.act(*_asked(seen), torch.from_numpy(mask), deterministic=self._deterministic)
            actions = self.policy.env_action(decision.action.cpu().numpy())
        else:
            generator = self.policy.generator
            probs = torch.from_numpy(self._mean(self._symmetries, seen, mask)[0]).to(generator.device)
            drawn = probs.argmax(1) if self._deterministic else probs.multinomial(1, generator=generator)
            actions = drawn.flatten().cpu().numpy()
        chosen: list[int] = self._planes.to_game(actions, sides).tolist()
        return chosen

    def assess(self, states: Sequence[pyspiel.State]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a search asks: probabilities `[N, A]` by the game's names of actions, and values `[N]` for the mover."""
        seen, mask, sides = self._see(states)
        if self._symmetries is None:
            probs, values = self._judge(seen, mask)
        else:
            probs, values = self._mean(self._symmetries, seen, mask)
        return self._by_game(probs, sides), values

    def greedy(self, states: Sequence[pyspiel.State]) -> NDArray[np.float32]:
        """`[N, A]`: all on the action that it plays greedily; for exact measures."""
        seen, mask, sides = self._see(states)
        decision = self.policy.act(*_asked(seen), torch.from_numpy(mask), deterministic=True)
        actions = self._planes.to_game(self.policy.env_action(decision.action.cpu().numpy()), sides)
        probs = np.zeros((len(states), self._planes.num_actions), np.float32)
        probs[np.arange(len(states)), actions] = 1.0
        return probs

    def close(self) -> None:
        """Nothing runs outside this process."""

    def _see(self, states: Sequence[pyspiel.State]) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.intp]]:
        sides = np.array([state.current_player() for state in states], np.intp)
        return self._planes.see(states, sides), self._planes.legal(states, sides), sides

    def _judge(self, seen: NDArray[Any], mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities `[N, A]` by the mover's names of actions, and values `[N]`."""
        log_probs, values = self.policy.assess(*_asked(seen), torch.from_numpy(mask))
        return log_probs.exp().cpu().numpy(), values.cpu().numpy()

    def _mean(
        self, symmetries: Symmetries, seen: NDArray[Any], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean of the judgements through all G symmetries, which are asked for together."""
        num, count = len(seen), len(symmetries)
        views = np.repeat(np.arange(count), num)
        seen, mask = (np.concatenate([array] * count) for array in (seen, mask))
        probs, values = self._judge(symmetries.see(seen, views), symmetries.legal(mask, views))
        own = np.empty_like(probs)
        np.put_along_axis(own, symmetries.actions[views], probs, 1)
        return own.reshape(count, num, -1).mean(0), values.reshape(count, num).mean(0)

    def _by_game(self, values: NDArray[Any], sides: NDArray[np.intp]) -> NDArray[Any]:
        """`[N, A]` by the mover's names of actions, by the game's."""
        names = self._planes.to_game(np.broadcast_to(np.arange(values.shape[1]), values.shape), sides[:, None])
        renamed = np.empty_like(values)
        np.put_along_axis(renamed, names, values, 1)
        return renamed


def _asked(seen: NDArray[Any]) -> tuple[Obs, State, Tensor]:
    """What a policy without a memory is asked about N positions."""
    return policy_batch(seen), (), torch.ones(len(seen), dtype=torch.bool)


__all__ = ["AgentPlayer"]
