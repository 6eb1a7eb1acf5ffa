"""The network of an experiment: made from its seed, or given the weights in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from triathlon.agents.gradient_step import has_compiler
from triathlon.agents.randomness import initialisation
from triathlon.networks.errors import SettingError
from triathlon.networks.images import compute_pictures_in
from triathlon.networks.registry import make_backbone
from triathlon.networks.spaces import num_pixels
from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.machine import is_small, num_cores, pick_precision
from triathlon.training.supervised.config import SupervisedExperiment
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.task import Task

INITIAL = 0  # the first thing of a run that random numbers are drawn for; `fit` has the others


def make_network(experiment: SupervisedExperiment, task: Task, device: torch.device) -> Network:
    """The network of an experiment, with weights drawn from its seed, and the threads that it is worth."""
    torch.set_num_threads(1)  # initial weights are the same with any number of cores
    with initialisation(np.random.SeedSequence(experiment.seed, spawn_key=(INITIAL,))):
        backbone = make_backbone(experiment.backbone, task.space)
        network = task.make_network(backbone)
        if experiment.freeze_backbone:
            backbone.requires_grad_(False)
        with torch.no_grad():
            task.prepare(network)
    compute_pictures_in(network, pick_precision(experiment.precision, device, task.space))
    # A table of embeddings is read, not multiplied with: it is no work to share.
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    num_parameters = sum(p.numel() for p in network.parameters() if id(p) not in tables)
    small = is_small(num_parameters, num_pixels(task.space)) or device.type != "cpu"
    torch.set_num_threads(experiment.num_threads or (1 if small else num_cores()))
    return network.to(device)


def load_checkpoint(path: Path, experiment: SupervisedExperiment) -> dict[str, Any]:
    """The state in a checkpoint of this experiment's task.

    Raises:
        RunError: no such file, damaged, or a checkpoint of something else.
    """
    state = checkpoint.load(path)
    if state.get("task") != experiment.task.kind:
        found = state.get("task", "something that is no task")
        raise RunError(f"{path} is a checkpoint of {found}, not of {experiment.task.kind} (task.kind)")
    return state


def restore_network(network: Network, state: dict[str, Any], path: Path) -> None:
    """Give a network the weights in a checkpoint; raises RunError where they are those of another network."""
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        problem = lines[1] if len(lines) > 1 else lines[0]
        raise RunError(f"{path} does not fit the settings of task and backbone: {problem[:160]}") from error


def compile_backbone(network: Network, device: torch.device) -> None:
    """Let torch compile the backbone when it is first called.

    Raises:
        SettingError: the backbone has a memory, or there is no compiler.
    """
    if network.backbone.initial_state(1):
        raise SettingError("fit.compile: true works with backbones without a memory; set it to false")
    if not has_compiler(device):
        needed = "a C++ compiler (g++ or clang++)" if device.type == "cpu" else "Triton and a GPU of CUDA"
        raise SettingError(f"fit.compile: true needs {needed}, and there is none; set it to false")
    network.compile_backbone()


__all__ = ["INITIAL", "compile_backbone", "load_checkpoint", "make_network", "restore_network"]
