"""Whoever resigns has lost that game, in a match and inside environments, and plays on in others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyspiel
import pytest

from tests.envs.board.playing import play
from triathlon.envs import EnvConfig, EnvError, make_envs
from triathlon.envs.board import BoardConfig, BoardEnvs
from triathlon.envs.board.player import PlayerError, Resigned, choose_all
from triathlon.envs.board.players import make_player
from triathlon.envs.board.players.gtp import GtpPlayer
from triathlon.training.board.arena import play_match

GO = pyspiel.load_game("go(board_size=5)")

# Speaks GTP, passes, and resigns from the third move on; a move that it knows already is an error.
ENGINE = """
import sys
moves = []
def say(text): print(text + "\\n", flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "clear_board": moves = []
    if words[0] == "play" and len(moves) % 2 != (words[1] == "white"): say("? not your turn"); continue
    if words[0] == "play": moves.append(words[1:])
    if words[0] == "genmove" and len(moves) > 2: say("= resign"); continue
    if words[0] == "genmove": moves.append([words[1], "pass"])
    say("= pass" if words[0] == "genmove" else "=")
    if words[0] == "quit": break
"""


class Quits:
    """Plays its first legal action, and resigns (or fails) the asked times that it is told to, from 0 on."""

    name = "quits"

    def __init__(self, *when: int, error: type[PlayerError] = Resigned) -> None:
        self._when, self._error, self._asked = when, error, 0

    def choose(self, states: Sequence[Any]) -> list[int]:
        chosen: list[int] = []
        for index, state in enumerate(states):
            self._asked += 1
            if self._asked - 1 in self._when:
                raise self._error("quits had enough", index, chosen)
            chosen.append(state.legal_actions()[0])
        return chosen

    def close(self) -> None:
        pass


def engine(folder: Path) -> list[str]:
    (folder / "engine.py").write_text(ENGINE)
    return [sys.executable, str(folder / "engine.py")]


def after(num_plies: int) -> Any:
    state = GO.new_initial_state()
    for action in range(num_plies):
        state.apply_action(action)
    return state


def test_an_engine_that_resigned_plays_on(tmp_path: Path) -> None:
    player = GtpPlayer(GO, engine(tmp_path), "test-gtp")
    process = player._engine
    answers = choose_all(player, [after(2), after(3), after(4), after(1), after(3)])
    assert [type(answer) for answer in answers] == [int, Resigned, Resigned, int, Resigned]
    assert str(answers[1]) == "test-gtp resigned, at ply 3"
    assert player._engine is process
    player.close()


def test_a_match_that_was_resigned_is_lost_and_no_forfeit(tmp_path: Path) -> None:
    player = GtpPlayer(GO, engine(tmp_path), "test-gtp")
    result = play_match(player, make_player("mcts:2", GO, np.random.default_rng(0)), GO, 2, np.random.default_rng(0))
    assert [game.score for game in result.games] == [0.0, 0.0]
    assert [game.num_plies for game in result.games] == [4, 3]
    assert result.errors == []
    player.close()


@pytest.mark.parametrize(("name", "won"), [("tic_tac_toe", 1.0), ("go", 1.0), ("leduc_poker", 13.0)])
def test_an_opponent_that_resigns_loses_that_game_and_no_other(name: str, won: float) -> None:
    """In the first game the agent moves first, in the second its opponent does."""
    envs, quits = BoardEnvs(name, 1), Quits(0, 2)
    envs.set_opponents([quits])
    envs.reset(seed=0)
    legal = [int(np.flatnonzero(envs._mask[0])[-1])]
    ((reward, terminated, learning_reward, next_sign),) = play(envs, legal)
    assert (reward, terminated, learning_reward, next_sign) == ([won], [True], [won], [1.0])
    assert envs.under_way == []
    ((reward, terminated, *_),) = play(envs, legal)  # the next game begins, by the opponent's move
    assert (reward, terminated, envs.agent_sides[0]) == ([0.0], [False], 1)
    legal = [int(np.flatnonzero(envs._mask[0])[-1])]
    ((reward, terminated, learning_reward, _),) = play(envs, legal)
    assert (reward, terminated, learning_reward) == ([won], [True], [won])
    assert envs.take_results() == [(quits, won), (quits, won)]


def test_a_game_that_is_resigned_before_the_agents_first_move_begins_anew() -> None:
    envs = BoardEnvs("tic_tac_toe", 2)
    envs.set_opponents([None, Quits(0, 1)])
    envs.reset(seed=0)
    assert envs.agent_sides.tolist() == [-1, 1]
    assert [match.num_plies for match in envs.matches] == [0, 1] and envs.under_way == [0, 1]
    envs.set_opponents([None, Quits(*range(100))])
    with pytest.raises(EnvError, match="board/tic_tac_toe: 100 games ended before the agent's first move"):
        envs.reset(seed=0)


def test_an_opponent_that_fails_still_ends_the_run() -> None:
    envs = BoardEnvs("tic_tac_toe", 1)
    envs.set_opponents([Quits(0, error=PlayerError)])
    envs.reset(seed=0)
    with pytest.raises(EnvError, match=r"board/tic_tac_toe: quits had enough \(game 0\)"):
        play(envs, 4)


def test_an_engine_that_resigns_as_an_opponent_by_name(tmp_path: Path) -> None:
    board = BoardConfig(parameters={"board_size": 5}, opponent=f"gtp:{' '.join(engine(tmp_path))}")
    envs = make_envs(EnvConfig("board/go", 2, board=board))
    envs.reset(seed=0)
    assert [envs.step(np.full(2, action))[1].tolist() for action in (3, 7)] == [[0.0, 0.0], [1.0, 1.0]]
    envs.close()
