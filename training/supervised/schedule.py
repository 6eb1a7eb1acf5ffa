"""How fast to learn at each step, and what learns how fast. P parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt

from triathlon.networks.errors import SettingError
from triathlon.training.errors import RunError
from triathlon.training.supervised.heads import Network

# Parameters of several dimensions that are no matrices: what a place or a distance adds, a token of a network's own.
NOT_DECAYED = ("bias", "position", "cls")


@dataclass(frozen=True)
class FitConfig:
    """How a network is fitted to its examples."""

    num_epochs: Annotated[int, Gt(0), "times that all examples are seen"] = 20
    batch_size: Annotated[int, Gt(0), "examples whose gradients are computed together"] = 128
    accumulate: Annotated[int, Gt(0), "batches whose gradients are averaged for one step"] = 1
    learning_rate: Annotated[float, Gt(0), "of AdamW at the end of the warm-up"] = 1e-3
    momentum: Annotated[float, Ge(0), Lt(1), "of AdamW: share of earlier gradients in a step (its first beta)"] = 0.9
    backbone_scale: Annotated[float, Gt(0), "multiplies the learning rate of the backbone, not of the head"] = 1.0
    schedule: Annotated[Literal["constant", "cosine"], "the learning rate after the warm-up"] = "cosine"
    warmup_steps: Annotated[int, Ge(0), "steps in which the learning rate rises from 0"] = 100
    weight_decay: Annotated[float, Ge(0), "of matrices and kernels, not of biases, scales, positions; 0: Adam"] = 0.01
    max_grad_norm: Annotated[float | None, Gt(0), "longer gradients are shortened to this; null: never"] = 1.0
    averaging: Annotated[
        float | None, Gt(0), Lt(1), "share of the weights' average, which is tested, that a step keeps; null: none"
    ] = None
    patience: Annotated[int | None, Gt(0), "evaluations without a new best after which it ends; null: never early"] = (
        None
    )
    evaluation_period: Annotated[int | None, Gt(0), "steps between evaluations and checkpoints; null: an epoch"] = None
    compile: Annotated[bool, "compile the backbone, which takes half a minute once; not with a memory"] = False


def learning_rate(config: FitConfig, step: int, num_steps: int) -> float:
    """The learning rate of step 0, 1, …, num_steps - 1 (Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def make_optimizer(network: Network, config: FitConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2) for all that learns.

    Vectors (biases, scales of norms) are not decayed, nor is what is named as NOT_DECAYED says. Each group's `scale`
    multiplies the learning rate.

    Raises:
        SettingError: `backbone_scale` was changed although the backbone is frozen.
    """
    if config.backbone_scale != 1.0 and not network.backbone_learns:
        raise SettingError("fit.backbone_scale is not read with freeze_backbone: true; leave one of them out")
    groups = []
    for part, scale in ((network.head, 1.0), (network.backbone, config.backbone_scale)):
        parameters = [(name, p) for name, p in part.named_parameters() if p.requires_grad]
        decayed = [p.dim() > 1 and not name.endswith(NOT_DECAYED) for name, p in parameters]
        for decay, which in ((config.weight_decay, True), (0.0, False)):
            chosen = [p for (_, p), is_decayed in zip(parameters, decayed, strict=True) if is_decayed is which]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "scale": scale})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group the rate times its `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], path: Path) -> None:
    """Give an optimiser what it had found out of each weight; rates, betas and decay stay those of its own settings.

    Raises:
        RunError: the state, which is from `path`, is of other weights; nothing was changed.
    """
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(state)  # takes the groups' options over as well
    except ValueError as error:
        raise RunError(
            f"other weights learned when {path} was saved; leave freeze_backbone and, for texts, task.words_learn as "
            "they were"
        ) from error
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.update(options)
