"""Agents that start from what another run has learned: what is taken over, what is frozen, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from triathlon.envs.make import EnvConfig, make_envs
from triathlon.training import checkpoint, config
from triathlon.training.engines.settings import check
from triathlon.training.errors import RunError
from triathlon.training.run_folder import create
from triathlon.training.runner import Run
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import fit
from triathlon.training.supervised.played.recorder import record

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
MLP = {"kind": "mlp", "hidden_sizes": [8, 8]}
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"num_steps": 8, "batch_size": 8, "num_epochs": 1},
    "dqn": {"learning_starts": 8, "batch_size": 8, "buffer_size": 64},
    "pqn": {"num_steps": 8, "batch_size": 8},
}


def made(kind: str, folder: Path, agent: Any = None, **others: Any) -> Run:
    """A run of an agent that has not played yet."""
    mapping = {
        **QUIET,
        "env": {"id": "CartPole-v1", "num_envs": 1},
        "agent": {"kind": kind, **SETTINGS[kind], **(agent or {})},
        "backbone": MLP,
        "total_steps": 32,
        "evaluation": {"final_episodes": 0, "video": False},
        "root": str(folder),
        "name": "run",
        **others,
    }
    experiment = config.from_mapping(mapping)
    return Run(experiment, create(experiment, ["test"]).path)


def network(run: Run) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in run.learner.network.state_dict().items()}


def below(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() != set() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of behaviour cloning at CartPole."""
    folder = tmp_path_factory.mktemp("clone")
    envs = make_envs(EnvConfig("CartPole-v1", num_envs=2))
    record(None, envs, 200, seed=1).save(folder / "data")
    envs.close()
    task = {"kind": "behaviour_cloning", "source": str(folder / "data")}
    settings = {"num_epochs": 1, "batch_size": 16}
    fit(from_mapping({**QUIET, "task": task, "backbone": MLP, "fit": settings, "seed": 9}), folder)
    (folder / "config.yaml").write_text("")
    return folder


@pytest.mark.parametrize("kind", ["ppo", "dqn", "pqn"])
def test_every_agent_starts_from_a_clone(kind: str, clone: Path, tmp_path: Path, capsys: Any) -> None:
    run = made(kind, tmp_path, init_from=str(clone))
    said = capsys.readouterr().err
    theirs = checkpoint.load(clone / "checkpoints/best.safetensors")["network"]
    ours, backbone = network(run), below(theirs, "backbone.")
    assert f"Backbone from {clone}/checkpoints/best.safetensors: 4 weights taken over" in said
    if kind == "ppo":
        assert same(below(ours, "actor."), backbone) and same(below(ours, "critic."), backbone)
        assert same(below(ours, "policy_head."), below(theirs, "head.policy."))
        assert "Critic from" in said and "Policy head from" in said
    else:
        assert same(below(ours, "backbone."), backbone) and "head" not in said
    if kind == "dqn":
        assert same(run.learner.target.state_dict(), ours)
    assert torch.equal(run.learner.policy.weights(), torch.cat([*(w.flatten() for w in ours.values()), *EPSILON[kind]]))
    run.train()
    run.close()
    assert not same(network(run), ours)


EPSILON = {"ppo": [], "dqn": [torch.ones(1)], "pqn": [torch.ones(1)]}


def test_the_policy_head_may_be_left(clone: Path, tmp_path: Path, capsys: Any) -> None:
    run = made("ppo", tmp_path, init_from=str(clone), init_head=False)
    run.close()
    theirs = checkpoint.load(clone / "checkpoints/best.safetensors")["network"]
    assert not same(below(network(run), "policy_head."), below(theirs, "head.policy."))
    assert "Policy head" not in capsys.readouterr().err


def test_a_policy_head_of_another_shape_is_left_and_said(clone: Path, tmp_path: Path, capsys: Any) -> None:
    """Acrobot has three actions and six numbers to see; only the second layer fits."""
    env = {"id": "Acrobot-v1", "num_envs": 1}
    with pytest.raises(RunError, match=r"layers\.0\.weight 8 x 4 there, 8 x 6 here.*init_partly: true"):
        made("ppo", tmp_path / "strict", init_from=str(clone), env=env)
    run = made("ppo", tmp_path / "partly", init_from=str(clone), env=env, init_partly=True)
    run.close()
    said = capsys.readouterr().err
    assert "Backbone from" in said and ": 3 weights taken over" in said
    assert "linear.weight 2 x 8 there, 3 x 8 here" in said


def test_one_agent_starts_from_another_with_its_critic_and_its_scale_of_observations(tmp_path: Path) -> None:
    norm = {"normalize_obs": True}
    first = made("ppo", tmp_path / "first", norm)
    first.train()
    first.close()
    second = made("ppo", tmp_path / "second", norm, init_from=str(first.folder), seed=5)
    second.close()
    for part in ("actor.", "critic.", "norm.", "policy_head."):
        assert same(below(network(first), part), below(network(second), part))
    assert not same(below(network(first), "value_head."), below(network(second), "value_head."))
    shared = made("dqn", tmp_path / "third", norm, init_from=str(first.folder))
    shared.close()
    assert same(below(network(shared), "backbone."), below(network(first), "actor."))
    with pytest.raises(RunError, match=r"learned from scaled observations; set agent\.normalize_obs to true"):
        made("dqn", tmp_path / "fourth", init_from=str(first.folder))


def test_a_backbone_that_learned_without_a_scale_is_not_given_one(clone: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"learned from unscaled observations; set agent\.normalize_obs to false"):
        made("ppo", tmp_path, {"normalize_obs": True}, init_from=str(clone))


@pytest.mark.parametrize("kind", ["ppo", "dqn", "pqn"])
def test_a_frozen_backbone_stays_and_the_heads_learn(kind: str, tmp_path: Path) -> None:
    run = made(kind, tmp_path, freeze_backbone=True)
    before = network(run)
    run.train()
    run.close()
    after = network(run)
    for name in before:
        stays = name.startswith(("backbone.", "actor.", "critic."))
        assert torch.equal(before[name], after[name]) == stays, name


def test_a_run_that_goes_on_needs_no_source_and_stays_frozen(clone: Path, tmp_path: Path) -> None:
    source = shutil.copytree(clone, tmp_path / "source")
    first = made("ppo", tmp_path, init_from=str(source), freeze_backbone=True)
    first.train()
    first.close()
    shutil.rmtree(source)
    experiment = config.load(first.folder / "config.yaml", ["--total-steps", "64"])
    again = Run(experiment, first.folder, resume=True)
    again.train()
    again.close()
    for part in ("actor.", "critic."):
        assert same(below(network(first), part), below(network(again), part))
    assert not same(below(network(first), "policy_head."), below(network(again), "policy_head."))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"init_partly": True}, "init_partly is True, but nothing reads it without init_from"),
        ({"init_head": False}, "init_head is False, but nothing reads it without init_from"),
        ({"freeze_backbone": True, "backbone_scale": 0.1}, "backbone_scale is not read with freeze_backbone"),
        ({"init_from": "nowhere"}, "there is no run folder 'nowhere'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=sentence):
        made("ppo", tmp_path, **settings)


def test_engines_that_cannot_start_from_a_run_refuse_it() -> None:
    pytest.importorskip("stable_baselines3")
    mapping = {"env": {"id": "CartPole-v1"}, "agent": "ppo", "total_steps": 8, "engine": "sb3"}
    for setting in ({"init_from": "x"}, {"freeze_backbone": True}, {"backbone_scale": 0.5}):
        with pytest.raises(RunError, match=f"{next(iter(setting))} is .*, which engine: sb3 has no counterpart for"):
            check(config.from_mapping(mapping | setting))
