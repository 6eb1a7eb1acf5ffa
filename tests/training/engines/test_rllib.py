"""Training by RLlib: its modules compute what our networks do, and its runs leave what every run leaves."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")
pytest.importorskip("tree")  # with it everything that RLlib needs

from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.core.columns import Columns

from triathlon.envs.make import make_envs
from triathlon.training import checkpoint
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.recorder import Recorder
from triathlon.training.engines.rllib_envs import Hand, RLlibEnvs
from triathlon.training.engines.rllib_modules import DQNModule, PPOModule
from triathlon.training.errors import RunError
from triathlon.training.restoring import load_policy
from triathlon.training.runner import train

pytestmark = pytest.mark.cluster  # what it costs to import is paid once

QUIET = {"evaluation": {"final_episodes": 3, "video": False}, "num_threads": 1, "device": "cpu"}
MLP = {"kind": "mlp", "hidden_sizes": [16]}
GRU = {"kind": "gru", "hidden_size": 8, "encoder": MLP}
PPO = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 2}
DQN = {"kind": "dqn", "learning_starts": 48, "batch_size": 16, "buffer_size": 300, "train_period": 8}
CARTPOLE = {"id": "CartPole-v1", "num_envs": 2, "hide": "velocities"}


def experiment(**settings: Any) -> Experiment:
    settings = (
        {"env": CARTPOLE, "agent": PPO, "backbone": MLP, "total_steps": 160, "engine": "rllib"} | QUIET | settings
    )
    return from_mapping(settings)


def module(cls: Any, tmp_path: Path, **settings: Any) -> tuple[Any, Any]:
    """A module, and the network of ours that it is made of."""
    recorder = Recorder(experiment(**settings), tmp_path)
    recorder.close()
    more = {"max_seq_len": 5, "epsilon": (1.0, 0.2, 100.0), "double_q": True}
    actions = EngineActions(recorder.learner.policy, recorder.task.action_space)
    spaces = {"observation_space": recorder.task.observation_space, "action_space": actions.space}
    return cls(**spaces, inference_only=False, model_config={"network": recorder.network} | more), recorder.network


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("action", ["discrete", "multi-discrete", "box"])
def test_a_ppo_module_is_our_actor_critic(share: bool, action: str, tmp_path: Path) -> None:
    env = {"id": "tests.training.engines.odd_envs:OddEnv", "num_envs": 2, "kwargs": {"action": action}}
    theirs, ours = module(PPOModule, tmp_path, env=env, agent=PPO | {"share_backbone": share})
    obs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    distribution, value, _ = ours(obs.unsqueeze(0), (), None)
    output = theirs.forward_train({Columns.OBS: obs})
    assert Columns.STATE_OUT not in output and not theirs.is_stateful()
    drawn = distribution.sample(torch.Generator().manual_seed(1))
    found = theirs.get_train_action_dist_cls().from_logits(output[Columns.ACTION_DIST_INPUTS])
    chosen = drawn[0].reshape(6, -1) if action != "discrete" else drawn[0]
    torch.testing.assert_close(found.logp(chosen), distribution.log_prob(drawn)[0])
    torch.testing.assert_close(theirs.compute_values({Columns.OBS: obs}), value[0])
    torch.testing.assert_close(theirs.compute_values({}, output[Columns.EMBEDDINGS]), value[0])
    acting = theirs.forward_exploration({Columns.OBS: obs})
    torch.testing.assert_close(acting[Columns.ACTION_DIST_INPUTS], output[Columns.ACTION_DIST_INPUTS])


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
def test_a_memory_goes_from_row_to_row(share: bool, tmp_path: Path) -> None:
    theirs, ours = module(PPOModule, tmp_path, backbone=GRU, agent=PPO | {"share_backbone": share})
    assert theirs.is_stateful()
    obs = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))  # [B, T, D]
    state = {name: part.expand(3, *part.shape) for name, part in theirs.get_initial_state().items()}
    assert len(state) == (1 if share else 2) and state["0"].shape[-1] == 8
    distribution, value, after = ours(obs.transpose(0, 1), ours.initial_state(3), None)
    whole = theirs.forward_train({Columns.OBS: obs, Columns.STATE_IN: state})
    torch.testing.assert_close(
        whole[Columns.ACTION_DIST_INPUTS].log_softmax(-1), distribution.log_probs.transpose(0, 1)
    )
    torch.testing.assert_close(
        theirs.compute_values({Columns.OBS: obs, Columns.STATE_IN: state}), value.transpose(0, 1)
    )
    torch.testing.assert_close(theirs.compute_values({}, whole[Columns.EMBEDDINGS]), value.transpose(0, 1))
    for t in range(5):  # one at a time, as it acts
        step = theirs.forward_exploration({Columns.OBS: obs[:, t : t + 1], Columns.STATE_IN: state})
        expected = whole[Columns.ACTION_DIST_INPUTS][:, t]
        torch.testing.assert_close(step[Columns.ACTION_DIST_INPUTS][:, 0], expected)
        state = step[Columns.STATE_OUT]
    for i, part in enumerate(after):
        torch.testing.assert_close(state[str(i)], part)


def test_a_dqn_module_is_our_q_network_and_its_target(tmp_path: Path) -> None:
    theirs, ours = module(DQNModule, tmp_path, agent=DQN | {"head": {"dueling": True}})
    theirs.make_target_networks()
    generator = torch.Generator().manual_seed(0)
    obs, ahead = torch.randn(6, 2, generator=generator), torch.randn(6, 2, generator=generator)
    with torch.no_grad():
        for parameter in theirs.target.parameters():
            parameter.mul_(2.0)
    output = theirs.forward_train({Columns.OBS: obs, Columns.NEXT_OBS: ahead})
    torch.testing.assert_close(output[QF_PREDS], ours(obs.unsqueeze(0), (), None)[0])
    torch.testing.assert_close(output[QF_NEXT_PREDS], ours(ahead.unsqueeze(0), (), None)[0])
    target = theirs.target(ahead.unsqueeze(0), (), None)[0]
    torch.testing.assert_close(output[QF_TARGET_NEXT_PREDS], target)
    assert not torch.allclose(target, output[QF_NEXT_PREDS])
    output[QF_TARGET_NEXT_PREDS].requires_grad_(False)
    greedy = theirs.forward_inference({Columns.OBS: obs})[Columns.ACTIONS]
    assert torch.equal(greedy, output[QF_PREDS].argmax(-1))
    many = obs[:1].expand(2000, 2)
    recorder = Recorder(experiment(agent=DQN), tmp_path / "played")
    recorder.close()
    actions = EngineActions(recorder.learner.policy, recorder.task.action_space)
    envs = RLlibEnvs(make_envs(recorder.experiment.env), actions, 1)
    Hand(envs)
    for played, share in ((0, 0.5), (50, 0.3), (1000, 0.1)):  # half of the random actions are the greedy one by chance
        envs.num_steps = played
        chosen = theirs.forward_exploration({Columns.OBS: many}, t=0)[Columns.ACTIONS]
        assert float((chosen != greedy[0]).float().mean()) == pytest.approx(share, abs=0.05)
    envs.close()


@pytest.mark.parametrize("period", [10, 1000])
def test_epsilon_falls_with_each_step(period: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often RLlib sums its results up, which it does when it is logged."""
    asked: list[tuple[int, float]] = []
    plain = DQNModule._epsilon

    def noted(module: DQNModule, num_steps: int) -> float:
        asked.append((num_steps, plain(module, num_steps)))
        return asked[-1][1]

    monkeypatch.setattr(DQNModule, "_epsilon", noted)
    agent = DQN | {"initial_epsilon": 0.9, "final_epsilon": 0.1, "exploration_fraction": 0.5}
    agent |= {"learning_starts": 10_000}
    settings = {"logging": {"period": period}, "evaluation": {"final_episodes": 0}, "total_steps": 2400}
    assert train(experiment(agent=agent, **settings), tmp_path).num_steps <= 2440
    assert asked[0] == (0, 0.9)
    # 2 environments, of which one or both may begin a new episode, which is no step.
    assert {after - before for (before, _), (after, _) in pairwise(asked)} <= {0, 1, 2}
    for num_steps, epsilon in asked:
        assert epsilon == pytest.approx(0.9 - 0.8 * min(1.0, num_steps / 1200))


@pytest.mark.parametrize(
    ("agent", "backbone", "num_envs"),
    [(PPO, GRU, 2), (DQN, MLP, 2), (DQN | {"burn_in": 2, "segment_length": 4}, GRU, 1)],
    ids=["ppo-gru", "dqn-mlp", "dqn-gru"],
)
def test_a_run_leaves_what_every_run_leaves(
    agent: dict[str, Any], backbone: dict[str, Any], num_envs: int, tmp_path: Path
) -> None:
    started = experiment(agent=agent, backbone=backbone, env=CARTPOLE | {"num_envs": num_envs}, logging={"period": 40})
    result = train(started, tmp_path)
    assert 160 <= result.num_steps < 240 and len(result.returns) == 3 and not result.interrupted
    lines = (tmp_path / "monitor.csv").read_text().splitlines()
    lengths = [int(row["l"]) for row in csv.DictReader(lines[1:])]
    assert len(lengths) > 2 and sum(lengths) <= result.num_steps
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text().splitlines()))
    assert {"rollout/ep_rew_mean", "time/fps", "train/learning_rate"} <= set(rows[0])
    policy, fresh = load_policy(result.checkpoint, started), Recorder(started, tmp_path / "fresh")
    fresh.close()
    moved = policy.weights() - fresh.learner.policy.weights()
    assert 1e-6 < float(moved.abs().max()) < 1.0  # it learned, from the weights that a run of ours starts with
    assert checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["engine"] == "rllib"
    with pytest.raises(RunError, match="a run by engine: rllib cannot go on"):
        train(started, tmp_path, resume=True)


def test_it_counts_what_is_played(tmp_path: Path) -> None:
    env = {"id": "tests.training.engines.odd_envs:OddEnv", "num_envs": 2}
    recorder = Recorder(experiment(env=env), tmp_path)
    recorder.close()
    actions = EngineActions(recorder.learner.policy, recorder.task.action_space)
    envs = RLlibEnvs(make_envs(recorder.experiment.env), actions, 1)
    try:
        envs.reset(seed=99)
        ends = 0
        for _ in range(30):
            _, _, terminated, truncated, _ = envs.step(np.zeros(2, int))
            ends += int((terminated | truncated).sum())
        episodes = envs.take_episodes()
        assert len(episodes) == ends > 4
        assert all(e.episode_return == e.length * (e.length + 1) / 2 for e in episodes)
        assert envs.num_steps == 60 - ends + int((terminated | truncated).sum())  # resets are no steps
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"agent": DQN, "backbone": GRU},
            r"env.num_envs is 2, with which RLlib's DQN fails where the",
        ),
        (
            {"agent": DQN | {"prioritized": True}, "backbone": GRU, "env": CARTPOLE | {"num_envs": 1}},
            "agent.prioritized",
        ),
        ({"env": {"id": "ALE/Pong-v5"}, "backbone": "auto"}, "env.atari.terminal_on_life_loss is true, but RLlib"),
        ({"env": {"id": "triathlon/ProbeMask-v0", "num_envs": 2}}, "masks of legal actions, which engine: rllib"),
    ],
    ids=["memory", "priorities", "lives", "masks"],
)
def test_what_it_fails_at_is_refused(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=sentence):
        train(experiment(**settings), tmp_path)
