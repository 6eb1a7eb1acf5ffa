"""The network that plays is the network that reads and sees: the same files, the same classes, the same weights."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.agents.actor_critic import ActorCritic
from triathlon.agents.q_network import QNetwork
from triathlon.networks.heads import QHeadConfig
from triathlon.networks.registry import config_class, kinds
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.network import make_network
from triathlon.training.supervised.registry import make_task

ROOT = Path(__file__).parent.parent
NETWORKS = sorted((ROOT / "networks").glob("*.py"))
WORDS = r"supervis|classif|translat|caption|sentiment|speech|spoken|segmentation|detector|autoencod|reconstruct|label"


def imported(path: Path) -> set[str]:
    """The modules that a file imports, at its top or anywhere else."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return found | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_no_backbone_knows_of_tasks(path: Path) -> None:
    outside = {name for name in imported(path) if name.startswith("triathlon.")}
    assert all(name.startswith("triathlon.networks") for name in outside)
    if "head" not in path.stem:
        assert re.findall(WORDS, path.read_text(encoding="utf-8"), re.IGNORECASE) == []


def test_tasks_use_no_part_of_networks_that_agents_do_without() -> None:
    """What agents import of networks/, and what that imports in turn, with every backbone there is."""
    files = {f"triathlon.networks.{path.stem}": path for path in NETWORKS}
    backbones = {inspect.getmodule(config_class(kind)).__name__ for kind in kinds()}  # type: ignore[union-attr]
    reached: set[str] = set()
    waiting = backbones | {name for path in (ROOT / "agents").glob("*.py") for name in imported(path) if name in files}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= {other for other in imported(files[name]) if other in files} - reached
    supervised = {name for p in (ROOT / "training/supervised").rglob("*.py") for name in imported(p) if name in files}
    assert supervised - reached == set()


PICTURE = spaces.Box(0, 255, (8, 8), np.uint8)  # what task digits sees
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_sizes": [8]},
    "cnn": {"features": 8},
    "impala": {"channels": [4], "features": 8},
    "resnet": {"channels": 4, "num_blocks": 1, "features": 8},
    "patches": {"patch_size": 4, "width": 8, "num_heads": 2, "num_layers": 1},
    "lstm": {"hidden_size": 8, "encoder": {"kind": "mlp", "hidden_sizes": [8]}},
    "gru": {"hidden_size": 8, "encoder": {"kind": "mlp", "hidden_sizes": [8]}},
    "transformer": {"width": 8, "num_heads": 2, "num_layers": 1, "encoder": {"kind": "mlp", "hidden_sizes": [8]}},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_classifiers_backbone_is_an_agents(kind: str) -> None:
    backbone = {"kind": kind, **SETTINGS[kind]}
    experiment = from_mapping({"task": {"kind": "image_classification", "source": "digits"}, "backbone": backbone})
    facts = {"classes": [str(digit) for digit in range(10)], "shape": [8, 8]}
    task = make_task(experiment.task, facts)
    reading = make_network(experiment, task, torch.device("cpu")).backbone
    config = experiment.backbone
    ppo = ActorCritic(PICTURE, spaces.Discrete(3), config, True, False, "free", 0.0).actor
    dqn = QNetwork(PICTURE, 3, config, QHeadConfig(), False).backbone
    for playing in (ppo, dqn):
        assert type(playing) is type(reading)
        assert Path(inspect.getfile(type(playing))).resolve().parent == (ROOT / "networks").resolve()
        shapes = [{name: w.shape for name, w in b.state_dict().items()} for b in (playing, reading)]
        assert shapes[0] == shapes[1]
        playing.load_state_dict(reading.state_dict())
        rows = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        with torch.no_grad():
            assert torch.equal(playing(rows)[0], reading(rows)[0])
