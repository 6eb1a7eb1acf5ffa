"""Training by Stable-Baselines3: the same network, a run folder as any other, and a run that goes on."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")

from tests.training.engines.odd_envs import OBSERVATIONS
from triathlon.networks.backbone import map_obs
from triathlon.scripts.main import main
from triathlon.training import checkpoint
from triathlon.training.config import Experiment, from_mapping
from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.recorder import Recorder
from triathlon.training.engines.resettable import make_resettable
from triathlon.training.engines.sb3 import make_model
from triathlon.training.engines.sb3_envs import SB3Envs, flat
from triathlon.training.engines.sb3_network import take_weights
from triathlon.training.errors import RunError
from triathlon.training.evaluate import policy_batch
from triathlon.training.restoring import load_policy
from triathlon.training.runner import train

QUIET = {"evaluation": {"final_episodes": 0, "video": False}, "num_threads": 1, "device": "cpu"}
MLP = {"kind": "mlp", "hidden_sizes": [16]}
PPO: dict[str, Any] = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 2}
DQN = {"kind": "dqn", "learning_starts": 48, "batch_size": 16, "buffer_size": 300, "train_period": 6}
CARTPOLE: dict[str, Any] = {"id": "CartPole-v1", "num_envs": 3}
ODD = "tests.training.engines.odd_envs:OddEnv"


def experiment(**settings: Any) -> Experiment:
    settings = {"env": CARTPOLE, "agent": PPO, "backbone": MLP, "total_steps": 300, "engine": "sb3"} | QUIET | settings
    return from_mapping(settings)


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
def test_a_run_leaves_what_every_run_leaves(agent: dict[str, Any], tmp_path: Path) -> None:
    evaluation = {"period": 100, "num_episodes": 3, "final_episodes": 5, "video": False}
    started = experiment(agent=agent, evaluation=evaluation, logging={"period": 100})
    result = train(started, tmp_path)
    assert 300 <= result.num_steps < 360 and len(result.returns) == 5 and not result.interrupted
    assert result.checkpoint == tmp_path / "checkpoints" / "best.safetensors"
    assert list(tmp_path.glob("events.out.tfevents.*"))
    lines = (tmp_path / "monitor.csv").read_text().splitlines()
    assert sum(int(row["l"]) for row in csv.DictReader(lines[1:])) <= result.num_steps
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text().splitlines()))
    tags = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/loss", "eval/mean_reward"}
    assert tags <= set(rows[0])
    assert all(any(row[tag] and float(row[tag]) > 0 for row in rows) for tag in tags - {"train/loss"})
    policy = load_policy(result.checkpoint, started)
    before = Recorder(started, tmp_path / "fresh")
    before.close()
    assert not torch.equal(policy.weights(), before.learner.policy.weights())


@pytest.mark.parametrize("agent", [PPO, DQN], ids=["ppo", "dqn"])
def test_the_same_seed_gives_the_same_numbers(agent: dict[str, Any], tmp_path: Path) -> None:
    """To the bit, weights and episodes; another seed gives others."""
    found = []
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        started = experiment(agent=agent, seed=seed)
        policy = load_policy(train(started, tmp_path / name).checkpoint, started)
        rows = csv.DictReader((tmp_path / name / "monitor.csv").read_text().splitlines()[1:])
        found.append((policy.weights(), [(row["r"], row["l"]) for row in rows]))
    (one, played), (two, again), (other, elsewhere) = found
    assert torch.equal(one, two) and played == again and len(played) > 3
    assert not torch.equal(one, other) and played != elsewhere


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    first = experiment(agent=DQN, total_steps=240)
    train(first, tmp_path)
    state = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["engine_state"]
    assert state["counters"]["num_timesteps"] == 240 and state["replay"]["pos"] == 80  # 3 environments
    assert state["replay"]["rows"]["observations"].shape == (80, 3, 4)
    result = train(replace(first, total_steps=360), tmp_path, resume=True)
    after = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["engine_state"]
    assert result.num_steps == after["counters"]["num_timesteps"] == 360
    assert after["replay"]["full"] and after["replay"]["pos"] == 20
    kept = after["replay"]["rows"]["observations"][20:80]
    assert np.array_equal(kept, state["replay"]["rows"]["observations"][20:])
    assert after["counters"]["_n_updates"] == state["counters"]["_n_updates"] + 20


def test_returns_of_several_steps_end_where_a_run_was_interrupted(tmp_path: Path) -> None:
    """The reward is the number of the step in its episode, so that the row after the seam has 1."""
    env = {"id": ODD, "num_envs": 1}
    agent = DQN | {"n_step": 2, "gamma": 1.0, "learning_starts": 1000, "buffer_size": 1000, "train_period": 1}
    first = experiment(env=env, agent=agent, total_steps=101)
    train(first, tmp_path)
    rows = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["engine_state"]["replay"]["rows"]
    assert not rows["dones"][100].any()  # the first run ended in the middle of an episode
    train(replace(first, total_steps=110), tmp_path, resume=True)
    state = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["engine_state"]["replay"]
    recorder = Recorder(first, tmp_path / "fresh")
    envs = SB3Envs(make_resettable(first.env), EngineActions(recorder.learner.policy, recorder.task.action_space), 0)
    replay: Any = make_model(recorder, envs).replay_buffer  # type: ignore[attr-defined]
    replay.pos = state["pos"]
    for name, values in state["rows"].items():
        getattr(replay, name)[: len(values)] = values
    envs.close()
    recorder.close()
    before, after = state["rows"]["rewards"][100, 0], state["rows"]["rewards"][101, 0]
    assert before > 1.0 and after == 1.0  # the seam
    sampled = replay._get_samples(np.array([100]))
    assert float(sampled.rewards) == before and float(sampled.dones) == 0.0 and float(sampled.discounts) == 1.0
    np.testing.assert_array_equal(sampled.next_observations[0], state["rows"]["next_observations"][100, 0])


def test_a_replay_of_another_capacity_is_refused(tmp_path: Path) -> None:
    """In a larger one the rows that were never played would be learned from as transitions of zeros."""
    first = experiment(agent=DQN | {"buffer_size": 90}, total_steps=120)  # 30 rows of 3 environments, full
    train(first, tmp_path)
    said = r"agent.buffer_size is {} but the saved replay has room for 90 transitions; resume with the capacity"
    path = tmp_path / "checkpoints" / "last.safetensors"
    state = checkpoint.load(path)
    del state["engine_state"]["replay"]["num_rows"]
    for size in (300, 60):
        other = experiment(agent=DQN | {"buffer_size": size}, total_steps=180)
        with pytest.raises(RunError, match=said.format(size)):
            train(other, tmp_path, resume=True)
    checkpoint.save(path, state)  # as it was before the capacity was saved
    with pytest.raises(RunError, match=said.format(300)):
        train(experiment(agent=DQN | {"buffer_size": 300}, total_steps=180), tmp_path, resume=True)
    assert train(replace(first, total_steps=180), tmp_path, resume=True).num_steps == 180


def test_a_run_goes_on_with_its_own_engine_only(tmp_path: Path) -> None:
    train(experiment(total_steps=48, engine="native"), tmp_path)
    with pytest.raises(RunError, match=r"engine is sb3 but .*last.safetensors is of a run by native"):
        train(experiment(), tmp_path, resume=True)


def test_a_backbone_with_a_memory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"backbone.kind is lstm, which has a memory, and Stable"):
        train(experiment(backbone={"kind": "lstm", "hidden_size": 8}), tmp_path)
    code = main(["train", "cartpole_ppo", "--backbone.kind", "gru", "--engine", "sb3", "--root", f"{tmp_path}/runs"])
    assert code == 2 and "has a memory" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()  # nothing is left of a run that did not start


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize(
    ("agent", "action"),
    [
        ("ppo", "discrete"),
        ("ppo", "box"),
        ("ppo", "multi-binary"),
        ("ppo", "multi-discrete"),
        ("dqn", "multi-discrete"),
    ],
)
def test_it_is_the_same_network_there_and_back(observation: str, agent: str, action: str, tmp_path: Path) -> None:
    """At the start SB3 computes what our network does, and after its weights were changed ours does what SB3's does."""
    if observation != "vector" and action not in ("discrete", "multi-discrete"):
        pytest.skip("one observation is enough for these actions")
    env = {"id": ODD, "num_envs": 4, "kwargs": {"observation": observation, "action": action}}
    settings = {"ppo": PPO | {"share_backbone": False}, "dqn": DQN | {"head": {"hidden_size": 8}, "train_period": 4}}
    recorder = Recorder(experiment(env=env, agent=settings[agent], backbone="auto"), tmp_path)
    actions = EngineActions(recorder.learner.policy, recorder.task.action_space)
    envs = SB3Envs(make_resettable(recorder.experiment.env), actions, 0)
    try:
        model = make_model(recorder, envs)
        obs, _ = make_resettable(recorder.experiment.env).reset(seed=1)
        _assert_same(recorder, model, obs)
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter.mul_(1.1)
        take_weights(recorder.network, model.policy)
        _assert_same(recorder, model, obs)
        chosen, _ = model.predict(flat(obs), deterministic=False)
        envs.reset()
        envs.step(chosen)  # the environment takes what SB3 chooses
    finally:
        envs.close()
        recorder.close()


def _assert_same(recorder: Recorder, model: Any, obs: Any) -> None:
    network, row = recorder.network, map_obs(lambda x: x.unsqueeze(0), policy_batch(obs))
    theirs, _ = model.policy.obs_to_tensor(flat(obs))
    with torch.no_grad():
        if recorder.experiment.agent.kind == "dqn":
            found, expected = model.q_net(theirs), network(row, (), None)[0]
        else:
            distribution, value, _ = network(row, (), None)
            drawn = distribution.sample(torch.Generator().manual_seed(0))
            chosen = drawn[0].reshape(len(drawn[0]), -1).squeeze(-1).float()
            log_prob = model.policy.get_distribution(theirs).log_prob(chosen)
            found = torch.stack([log_prob, model.policy.predict_values(theirs)[:, 0]])
            expected = torch.stack([distribution.log_prob(drawn)[0], value[0]])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("when", ["stopped", "saved"])
def test_ppo_counts_the_rollouts_that_it_learned_from(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop or a checkpoint in the middle of a rollout gives its steps back to the budget."""
    rollout = PPO["num_steps"] * CARTPOLE["num_envs"]
    asked = Recorder.is_stopping.fget
    assert asked is not None
    calls = 0

    def stop_in_the_third_rollout(recorder: Recorder) -> bool:
        nonlocal calls
        calls += 1
        recorder._wish.to_stop = calls > 2.5 * PPO["num_steps"]
        return bool(asked(recorder))

    started = experiment(total_steps=10 * rollout, checkpoint={"period": 1 if when == "saved" else 10_000})
    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "is_stopping", property(stop_in_the_third_rollout))
        result = train(started, tmp_path)
    assert result.interrupted and result.num_steps == 2 * rollout
    state = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    assert state["num_steps"] == state["engine_state"]["counters"]["num_timesteps"] == 2 * rollout
    updates = state["engine_state"]["counters"]["_n_updates"]
    assert updates == 2 * PPO["num_epochs"]
    assert train(started, tmp_path, resume=True).num_steps == 10 * rollout
    state = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    assert state["engine_state"]["counters"]["_n_updates"] == 5 * updates


def test_a_replay_that_was_not_saved_is_filled_anew_first(tmp_path: Path) -> None:
    first = experiment(agent=DQN, total_steps=120, checkpoint={"replay": False})
    train(first, tmp_path)
    path = tmp_path / "checkpoints" / "last.safetensors"
    updates = checkpoint.load(path)["engine_state"]["counters"]["_n_updates"]
    assert updates > 0
    train(replace(first, total_steps=120 + 42), tmp_path, resume=True)  # fewer than learning_starts
    assert checkpoint.load(path)["engine_state"]["counters"]["_n_updates"] == updates
    train(replace(first, total_steps=120 + 42 + 90), tmp_path, resume=True)
    assert checkpoint.load(path)["engine_state"]["counters"]["_n_updates"] > updates
