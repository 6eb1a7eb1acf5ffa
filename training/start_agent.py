"""An agent that starts from what another run has learned, and how fast its backbone goes on learning."""

from __future__ import annotations

from typing import Any

from torch import nn

from triathlon.agents.agent import Learner
from triathlon.networks.backbone import Backbone
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.supervised.start_from import Source, Taken, compared, open_source, take

HEADS = ("policy_head.", "head.policy.")  # of the policy in the networks of PPO, and of behaviour cloning


def start_agent(learner: Learner, experiment: Experiment, resumes: bool = False) -> list[Taken]:
    """Do what `init_from`, `freeze_backbone` and `backbone_scale` say, before the first update.

    A run that goes on has weights of its own: only the rates are set. Policy and value of PPO with a backbone each both
    start from the one backbone, unless the other run has two of them as well.

    Raises:
        RunError: no such run, or its backbone is not the one here; nothing was changed.
    """
    network: Any = learner.policy.network
    scale = 0.0 if experiment.freeze_backbone else experiment.backbone_scale
    if scale != 1.0:
        for backbone in _backbones(network).values():
            learner.step.scale_rate(backbone, scale)
    if experiment.init_from is None or resumes:
        return []
    source = open_source(experiment.init_from)
    partly = experiment.init_partly
    _check_norm(network, source, partly)
    taken = [
        take(backbone, source.backbone(f"{name}."), source.path, partly, "Backbone" if name != "critic" else "Critic")
        for name, backbone in _backbones(network).items()
    ]
    theirs = source.part(*HEADS)
    if experiment.init_head and hasattr(network, "policy_head") and theirs:
        head = compared(network.policy_head, theirs, source.path, "Policy head")
        taken.append(head if head.differs else take(network.policy_head, theirs, source.path, partly, "Policy head"))
    if network.norm is not None and (statistics := source.part("norm.")):
        taken.append(take(network.norm, statistics, source.path, partly, "Scale of observations"))
    target: nn.Module | None = getattr(learner, "target", None)
    if target is not None:
        target.load_state_dict(network.state_dict())
    return taken


def _backbones(network: nn.Module) -> dict[str, Backbone]:
    return {name: child for name, child in network.named_children() if isinstance(child, Backbone)}


def _check_norm(network: Any, source: Source, partly: bool) -> None:
    """Raises RunError where the backbone would see observations on another scale than it learned from."""
    there, here = bool(source.part("norm.")), network.norm is not None
    if there != here and not partly:
        found, wanted = ("scaled", "true") if there else ("unscaled", "false")
        raise RunError(
            f"init_from: the backbone in {source.path} learned from {found} observations; set agent.normalize_obs to "
            f"{wanted}, or take it all the same with init_partly: true"
        )


__all__ = ["start_agent"]
