"""What a search makes of the policy and the values that a board game is learned with: something better to learn from.

B games, A actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from triathlon.agents.agent import Policy
from triathlon.envs.board.games import is_perfect
from triathlon.envs.board.vector import BoardEnvs
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.search import SearchConfig, SearchPlayer
from triathlon.training.board.self_play_config import SelfPlayConfig
from triathlon.training.errors import RunError


class SearchTargets:
    """In a share of the rows, looks ahead in all games at once with the network as it is.

    The search is that of Gumbel AlphaZero, whose improved policy is better than the one it was searched with however
    few its simulations (Danihelka et al. 2022, "Policy improvement by planning with Gumbel", sections 3 and 4). The
    agent goes on acting by its own policy. All games of a row are searched together because most of what a search costs
    is calling the network.

    Raises:
        RunError: the game hides something from the players, or the policy has a memory.
    """

    def __init__(self, config: SelfPlayConfig, games: BoardEnvs, policy: Policy, seed: int) -> None:
        if not is_perfect(games.game.get_type()):
            raise RunError(
                f"self_play.search_share is {config.search_share}, but in {games.name} a search would see what is "
                "hidden from it; leave it at 0"
            )
        self._share, self._coef = config.search_share, config.search_coef
        self._rng = np.random.default_rng([seed, 11])
        search = SearchConfig(kind="gumbel", simulations=config.search_simulations, gumbel_scale=1.0)
        agent = AgentPlayer(policy, games.planes, "agent")
        self._player = SearchPlayer(agent, search, self._rng, limit=games.limit)

    def __call__(self, envs: VectorEnv[Any, Any, Any]) -> dict[str, Tensor]:
        """What a row of the games carries for the learner, zeros in those that were not searched.

        `search_policy [B, A]`, probabilities by the agent's names of actions; `search_value [B]`, for the side that is
        to move; `search_weight [B]`, how much the policy counts.
        """
        games = board_of(envs)
        policy = np.zeros((games.num_envs, games.planes.num_actions), np.float32)
        value, weight = np.zeros((2, games.num_envs), np.float32)
        playing = games.under_way if self._rng.random() < self._share else []
        if playing:
            found = self._player.search([games.matches[i].state for i in playing])
            policy[playing] = np.take_along_axis(found.probs, games.action_names()[playing], 1)
            value[playing], weight[playing] = found.values, self._coef
        arrays = {"search_policy": policy, "search_value": value, "search_weight": weight}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def state_dict(self) -> dict[str, Any]:
        """All that the future depends on."""
        return {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._rng.bit_generator.state = state["rng"]


def board_of(envs: VectorEnv[Any, Any, Any]) -> BoardEnvs:
    """The board games under the wrappers of `make_envs`."""
    games = envs.unwrapped
    assert isinstance(games, BoardEnvs)
    return games


__all__ = ["SearchTargets", "board_of"]
