"""N games of one kind that step together, played by one agent on both sides or against opponents.

N games, A actions. Sides are open_spiel's players 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from triathlon.envs.board.config import BoardConfig
from triathlon.envs.board.drawing import draw
from triathlon.envs.board.games import NAMESPACE, load_game
from triathlon.envs.board.planes import Planes
from triathlon.envs.board.player import Player, PlayerError, Resigned, choose_all
from triathlon.envs.board.ply_limit import make_limit
from triathlon.envs.board.starts import NUM_TRIES, Match, Starts
from triathlon.envs.board.symmetries import Views, symmetries_of
from triathlon.envs.errors import EnvError
from triathlon.envs.guard import column_seeds
from triathlon.envs.state import Uncopyable, decode, encode

SELF_PLAY = -1


class BoardEnvs(VectorEnv[Any, Any, Any]):
    """N games under `AutoresetMode.NEXT_STEP`; what is seen and done is always that of the side to move.

    In self-play every move of either side is a step, and `reward` is the result for the side that moved first. In a
    game against an opponent, the opponent moves inside `step` (and before the first observation), `reward` is the
    result for the agent's side, and the agent changes sides from game to game. Results are open_spiel's: usually 1, 0
    or -1; an opponent that resigns has lost as much as there is to lose.

    `info["action_mask"]` `[N, A]` bool: the legal actions in the new observation (all after the end of a game).
    `info["learning_reward"]` `[N]`: the result for the side that just moved.
    `info["next_sign"]` `[N]` float32: -1 where the new observation is the other side's, whose value counts negatively
    for the side that just moved; else 1.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.NEXT_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": 2,
    }
    render_mode = "rgb_array"
    _own_player: Player | None = None  # made by name

    def __init__(self, game: str, num_envs: int, config: BoardConfig | None = None) -> None:
        config = config or BoardConfig()
        self.name = f"{NAMESPACE}/{game}"
        self.num_envs = num_envs
        self.game = load_game(game, config.parameters)
        self.planes = Planes(self.game)
        self.limit = make_limit(self.planes, self.name, config.max_plies, config.at_limit)
        symmetries = symmetries_of(self.game, self.planes.layout.shape) if config.symmetries else None
        self._views = Views(symmetries, num_envs)
        self.single_observation_space = self.planes.space
        self.single_action_space = spaces.Discrete(self.planes.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.starts = Starts(self.game, config.random_openings, config.opening_plies, config.resume_share)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.matches: list[Match] = []
        self.sides = np.zeros(num_envs, np.intp)  # to move, or looking at the end of a game
        self.agent_sides = np.full(num_envs, SELF_PLAY, np.intp)  # of games against opponents
        self._next_sides = np.arange(num_envs) % 2  # the agent's in the next game against an opponent
        self._over = np.zeros(num_envs, np.bool_)
        self._mask = np.ones((num_envs, self.planes.num_actions), np.bool_)
        self.opponents: list[Player | None] = [None] * num_envs  # of the games under way
        self._next_opponents: list[Player | None] = [None] * num_envs
        self._results: list[tuple[Player, float]] = []
        self._opponent_name = config.opponent or ""
        if self._opponent_name:
            self._make_opponent(None)

    def set_opponents(self, players: Sequence[Player | None]) -> None:
        """From its next game on, each of the N games is played against its player, or by the agent alone (None).

        The players remain the caller's, who closes them when no game under way (`opponents`) needs them any more.

        Raises:
            EnvError: there are not N of them.
        """
        if len(players) != self.num_envs:
            raise EnvError(f"{self.name}: {self.num_envs} games need as many opponents, found {len(players)}")
        self._next_opponents = list(players)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        if seed is not None:
            seeds = column_seeds(int(seed), self.num_envs) if isinstance(seed, int | np.integer) else seed
            self.generators = [np.random.default_rng(s) for s in seeds]
            self.starts.finished.clear()
            self._next_sides = np.arange(self.num_envs) % 2
            if self._own_player is not None:
                self._make_opponent(seeds[0])
        self.matches = [Match(None)] * self.num_envs
        self._begin(list(range(self.num_envs)))
        return self._see(), {"action_mask": self._mask}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        movers, begun = self.sides.copy(), np.flatnonzero(self._over)
        names = self._game_actions(actions)
        played = np.flatnonzero(~self._over).tolist()
        for i in played:
            self.matches[i].play(names[i], self.generators[i])
        self._let_opponents_move(played)
        result = np.zeros(self.num_envs)  # for player 0
        reward = np.zeros(self.num_envs)
        self._over = np.zeros(self.num_envs, np.bool_)
        for i in played:
            match = self.matches[i]
            player = match.state.current_player()
            if match.resigned is not None:
                self._over[i] = True
                result[i] = self.game.max_utility() * (1 if match.resigned == 1 else -1)
            elif player < 0:
                self._over[i] = True
                result[i] = match.state.player_return(0)
                player = 1 - movers[i]
            elif self.limit.is_reached(match.num_plies):
                self._over[i] = True
                result[i] = self.limit.result(match.state)
            self.sides[i] = player if self.agent_sides[i] == SELF_PLAY else self.agent_sides[i]
            if self._over[i]:
                scored_for = match.first if self.agent_sides[i] == SELF_PLAY else self.agent_sides[i]
                reward[i] = result[i] if scored_for == 0 else -result[i]
                self.starts.keep(match)
                if (opponent := self.opponents[i]) is not None:
                    self._results.append((opponent, float(reward[i])))
        next_sign = np.where(self.sides == movers, np.float32(1), np.float32(-1))
        if len(begun):
            self._begin(begun.tolist())
            next_sign[begun] = 1
        obs, terminated = self._see(), self._over.copy()
        info = {
            "action_mask": self._mask,
            "learning_reward": np.where(movers == 0, result, -result),
            "next_sign": next_sign,
        }
        return obs, reward, terminated, np.zeros(self.num_envs, np.bool_), info

    @property
    def under_way(self) -> list[int]:
        """The indices of the games that are not over."""
        return [i for i, match in enumerate(self.matches) if not self._is_over(match)]

    def action_names(self) -> NDArray[np.intp]:
        """`[N, A]`: what each of the agent's actions is called by the game."""
        actions = np.broadcast_to(np.arange(self.planes.num_actions), self._mask.shape)
        return self.planes.to_game(self._views.own(actions), self.sides[:, None])

    def take_results(self) -> list[tuple[Player, float]]:
        """The results for the agent's side of the games against opponents that ended since this was last asked."""
        results, self._results = self._results, []
        return results

    def text(self, index: int) -> str:
        """The position of one of the N games as open_spiel prints it."""
        return str(self.matches[index].state)

    def render(self) -> tuple[NDArray[np.uint8], ...]:  # type: ignore[override]
        """A picture `[H, W, 3]` of each board, player 0's pieces dark."""
        return tuple(draw(match.state, self.planes) for match in self.matches)

    def close_extras(self, **kwargs: Any) -> None:
        """End the opponent that the configuration named."""
        if self._own_player is not None:
            self._own_player.close()

    def _game_actions(self, actions: Any) -> list[int]:
        """What the agent's `actions [N]` are called in the game; 0 where a game is over.

        Raises:
            EnvError: one of them is not legal.
        """
        chosen = np.where(self._over, 0, np.asarray(actions))
        inside = (chosen >= 0) & (chosen < self.planes.num_actions)
        legal = self._mask[np.arange(self.num_envs), np.where(inside, chosen, 0)] & inside
        if not legal[~self._over].all():
            i = int(np.flatnonzero(~legal & ~self._over)[0])
            raise EnvError(
                f"{self.name}: action {chosen[i]} is not legal in game {i} at ply {self.matches[i].num_plies}; "
                f"legal are {np.flatnonzero(self._mask[i]).tolist()}"
            )
        names: list[int] = self.planes.to_game(self._views.own(chosen), self.sides).tolist()
        return names

    def _begin(self, columns: list[int]) -> None:
        for i in columns:
            self.opponents[i] = self._next_opponents[i]
            if self.opponents[i] is None:
                self.agent_sides[i] = SELF_PLAY
            else:
                self.agent_sides[i] = self._next_sides[i]
                self._next_sides[i] = 1 - self._next_sides[i]
            self._over[i] = False
        waiting = columns
        for _ in range(NUM_TRIES):
            for i in waiting:
                self.matches[i] = self.starts.draw(self.generators[i])
            self._let_opponents_move(waiting)
            waiting = [i for i in waiting if self._is_over(self.matches[i])]
            if not waiting:
                break
        else:
            raise EnvError(f"{self.name}: {NUM_TRIES} games ended before the agent's first move")
        for i in columns:
            self.sides[i] = self.matches[i].state.current_player()
            self._views.begin(i, self.generators[i])

    def _is_over(self, match: Match) -> bool:
        return match.resigned is not None or match.state.is_terminal() or self.limit.is_reached(match.num_plies)

    def _let_opponents_move(self, columns: list[int]) -> None:
        """Opponents move, many games at once, until each game is over or the agent's."""
        waiting = [i for i in columns if self.opponents[i] is not None]
        while waiting := [i for i in waiting if self._is_opponents_turn(i)]:
            for player in {id(self.opponents[i]): self.opponents[i] for i in waiting}.values():
                assert player is not None
                mine = [i for i in waiting if self.opponents[i] is player]
                answers = choose_all(player, [self.matches[i].state for i in mine])
                for i, answer in zip(mine, answers, strict=True):
                    if isinstance(answer, Resigned):
                        self.matches[i].resigned = self.matches[i].state.current_player()
                    elif isinstance(answer, PlayerError):
                        raise EnvError(f"{self.name}: {answer} (game {i})") from answer
                    else:
                        self.matches[i].play(answer, self.generators[i])

    def _is_opponents_turn(self, i: int) -> bool:
        match = self.matches[i]
        return not self._is_over(match) and match.state.current_player() != self.agent_sides[i]

    def _see(self) -> NDArray[Any]:
        self._mask = self._legal()
        return self._views.see(self.planes.see([match.state for match in self.matches], self.sides))

    def _legal(self) -> NDArray[np.bool_]:
        return self._views.legal(self.planes.legal([match.state for match in self.matches], self.sides))

    def _make_opponent(self, seed: int | None) -> None:
        from triathlon.envs.board.players import make_player

        if self._own_player is not None:
            self._own_player.close()
        rng = np.random.default_rng(None if seed is None else [seed, self.num_envs])
        self._own_player = make_player(self._opponent_name, self.game, rng)
        self._next_opponents = [self._own_player] * self.num_envs

    def get_state(self) -> dict[str, Any]:
        """All that the future depends on, as arrays and JSON values: games are kept as their actions.

        Raises:
            Uncopyable: there are opponents, who may remember what cannot be copied.
        """
        for player in (*self.opponents, *self._next_opponents):
            if player is not None:
                raise Uncopyable(player.name)
        return self._views.get_state() | {
            "histories": [np.array(match.state.history(), np.int32) for match in self.matches],
            "finished": list(self.starts.finished),
            "generators": encode(self.generators),
            "sides": self.sides.copy(),
            "over": self._over.copy(),
            "next_sides": self._next_sides.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to what `get_state` saved; the next step gives what it then gave."""
        self.generators = decode(state["generators"])
        self.matches = [self.starts.replay(history.tolist(), self.generators[0]) for history in state["histories"]]
        self.starts.finished.clear()
        self.starts.finished.extend(state["finished"])
        self.sides, self._over = state["sides"].copy(), state["over"].copy()
        self._next_sides = state["next_sides"].copy()
        self.agent_sides[:] = SELF_PLAY
        self._views.set_state(state)
        self._mask = self._legal()


def make_board(game: str, num_envs: int, config: BoardConfig) -> BoardEnvs:
    """`num_envs` games of a short name such as `connect_four`."""
    return BoardEnvs(game, num_envs, config)


__all__ = ["BoardEnvs", "make_board"]
