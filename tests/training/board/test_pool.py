"""The pool of opponents: who is in it, who is met, and that it goes on, also with other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.envs.make import make_envs
from triathlon.training import checkpoint
from triathlon.training.board.agent_player import AgentPlayer
from triathlon.training.board.self_play import OpponentPool, board_of
from triathlon.training.board.self_play_config import SelfPlayConfig
from triathlon.training.errors import RunError
from triathlon.training.runner import train

pytest.importorskip("pyspiel")

from tests.training.board.playing import DQN, PPO, experiment, policy_for


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
    of_a_gpu = pool.state_dict() | {"generators": [torch.zeros(16, dtype=torch.uint8)] * 2}
    OpponentPool(config, [envs], policy, seed=1).load_state_dict(of_a_gpu)  # draws by its own seed


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


def test_chips_count_as_points_of_the_arena() -> None:
    """Leduc poker pays up to 13 chips; whoever wins or loses many is met with a chance all the same."""
    run = experiment("leduc_poker")
    envs = make_envs(run.env)
    games = board_of(envs)
    config = SelfPlayConfig(pool_share=0.5, bots=("random",))
    pool = OpponentPool(config, [envs], policy_for(run, envs), seed=0)
    pool.before_rollout(0)
    for member, chips in ((0, 13.0), (1, -5.0), (1, 0.0)):
        games._results.append((pool.members[member].player, chips))
    pool.before_rollout(8)
    assert pool.members[0].points == pytest.approx(0.98 * 0.5 + 0.02)
    assert pool.members[1].points == pytest.approx(0.98 * (0.98 * 0.5) + 0.02 * 0.5)
    games._results = [(pool.members[0].player, 13.0)] * 100
    pool.before_rollout(16)
    assert 0.9 < pool.members[0].points < 1.0


def test_the_share_is_of_all_games_and_never_none() -> None:
    """Of four environments in two groups a quarter is one game, though it is half a game of each group."""
    run = experiment()
    envs = [make_envs(run.env, 2) for _ in range(2)]
    policy = policy_for(run, envs[0])
    pool = OpponentPool(SelfPlayConfig(pool_share=0.25), envs, policy, seed=0)
    pool.before_rollout(0)
    assert sum(len(dealt) for dealt in pool._dealt) == 1
    with pytest.raises(RunError, match=r"pool_share is 0\.2, which of 2 environments .* above 0\.25, .* at least 3"):
        OpponentPool(SelfPlayConfig(pool_share=0.2), envs[:1], policy, seed=0)
    assert OpponentPool(SelfPlayConfig(), envs, policy, seed=0)._num_against == [0, 0]


BOTS = {"pool_share": 0.5, "snapshot_period": 60, "num_snapshots": 3, "bots": ["random", "greedy"]}


@pytest.mark.parametrize(
    ("before", "after", "bots", "num_selves"),
    [
        ({}, BOTS, ["random", "greedy"], 0),
        ({}, {"pool_share": 0.5}, [], 0),
        (BOTS, {}, [], 0),
        (BOTS, BOTS | {"bots": ["minimax:1", "greedy"]}, ["minimax:1", "greedy"], 3),
        (BOTS, BOTS | {"bots": []}, [], 3),
        (BOTS, BOTS | {"num_snapshots": 1}, ["random", "greedy"], 1),
        (BOTS, BOTS | {"pool_share": 1.0}, ["random", "greedy"], 3),
    ],
    ids=["pool on", "pool on without bots", "pool off", "bot added", "no bots", "fewer selves", "larger share"],
)
def test_a_run_goes_on_with_another_pool(
    before: dict[str, Any],
    after: dict[str, Any],
    bots: list[str],
    num_selves: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever was there keeps his points, the newest selves first, and strangers begin with a half."""
    train(experiment(self_play=before, total_steps=160), tmp_path)
    saved = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["sides"]
    known = dict(zip(saved["names"], saved["points"], strict=True))
    loaded: list[tuple[list[str], list[float], list[list[int]]]] = []
    load = OpponentPool.load_state_dict

    def watched(pool: OpponentPool, state: dict[str, Any], draws: bool = True) -> None:
        load(pool, state, draws)
        members = [member.player.name for member in pool.members], [member.points for member in pool.members]
        loaded.append((*members, pool._dealt))

    monkeypatch.setattr(OpponentPool, "load_state_dict", watched)
    result = train(experiment(self_play=after, total_steps=320), tmp_path, resume=True)
    assert result.num_steps >= 320
    selves = [name for name in saved["names"] if name.startswith("self at")]
    names = bots + selves[len(selves) - num_selves :]
    assert len(names) == len(bots) + num_selves
    assert loaded[0][:2] == (names, [known.get(name, 0.5) for name in names])
    assert loaded[0][2] == (saved["dealt"] if names == saved["names"] else [])


def test_a_pool_that_was_off_for_a_while_is_set_up_again(tmp_path: Path) -> None:
    pool = {"pool_share": 0.5, "snapshot_period": 10_000}
    for num_steps, self_play in ((64, pool), (128, {}), (192, pool)):
        train(experiment(self_play=self_play, total_steps=num_steps), tmp_path, resume=num_steps > 64)
        if not self_play:
            off = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    after = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    assert off["sides"]["names"] == [] and after["sides"]["names"] == [f"self at {off['num_steps']}"]
