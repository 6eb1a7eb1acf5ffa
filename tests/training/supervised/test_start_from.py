"""A backbone goes from a task to another, and from an agent to a task: the same files, the same weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.networks.registry import make_backbone
from triathlon.training import checkpoint, config
from triathlon.training.errors import RunError
from triathlon.training.run_folder import create
from triathlon.training.runner import train
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import Fit, fit
from triathlon.training.supervised.start_from import take_backbone

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
MLP = {"kind": "mlp", "hidden_sizes": [8, 8]}
XOR = {"kind": "xor", "num_examples": 16}


def agent(kind: str, folder: Path, env: str = "CartPole-v1", backbone: Any = MLP, **more: Any) -> Path:
    """The folder of an agent that played a few steps."""
    settings = {
        "ppo": {"num_steps": 8, "batch_size": 8, "num_epochs": 1},
        "dqn": {"learning_starts": 8, "batch_size": 8, "buffer_size": 64},
        "pqn": {"num_steps": 8, "batch_size": 8},
    }[kind]
    quiet = QUIET | {"evaluation": {"final_episodes": 0, "video": False}, "root": str(folder)}
    mapping = {"env": {"id": env, "num_envs": 1}, "agent": {"kind": kind, **settings, **more}, "total_steps": 32}
    experiment = config.from_mapping({**quiet, **mapping, "backbone": backbone})
    run = create(experiment, ["test"])
    train(experiment, run.path)
    return run.path


@pytest.mark.parametrize("kind", ["ppo", "dqn", "pqn"])
def test_an_agents_backbone_starts_a_task(kind: str, tmp_path: Path) -> None:
    played = agent(kind, tmp_path)
    experiment = config.load(played / "config.yaml")
    backbone = make_backbone(experiment.backbone, spaces.Box(-np.inf, np.inf, (4,), np.float32))
    taken = take_backbone(backbone, played)
    weights = checkpoint.load(played / "checkpoints" / "last.safetensors")["learner"]["network"]
    prefix = "actor." if kind == "ppo" else "backbone."
    assert len(taken.matched) == 4 and not (taken.missing or taken.unused or taken.other_shape)
    for name, weight in backbone.state_dict().items():
        assert torch.equal(weight, weights[prefix + name])


def test_a_backbone_that_saw_scaled_observations_is_refused(tmp_path: Path) -> None:
    played = agent("ppo", tmp_path, normalize_obs=True)
    experiment = config.load(played / "config.yaml")
    backbone = make_backbone(experiment.backbone, spaces.Box(-np.inf, np.inf, (4,), np.float32))
    with pytest.raises(RunError, match=r"learned from scaled observations \(agent\.normalize_obs\).*init_partly: true"):
        take_backbone(backbone, played)
    assert len(take_backbone(backbone, played, partly=True).matched) == 4


def test_a_run_starts_from_another_and_can_stay_frozen(tmp_path: Path) -> None:
    first = {**QUIET, "task": XOR, "backbone": MLP, "fit": {"num_epochs": 2}}
    fit(from_mapping(first), tmp_path / "first")
    (tmp_path / "first" / "config.yaml").write_text("")
    second = first | {"init_from": str(tmp_path / "first"), "freeze_backbone": True, "seed": 9}
    fit(from_mapping(second), tmp_path / "second")
    before, after = (
        checkpoint.load(tmp_path / n / f"checkpoints/{c}.safetensors")["network"]
        for n, c in (("first", "best"), ("second", "last"))
    )
    assert all(torch.equal(before[name], after[name]) == name.startswith("backbone") for name in before)


def test_what_does_not_fit_is_said_and_nothing_is_changed(tmp_path: Path) -> None:
    fit(from_mapping({**QUIET, "task": XOR, "backbone": MLP, "fit": {"num_epochs": 1}}), tmp_path / "first")
    (tmp_path / "first" / "config.yaml").write_text("")
    other = {"kind": "mlp", "hidden_sizes": [8, 5, 5]}
    mapping = {**QUIET, "task": XOR, "backbone": other, "fit": {}, "init_from": str(tmp_path / "first")}
    with pytest.raises(RunError, match=r"layers\.1\.weight 8 x 8 there, 5 x 8 here.*layers\.2\.weight.*init_partly"):
        Fit(from_mapping(mapping), tmp_path / "second")
    run = Fit(from_mapping(mapping | {"init_partly": True}), tmp_path / "second")
    run.close()
    assert run.taken is not None and run.taken.matched == ["layers.0.weight", "layers.0.bias"]
    assert "2 weights taken over" in str(run.taken)
    assert re.search(r"not there, left as they were: layers\.2\.weight, layers\.2\.bias", str(run.taken))
    first = checkpoint.load(tmp_path / "first/checkpoints/best.safetensors")["network"]
    assert torch.equal(run.network.backbone.state_dict()["layers.0.weight"], first["backbone.layers.0.weight"])


def test_nothing_in_common_is_an_error_even_partly(tmp_path: Path) -> None:
    fit(from_mapping({**QUIET, "task": XOR, "backbone": MLP, "fit": {"num_epochs": 1}}), tmp_path / "first")
    (tmp_path / "first" / "config.yaml").write_text("")
    mapping = {
        **QUIET,
        "task": {"kind": "image_classification"},
        "backbone": {"kind": "cnn", "features": 8},
        "init_from": str(tmp_path / "first"),
        "init_partly": True,
    }
    with pytest.raises(RunError, match="is not the one here"):
        Fit(from_mapping(mapping), tmp_path / "second")


def reads(words: str, folder: Path) -> dict[str, Any]:
    """Settings of a task whose texts are of these words, as many in any language."""
    rows = [f"{'ab'[k % 2]}\t{' '.join(np.random.default_rng(k).permutation(words.split()))} {k}" for k in range(24)]
    (folder / f"{words[:3]}.tsv").write_text("\n".join(["label\ttext", *rows]))
    return {"kind": "text_classification", "source": str(folder / f"{words[:3]}.tsv"), "min_count": 2}


ENGLISH, GERMAN = "one two three four", "eins zwei drei vier"


@pytest.mark.parametrize(
    ("backbone", "tables"),
    [
        ({"kind": "gru", "hidden_size": 4, "encoder": {"kind": "tokens", "embedding_size": 4}}, "encoder.embedding"),
        ({"kind": "gru", "hidden_size": 4, "encoder": {"kind": "mlp", "hidden_sizes": [4]}}, "encoder.layers.0"),
    ],
)
def test_words_keep_their_vectors_and_those_of_other_words_are_not_taken(
    backbone: Any, tables: str, tmp_path: Path
) -> None:
    mapping = {**QUIET, "task": reads(ENGLISH, tmp_path), "backbone": backbone, "fit": {"num_epochs": 1}}
    fit(from_mapping(mapping), tmp_path / "first")
    (tmp_path / "first" / "config.yaml").write_text("")
    first = checkpoint.load(tmp_path / "first/checkpoints/best.safetensors")["network"]
    again = Fit(from_mapping(mapping | {"init_from": str(tmp_path / "first")}), tmp_path / "again")
    again.close()
    assert again.taken is not None and not again.taken.differs
    other = mapping | {"task": reads(GERMAN, tmp_path), "init_from": str(tmp_path / "first"), "seed": 7}
    with pytest.raises(RunError, match=r"learned from another vocabulary, .* init_partly: true"):
        Fit(from_mapping(other), tmp_path / "second")
    run = Fit(from_mapping(other | {"init_partly": True}), tmp_path / "second")
    run.close()
    assert run.taken is not None and run.taken.other_vocabulary == [f"{tables}.weight"]
    assert f"of another vocabulary there, left as they were: {tables}.weight" in str(run.taken)
    ours = run.network.backbone.state_dict()
    assert ours[f"{tables}.weight"].shape == first[f"backbone.{tables}.weight"].shape
    assert [name for name in ours if not torch.equal(ours[name], first[f"backbone.{name}"])] == [f"{tables}.weight"]
