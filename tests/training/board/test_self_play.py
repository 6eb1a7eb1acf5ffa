"""Self-play: whose loss a gain is, a policy as a player, going on, and wrong settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.envs.board.symmetries import symmetries_of
from triathlon.envs.errors import EnvError
from triathlon.envs.make import make_envs
from triathlon.training import checkpoint
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.self_play import board_of
from triathlon.training.config import dump
from triathlon.training.errors import RunError
from triathlon.training.runner import train

pytest.importorskip("pyspiel")

from tests.training.board.playing import DQN, MLP, PPO, QUIET, column, experiment, policy_for

LSTM = {"kind": "lstm", "hidden_size": 8}


def test_the_other_sides_gain_is_ones_own_loss(practise: Any) -> None:
    """After a lost game, the value learned for the row before the winner's move is low, though that row was paid 0."""
    practice = practise({"id": "board/tic_tac_toe", "num_envs": 8}, PPO, MLP)
    segment = practice.collector.collect(40)
    assert segment.next_sign is not None
    over = segment.terminated[:-1]
    assert over.any()
    assert set(segment.reward[:-1][over].tolist()) <= {1.0, 0.0}  # whoever ends a game has not lost it
    played = segment.valid[:-1] & segment.valid[1:]
    assert (segment.next_sign[:-2][played] == -1).all()  # the sides take turns
    t, column = (int(i[0]) for i in np.nonzero((segment.reward[1:-1] == 1).numpy() & segment.valid[:-1].numpy()))
    returns = -segment.reward[t + 1, column]  # gamma 1: what row t gets, one ply before the loss
    assert returns == -1.0


# Breakthrough's actions in a mirror: row, column, direction (left, straight, right; down, then up), whether it takes.
ROW, COLUMN, WAY, TAKES = np.unravel_index(np.arange(8 * 8 * 6 * 2), (8, 8, 6, 2))
MIRRORED = np.ravel_multi_index((ROW, 7 - COLUMN, np.array([2, 1, 0, 5, 4, 3])[WAY], TAKES), (8, 8, 6, 2))


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
@pytest.mark.parametrize(
    ("game", "plies", "turned", "turn"),
    [
        ("connect_four", (0, 0, 1, 5), (6, 6, 5, 1), np.arange(7)[::-1]),
        ("breakthrough", (98,), (182,), MIRRORED),  # a7a6, h7h6
        ("go(board_size=5)", (1, 7), (5, 11), np.append(np.arange(25).reshape(5, 5).T, 25)),  # rows for columns; a pass
    ],
)
def test_a_player_that_looks_at_all_sides_judges_mirrored_positions_alike(
    agent: Any, game: str, plies: tuple[int, ...], turned: tuple[int, ...], turn: Any
) -> None:
    name, _, parameters = game.partition("(")
    board = {"parameters": {"board_size": 5}} if parameters else {}
    run = experiment(name, agent, env={"id": f"board/{name}", "num_envs": 2, "board": board})
    envs = make_envs(run.env)
    games = board_of(envs)
    policy = policy_for(run, envs)
    symmetries = symmetries_of(games.game, games.planes.layout.shape)
    player = AgentPlayer(policy, games.planes, "agent", symmetries=symmetries)
    probs, values = player.assess([state_after(games.game, moves) for moves in (plies, turned)])
    np.testing.assert_allclose(probs.sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probs[0], probs[1][turn], rtol=1e-5)
    alone = AgentPlayer(policy, games.planes, "agent")
    (once, again), _ = alone.assess([state_after(games.game, moves) for moves in (plies, turned)])
    assert np.abs(once - again[turn]).max() > 1e-3 * once.max()  # the network alone does not know that they are alike
    if len(symmetries) == 2:
        np.testing.assert_allclose(probs[0], (once + again[turn]) / 2, rtol=1e-5)
    states = [state_after(games.game, plies)] * 300
    assert set(player.choose(states)) == {int(probs[0].argmax())}
    drawn = AgentPlayer(policy, games.planes, "agent", deterministic=False, symmetries=symmetries).choose(states)
    assert len(set(drawn)) > 2 and set(drawn) <= set(states[0].legal_actions())
    envs.close()


def state_after(game: Any, moves: Sequence[int]) -> Any:
    state = game.new_initial_state()
    for move in moves:
        state.apply_action(move)
    return state


def test_a_policy_as_a_player_moves_as_in_its_environment() -> None:
    """Breakthrough turns the board and the actions for one side; a player must undo it as the environment does."""
    run = experiment("breakthrough", env={"id": "board/breakthrough", "num_envs": 3})
    envs = make_envs(run.env)
    games = board_of(envs)
    policy = policy_for(run, envs)
    player = AgentPlayer(policy, games.planes, "agent")
    obs, info = envs.reset(seed=1)
    for _ in range(9):
        states = [match.state.clone() for match in games.matches]
        chosen = player.choose(states)
        assert all(action in state.legal_actions() for action, state in zip(chosen, states, strict=True))
        probs, values = player.assess(states)
        assert probs.shape == (3, games.planes.num_actions)
        np.testing.assert_allclose(probs.sum(1), 1.0, rtol=1e-5)
        assert values.shape == (3,)
        assert (probs.argmax(1) == chosen).all()
        assert (player.greedy(states).argmax(1) == chosen).all()
        fresh = torch.ones(3, dtype=torch.bool)
        mask = torch.from_numpy(info["action_mask"])
        action = policy.act(torch.from_numpy(obs), (), fresh, mask, deterministic=True).action
        obs, *_, info = envs.step(action.numpy())
        for match, state, move in zip(games.matches, states, chosen, strict=True):
            state.apply_action(move)
            assert str(match.state) == str(state)


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
def test_pure_self_play_goes_on_to_the_bit(agent: Any, tmp_path: Path) -> None:
    # What is annealed over the whole run would differ in a shorter one.
    steady = {"exploration_fraction": 0.0, "final_epsilon": 0.2} if agent is DQN else {}
    settings: dict[str, Any] = {"agent": agent | steady, "checkpoint": {"period": 100}}
    whole = train(experiment(**settings, total_steps=400), tmp_path / "whole")
    train(experiment(**settings, total_steps=200), tmp_path / "parts")
    parts = train(experiment(**settings, total_steps=400), tmp_path / "parts", resume=True)
    one, other = (checkpoint.load(result.checkpoint)["learner"]["network"] for result in (whole, parts))
    assert all(torch.as_tensor(one[name]).equal(torch.as_tensor(other[name])) for name in one)


def test_a_run_goes_on_with_other_symmetries(tmp_path: Path) -> None:
    """New games begin then."""
    train(experiment(total_steps=100), tmp_path)
    board = {"id": "board/tic_tac_toe", "num_envs": 4, "board": {"symmetries": True}}
    assert train(experiment(env=board, total_steps=200), tmp_path, resume=True).num_steps >= 200


def test_a_memory_plays_itself_and_is_evaluated(tmp_path: Path) -> None:
    evaluation = QUIET | {"period": 100, "num_episodes": 2}
    train(experiment(backbone=LSTM, evaluation=evaluation), tmp_path)
    assert len(column(tmp_path, "eval/mean_reward")) == 3


def test_evaluations_are_against_the_judge() -> None:
    run = experiment(self_play={"judge": "mcts:5", "judge_opening_plies": 3})
    assert run.judging_env.board is not None
    assert run.judging_env.board.opponent == "mcts:5"
    assert run.judging_env.board.random_openings == 1.0
    assert run.judging_env.board.opening_plies == 3
    assert run.env.board is not None
    assert run.env.board.opponent is None
    assert "judge: random" in dump(experiment())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"self_play": {"judge": "mcst:5"}}, r"unknown player 'mcst:5'; did you mean mcts\?"),
        ({"self_play": {"pool_share": 2}}, r"self_play\.pool_share is 2"),
        ({"env": {"id": "CartPole-v1"}, "self_play": {}}, r"self_play is read for board games only"),
        (
            {"env": {"id": "board/go", "board": {"opponent": "random"}}, "self_play": {"pool_share": 0.5}},
            r"env\.board\.opponent is random, who plays every game",
        ),
        ({"backbone": LSTM, "self_play": {"pool_share": 0.5}}, r"remembers what it saw"),
        (
            {"backbone": LSTM, "self_play": {"ladder": ["random"]}},
            r"self_play\.ladder is \('random',\), but it judges single positions, which a backbone with a memory",
        ),
        (
            {"backbone": LSTM, "self_play": {"exploitability": True}},
            r"self_play\.exploitability is True, but it judges",
        ),
        (
            {"env": {"id": "board/go", "num_envs": 4, "num_groups": 2}, "self_play": {"pool_share": 0.5}},
            r"self_play\.pool_share is 0\.5 and env\.num_groups is 2, but groups step at the same time",
        ),
        (
            {"env": {"id": "board/go", "num_envs": 4, "num_groups": 2}, "self_play": {"search_share": 0.1}},
            r"self_play\.search_share is 0\.1 and env\.num_groups is 2, but .* set env\.num_groups to 1",
        ),
        (
            {"self_play": {"pool_share": 0.1}},
            r"pool_share is 0\.1, which of 4 environments \(env\.num_envs\) comes to none; set self_play\.pool_share "
            r"above 0\.125, or env\.num_envs to at least 6",
        ),
        (
            {"self_play": {"bots": ["random"]}},
            r"self_play: bots is \('random',\), but nothing reads it unless self_play\.pool_share is above 0",
        ),
        (
            {"self_play": {"search_simulations": 64}},
            r"self_play: search_simulations is 64, but nothing reads",
        ),
        ({"self_play": {"ladder_games": 40}}, r"self_play: ladder_games is 40, but nothing reads it unless"),
        (
            {"self_play": {"ladder": ["mcts:5", "random", "mcts:5"]}},
            r"self_play: ladder names 'mcts:5' more than once; each player stands on it once",
        ),
        (
            {"env": {"id": "board/tic_tac_toe", "num_envs": 4, "board": {"opening_plies": 3}}},
            r"opening_plies is 3, but nothing reads it unless random_openings is above 0",
        ),
        (
            {"env": {"id": "board/othello", "num_envs": 2}, "self_play": {"exploitability": True}},
            r"othello.* too large to be solved",
        ),
    ],
)
def test_wrong_settings_are_explained(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    evaluation = QUIET | {"period": 10, "num_episodes": 2}
    with pytest.raises((RunError, EnvError), match=sentence):
        train(experiment(**(settings | {"evaluation": evaluation})), tmp_path / "run")


@pytest.mark.parametrize(("setting", "value"), [("ladder", ["random"]), ("exploitability", True)])
def test_what_is_measured_at_evaluations_needs_some(setting: str, value: Any) -> None:
    experiment(self_play={setting: value}, evaluation=QUIET | {"period": 100})
    with pytest.raises(RunError, match=rf"self_play\.{setting} is .*, but nothing reads it unless evaluation\.period"):
        experiment(self_play={setting: value})
