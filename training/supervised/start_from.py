"""A backbone that starts from what another run has learned, of an agent or of a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from triathlon.networks.backbone import Backbone
from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.run_folder import open_run

PREFIXES = ("backbone.", "actor.")  # of the backbone in the networks of tasks, DQN and PQN, and of PPO


@dataclass
class Taken:
    """Which weights were taken over, by name."""

    path: Path
    matched: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """What matched and what did not, a line each."""
        lines = [f"Backbone from {self.path}: {len(self.matched)} weights taken over"]
        for what, names in (
            ("another shape there, left as they were", self.other_shape),
            ("not there, left as they were", self.missing),
            ("only there, not used", self.unused),
        ):
            if names:
                lines.append(f"  {what}: {', '.join(names)}")
        return "\n".join(lines)


def take_backbone(backbone: Backbone, run: str | Path, partly: bool = False) -> Taken:
    """Give `backbone` the weights that the backbone of a run has under the same names.

    `run` is a run folder or a checkpoint file. With `partly` what does not fit is left as it was; else nothing is
    changed unless all fits.

    Raises:
        RunError: no such run or checkpoint, no backbone in it, or weights differ in name or shape (`partly`: all do).
    """
    path = Path(run)
    if path.suffix != ".safetensors":
        path = open_run(run).checkpoint()
    theirs, ours = _backbone_of(path), backbone.state_dict()
    taken = Taken(path)
    for name, weight in ours.items():
        if name not in theirs:
            taken.missing.append(name)
        elif theirs[name].shape != weight.shape:
            taken.other_shape.append(f"{name} {_sides(theirs[name])} there, {_sides(weight)} here")
        else:
            taken.matched.append(name)
    taken.unused = [name for name in theirs if name not in ours]
    differ = taken.other_shape + taken.missing + taken.unused
    if not taken.matched or (differ and not partly):
        hint = "" if partly else "; choose the same backbone settings, or take what fits with init_partly: true"
        shown = "; ".join(str(taken).splitlines()[1:])
        raise RunError(f"init_from: the backbone in {path} is not the one here: {shown.strip()}{hint}")
    with torch.no_grad():
        for name in taken.matched:
            ours[name].copy_(theirs[name])
    return taken


def _backbone_of(path: Path) -> dict[str, Tensor]:
    state = checkpoint.load(path)
    weights = state.get("learner", state).get("network", {})
    for prefix in PREFIXES:
        found = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        if found:
            return found
    raise RunError(f"init_from: {path} holds no backbone with weights")


def _sides(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape)) or "a number"


__all__ = ["Taken", "take_backbone"]
