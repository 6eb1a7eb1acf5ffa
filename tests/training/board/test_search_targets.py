"""A search's better policy and values as something to learn from: what rows carry, and what PPO makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("pyspiel")

from triathlon.agents.minibatches import unfold
from triathlon.agents.ppo_losses import search_loss
from triathlon.agents.returns import gae
from triathlon.envs.errors import EnvError
from triathlon.networks.distributions import Categorical
from triathlon.training import checkpoint
from triathlon.training.board.search_targets import SearchTargets, board_of
from triathlon.training.board.self_play_config import SelfPlayConfig
from triathlon.training.collector import Collector
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.errors import RunError
from triathlon.training.runner import train

PPO = {"kind": "ppo", "num_steps": 8, "num_epochs": 2, "batch_size": 32, "gamma": 1.0}
MLP = {"kind": "mlp", "hidden_sizes": [16]}


def targets_of(practice: Any, share: float = 1.0, simulations: int = 8, coef: float = 1.0) -> SearchTargets:
    config = SelfPlayConfig(search_share=share, search_simulations=simulations, search_coef=coef)
    return SearchTargets(config, board_of(practice.envs), practice.learner.policy, seed=0)


def searched(practice: Any, targets: SearchTargets) -> Collector:
    learner = practice.learner
    return Collector(practice.envs, learner.policy, 0, learner.state_period, targets)


def test_a_share_of_the_rows_is_searched(practise: Callable[..., Any]) -> None:
    practice = practise({"id": "board/tic_tac_toe", "num_envs": 6}, PPO, MLP)
    segment = searched(practice, targets_of(practice, 0.25, 4, coef=0.7)).collect(200)
    policy, weight = segment.extras["search_policy"], segment.extras["search_weight"]
    assert policy.shape == (201, 6, 9) and weight.shape == segment.extras["search_value"].shape == (201, 6)
    assert set(weight.unique().tolist()) == {0.0, float(np.float32(0.7))}
    rows = weight.any(1)
    assert 30 <= rows.sum() <= 70
    assert (weight[:-1][rows[:-1]] > 0).equal(segment.valid[rows[:-1]])  # all games of such a row that are not over
    torch.testing.assert_close(policy.sum(-1), (weight > 0).float())
    assert segment.legal is not None and not policy[~segment.legal].any()
    assert not segment.extras["search_value"][weight == 0].any()


@pytest.mark.parametrize("symmetries", [False, True])
def test_wins_are_found_and_named_as_the_agent_names_them(practise: Callable[..., Any], symmetries: bool) -> None:
    """Breakthrough turns the board for one side, a symmetry mirrors it: the likeliest action must still be the win."""
    board = {"parameters": {"rows": 5, "columns": 3}, "symmetries": symmetries}
    practice = practise({"id": "board/breakthrough", "num_envs": 20, "board": board}, PPO, MLP)
    games, targets, rng = board_of(practice.envs), targets_of(practice, simulations=40), np.random.default_rng(0)
    num_wins = {0: 0, 1: 0}
    _, info = practice.envs.reset(seed=0)
    for _ in range(30):
        extras = targets(practice.envs)
        for i in games.under_way:
            state, side = games.matches[i].state, int(games.sides[i])
            wins = [action for action in state.legal_actions() if state.child(action).is_terminal()]
            if wins:
                num_wins[side] += 1
                assert games.action_names()[i, int(extras["search_policy"][i].argmax())] in wins
                assert extras["search_value"][i] == 1
        mask = info["action_mask"]
        *_, info = practice.envs.step(np.argmax(rng.random(mask.shape) * mask, axis=1))
    assert min(num_wins.values()) >= 5


def test_cross_entropy_by_hand() -> None:
    acted = Categorical(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([[True, True, False]] * 2))
    better = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(search_loss(acted, better), torch.tensor([0.693147, 0.0]))


def test_ppo_moves_towards_the_better_policy_where_there_is_one(practise: Callable[..., Any]) -> None:
    agent = PPO | {"learning_rate": 3e-3, "num_steps": 32}
    practice = practise({"id": "board/tic_tac_toe", "num_envs": 8}, agent, MLP)
    segment = searched(practice, targets_of(practice, 0.5, 30, coef=3.0)).collect(32)
    losses = [float(practice.learner.update(segment)["search_loss"]) for _ in range(2)]
    assert losses[0] == losses[1]  # of the policy that acted, which did not change
    agreement = []
    for _ in range(2):
        log_probs, _ = practice.learner.policy.assess(
            segment.obs[:-1].flatten(0, 1), (), segment.is_first[:-1].flatten(), segment.legal[:-1].flatten(0, 1)
        )
        better = segment.extras["search_policy"][:-1].flatten(0, 1)
        agreement.append(float((better * log_probs.exp()).sum()))
        for _ in range(15):
            practice.learner.update(segment)
    assert agreement[1] > 1.2 * agreement[0]


def test_values_that_were_searched_are_bootstrapped_from(practise: Callable[..., Any]) -> None:
    practice = practise({"id": "board/connect_four", "num_envs": 5}, PPO, MLP)
    segment = searched(practice, targets_of(practice, 0.5)).collect(8)
    weight = segment.extras["search_weight"]
    assert 0 < (weight > 0).sum() < weight.numel()
    rows, _ = practice.learner._prepare(segment)
    own, _ = practice.learner._look_back(rows, segment, False)
    value = torch.where(weight > 0, segment.extras["search_value"], own)
    advantage = gae(
        segment.reward[:-1], value, segment.terminated[:-1], segment.is_first, 1.0, 0.95, segment.next_sign_played
    )
    torch.testing.assert_close(unfold(rows.targets["advantage"], 5), advantage)
    torch.testing.assert_close(unfold(rows.targets["returns"], 5), advantage + value[:-1])
    torch.testing.assert_close(unfold(rows.targets["value"], 5), own[:-1])


def experiment(**settings: Any) -> Experiment:
    env = {"id": "board/tic_tac_toe", "num_envs": 4, "board": {"symmetries": True, "random_openings": 0.5}}
    base = {"env": env, "agent": PPO, "backbone": MLP, "num_threads": 1, "total_steps": 400}
    return from_mapping(base | {"evaluation": {"final_episodes": 0, "video": False}} | settings)


def test_a_run_that_looks_ahead_goes_on_to_the_bit(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "checkpoint": {"period": 100},
        "self_play": {"search_share": 0.5, "search_simulations": 4},
    }
    whole = train(experiment(**settings), tmp_path / "whole")
    train(experiment(**settings, total_steps=200), tmp_path / "parts")
    parts = train(experiment(**settings), tmp_path / "parts", resume=True)
    one, other = (checkpoint.load(result.checkpoint)["learner"]["network"] for result in (whole, parts))
    assert all(torch.as_tensor(one[name]).equal(torch.as_tensor(other[name])) for name in one)
    without = train(experiment(checkpoint={"period": 100}), tmp_path / "without")
    plain = checkpoint.load(without.checkpoint)["learner"]["network"]
    assert any(not torch.as_tensor(one[name]).equal(torch.as_tensor(plain[name])) for name in one)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"agent": {"kind": "dqn"}}, r"search_share is 0\.5, but agent\.kind dqn learns nothing from a search"),
        ({"agent": {"kind": "pqn"}}, r"agent\.kind pqn learns nothing from a search; leave it at 0, or use ppo"),
        ({"agent": PPO | {"normalize_reward": True}}, r"set agent\.normalize_reward to false"),
        ({"backbone": {"kind": "lstm", "hidden_size": 8}}, r"remembers what it saw"),
        ({"env": {"id": "board/kuhn_poker", "num_envs": 4}}, r"would see what is hidden from it"),
    ],
)
def test_what_cannot_learn_from_a_search_says_so(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises((RunError, EnvError), match=sentence):
        train(experiment(self_play={"search_share": 0.5}, **settings), tmp_path / "run")
