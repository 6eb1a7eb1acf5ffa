"""Self-play: who plays the other side, what is measured meanwhile, and that it can be stopped and go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv

from triathlon.agents.agent import Policy
from triathlon.agents.registry import make_learner
from triathlon.envs.board.exact import GameGraph
from triathlon.envs.board.symmetries import symmetries_of
from triathlon.envs.errors import EnvError
from triathlon.envs.make import make_envs
from triathlon.training import checkpoint
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.self_play import OpponentPool, board_of
from triathlon.training.board.self_play_config import SelfPlayConfig
from triathlon.training.board.strength import Strength
from triathlon.training.config import Experiment, dump, from_mapping
from triathlon.training.errors import RunError
from triathlon.training.runner import train
from triathlon.training.task import make_task

pytest.importorskip("pyspiel")
MLP = {"kind": "mlp", "hidden_sizes": [16]}
PPO = {"kind": "ppo", "num_steps": 8, "num_epochs": 1, "batch_size": 32}
DQN = {"kind": "dqn", "learning_starts": 32, "train_period": 16, "batch_size": 8, "buffer_size": 500}
QUIET = {"final_episodes": 0, "video": False}


def experiment(game: str = "tic_tac_toe", agent: Any = PPO, **settings: Any) -> Experiment:
    env = {"id": f"board/{game}", "num_envs": 4}
    base = {"env": env, "agent": agent, "backbone": MLP, "total_steps": 300, "evaluation": QUIET, "num_threads": 1}
    return from_mapping(base | settings)


def policy_for(run: Experiment, envs: VectorEnv[Any, Any, Any]) -> Policy:
    """An untrained policy."""
    task = make_task(run, envs, torch.device("cpu"), np.random.SeedSequence(0))
    return make_learner(run.agent, run.backbone, task).policy


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


def test_the_pool_keeps_the_latest_selves_and_meets_those_it_loses_to() -> None:
    run = experiment()
    envs = make_envs(run.env)
    games = board_of(envs)
    policy = policy_for(run, envs)
    config = SelfPlayConfig(pool_share=0.5, snapshot_period=100, num_snapshots=2, bots=("random",), prioritization=2.0)
    pool = OpponentPool(config, [envs], policy, seed=0)
    for num_steps in (0, 50, 100, 210):
        pool.before_rollout(num_steps)
    assert [member.player.name for member in pool.members] == ["random", "self at 100", "self at 210"]
    envs.reset(seed=0)
    assert sum(player is not None for player in games.opponents) == 2
    pool.members[0].points, pool.members[1].points, pool.members[2].points = 0.9, 0.0, 1.0
    chances = pool._chances()
    np.testing.assert_allclose(chances, np.array([0.01, 1.0, 0.0]) / 1.01, rtol=1e-9)
    games._results = [(pool.members[0].player, -1.0)]
    pool.before_rollout(220)
    assert pool.members[0].points == pytest.approx(0.98 * 0.9)
    assert pool.metrics() == {
        "self_play/score_pool": pytest.approx((0.882 + 0.0 + 1.0) / 3),
        "self_play/score_hardest": 0.0,
    }
    other = OpponentPool(config, [envs], policy, seed=1)
    other.load_state_dict(pool.state_dict())
    assert [member.player.name for member in other.members] == ["random", "self at 100", "self at 210"]
    assert [member.points for member in other.members] == [member.points for member in pool.members]
    states = [match.state.clone() for match in games.matches]
    for mine, theirs in zip(pool.members[1:], other.members[1:], strict=True):
        assert isinstance(mine.player, AgentPlayer)
        assert isinstance(theirs.player, AgentPlayer)
        np.testing.assert_array_equal(mine.player.assess(states)[0], theirs.player.assess(states)[0])


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


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
def test_a_run_with_a_pool_goes_on(agent: Any, tmp_path: Path) -> None:
    play = {"pool_share": 0.5, "snapshot_period": 60, "num_snapshots": 3}
    train(experiment(agent=agent, self_play=play, total_steps=150), tmp_path)
    before = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["sides"]["names"]
    result = train(experiment(agent=agent, self_play=play, total_steps=400), tmp_path, resume=True)
    after = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["sides"]["names"]
    assert result.num_steps >= 400
    assert len(after) == 3
    assert after != before


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


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
def test_a_killed_run_with_a_pool_goes_on_to_the_bit(
    agent: Any, tmp_path: Path, learned: Any, dying_at_the_third_save: Any
) -> None:
    """Earlier selves draw on from where they were, and whom the next games are against is not dealt anew."""
    play = {"pool_share": 0.75, "snapshot_period": 60, "num_snapshots": 2, "bots": ["random"]}
    whole = experiment(agent=agent, self_play=play, total_steps=500, checkpoint={"period": 120})
    train(whole, tmp_path / "whole")
    with dying_at_the_third_save():
        train(whole, tmp_path / "cut")
    cut = checkpoint.load(tmp_path / "cut" / "checkpoints" / "last.safetensors")
    assert cut["num_steps"] < 400 and cut["sides"]["numbers"][0] > 0  # the first snapshot was let go
    train(whole, tmp_path / "cut", resume=True)
    assert learned(tmp_path / "whole").equal(learned(tmp_path / "cut"))
    one, other = (checkpoint.load(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "cut"))
    assert one["sides"]["points"] == other["sides"]["points"] and one["sides"]["dealt"] == other["sides"]["dealt"]


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
        ({"backbone": {"kind": "lstm", "hidden_size": 8}, "self_play": {"pool_share": 0.5}}, r"remembers what it saw"),
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
