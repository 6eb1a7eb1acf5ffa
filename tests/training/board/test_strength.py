"""Strength while training: exactly, on a ladder, and what a ladder is worth whose games were not all played."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from triathlon.envs.board.exact import GameGraph
from triathlon.envs.make import make_envs
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.self_play import board_of
from triathlon.training.board.self_play_config import SelfPlayConfig
from triathlon.training.board.strength import Strength
from triathlon.training.runner import train

pytest.importorskip("pyspiel")

from tests.training.board.playing import QUIET, column, experiment, policy_for

# Speaks GTP until it is to move.
CRASHES = """
import sys
for line in sys.stdin:
    if line.startswith("genmove"): sys.exit(3)
    print("=\\n", flush=True)
"""


def test_strength_is_measured_exactly_and_on_a_ladder() -> None:
    run = experiment()
    envs = make_envs(run.env)
    games = board_of(envs)
    policy = policy_for(run, envs)
    config = SelfPlayConfig(exploitability=True, ladder=("random", "mcts:100"), ladder_games=10)
    strength = Strength(config, games, seed=0)
    found = strength.measure(policy)
    agent = AgentPlayer(policy, games.planes, "agent")
    assert found["eval/exploitability"] == GameGraph(games.game).exploitability(agent.greedy).mean > 0.0
    assert found["eval/elo_low"] < found["eval/elo"] < found["eval/elo_high"]
    assert found["eval/score_mcts:100"] < 0.3  # it has learned nothing yet
    strength.close()


def test_all_measurements_begin_from_the_same_openings() -> None:
    """An agent that does not change has the same score against an opponent that does not, the first time as well."""
    run = experiment("connect_four")
    envs = make_envs(run.env)
    config = SelfPlayConfig(ladder=("greedy",), ladder_games=8, judge_opening_plies=4)
    strength = Strength(config, board_of(envs), seed=0)
    seen: list[list[tuple[int, ...]]] = []

    class Watched(AgentPlayer):
        def choose(self, states: Sequence[Any]) -> list[int]:
            seen[-1] += [tuple(state.history()[:4]) for state in states]
            return super().choose(states)

    agent = Watched(policy_for(run, envs), board_of(envs).planes, "agent")
    for _ in range(3):
        seen.append([])
        strength._climb(agent)
    openings = [{history for history in histories if len(history) == 4} for histories in seen]
    assert len(openings[0]) > 4
    assert openings[0] == openings[1] == openings[2]


def test_a_measurement_hangs_on_none_before_it() -> None:
    """So that a run that was stopped, and measures for the first time, finds what it would have found."""
    run = experiment()
    envs = make_envs(run.env)
    policy = policy_for(run, envs)
    config = SelfPlayConfig(ladder=("greedy", "mcts:3"), ladder_games=20)
    found = []
    for num_before in (0, 1, 3):
        strength = Strength(config, board_of(envs), seed=0)
        for _ in range(num_before):
            strength.measure(policy)
        found.append(strength.measure(policy))
        strength.close()
    assert found[0] == found[1] == found[2]


def test_forfeits_are_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two games against the agent and two against random, none of which the engine can play."""
    (tmp_path / "engine.py").write_text(CRASHES)
    engine = f"gtp:{sys.executable} {tmp_path / 'engine.py'}"
    env = {"id": "board/go", "num_envs": 2, "board": {"parameters": {"board_size": 5}, "max_plies": 20}}
    evaluation = QUIET | {"period": 1000, "num_episodes": 1}
    self_play = {"ladder": [engine], "ladder_games": 2}
    train(experiment(env=env, self_play=self_play, evaluation=evaluation, total_steps=16), tmp_path / "run")
    assert column(tmp_path / "run", "eval/forfeits") == [4.0]
    told = f"4 of the 6 games behind eval/elo were forfeited and count as lost; the first: {engine} ended with exit"
    assert told in capsys.readouterr().err


def test_a_ladder_without_forfeits_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run = experiment()
    envs = make_envs(run.env)
    strength = Strength(SelfPlayConfig(ladder=("random",), ladder_games=2), board_of(envs), seed=0)
    assert strength.measure(policy_for(run, envs))["eval/forfeits"] == 0.0
    assert capsys.readouterr().err == ""
