"""A backbone that starts from what another run has learned, of an agent or of a task."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from triathlon.networks.backbone import Backbone
from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.run_folder import open_run

PREFIXES = ("backbone.", "actor.")  # of the backbone in the networks of tasks, DQN and PQN, and of PPO
VOCABULARIES = ("words", "characters", "bpe")  # the facts of a task that say what each of its tokens stands for


@dataclass
class Taken:
    """Which weights were taken over, by name."""

    path: Path
    what: str = "Backbone"
    matched: list[str] = field(default_factory=list)
    other_vocabulary: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether anything has no counterpart of its shape."""
        return bool(self.other_vocabulary or self.other_shape or self.missing or self.unused)

    def __str__(self) -> str:
        """What matched and what did not, a line each."""
        lines = [f"{self.what} from {self.path}: {len(self.matched)} weights taken over"]
        for what, names in (
            ("of another vocabulary there, left as they were", self.other_vocabulary),
            ("another shape there, left as they were", self.other_shape),
            ("not there, left as they were", self.missing),
            ("only there, not used", self.unused),
        ):
            if names:
                lines.append(f"  {what}: {', '.join(names)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Source:
    """The weights `{name: tensor}` of a run's network, the checkpoint they are from, and the facts of a run's task."""

    path: Path
    weights: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def part(self, *prefixes: str) -> dict[str, Tensor]:
        """The weights below the first of these prefixes that has any, by their names there."""
        for prefix in prefixes:
            found = {name.removeprefix(prefix): w for name, w in self.weights.items() if name.startswith(prefix)}
            if found:
                return found
        return {}

    def backbone(self, *first: str) -> dict[str, Tensor]:
        """The weights of the backbone (of several that below the prefix `first`); raises RunError if there are none."""
        found = self.part(*first, *PREFIXES)
        if not found:
            raise RunError(f"init_from: {self.path} holds no backbone with weights")
        return found


def open_source(run: str | Path) -> Source:
    """The network of a run folder (its best checkpoint, if there is one) or of a checkpoint file.

    Raises:
        RunError: there is no such run or checkpoint.
    """
    path = Path(run)
    if path.suffix != ".safetensors":
        path = open_run(run).checkpoint()
    state = checkpoint.load(path)
    return Source(path, state.get("learner", state).get("network", {}), state.get("facts", {}))


def take_backbone(
    backbone: Backbone,
    run: str | Path,
    partly: bool = False,
    facts: dict[str, Any] | None = None,
    space: Space[Any] | None = None,
) -> Taken:
    """Give `backbone` the weights that the backbone of a run has under the same names.

    `run` is a run folder or a checkpoint file; `facts` and `space` are those of the task that `backbone` is for. With
    `partly` what does not fit is left as it was, also the vectors of tokens that stand for something else there; else
    nothing is changed unless all fits.

    Raises:
        RunError: no such run or checkpoint, no backbone in it, another vocabulary, weights differ in name or shape
            (`partly`: all do), or the backbone saw scaled observations, which a task has none of.
    """
    source = open_source(run)
    if source.part("norm.") and not partly:
        raise RunError(
            f"init_from: the backbone in {source.path} learned from scaled observations (agent.normalize_obs), and a "
            "task shows them as they are; take it all the same with init_partly: true"
        )
    ours, theirs = (
        {name: found[name] for name in VOCABULARIES if name in found} for found in (facts or {}, source.facts)
    )
    if not isinstance(space, spaces.Discrete) or not ours or ours == theirs:
        return take(backbone, source.backbone(), source.path, partly)
    if not partly:
        raise RunError(
            f"init_from: {source.path} learned from another vocabulary, in which the same numbers are other tokens; "
            "learn from the same data with the same tokens, or take the rest of the backbone with init_partly: true"
        )
    return take(backbone, source.backbone(), source.path, partly, left_out=_token_weights(backbone, int(space.n)))


def _token_weights(backbone: Backbone, num_tokens: int) -> list[str]:
    """The names of the weights that hold something for each token: tables, or what reads one-hot tokens."""
    parts = list(backbone.named_modules())
    tables = [name for name, part in parts if isinstance(part, nn.Embedding) and part.num_embeddings == num_tokens]
    readers = [name for name, part in parts if isinstance(part, nn.Linear) and part.in_features == num_tokens]
    return [f"{name}.weight" for name in tables or readers]


def take(
    module: nn.Module,
    theirs: dict[str, Tensor],
    path: Path,
    partly: bool,
    what: str = "Backbone",
    left_out: Collection[str] = (),
) -> Taken:
    """Give a part of a network the weights `theirs`, which are from `path`; errors as in `take_backbone`."""
    taken = compared(module, theirs, path, what, left_out)
    if not taken.matched or (taken.differs and not partly):
        hint = "" if partly else "; choose the same backbone settings, or take what fits with init_partly: true"
        shown = "; ".join(str(taken).splitlines()[1:])
        raise RunError(f"init_from: the {what.lower()} in {path} is not the one here: {shown.strip()}{hint}")
    ours = module.state_dict()
    with torch.no_grad():
        for name in taken.matched:
            ours[name].copy_(theirs[name])
    return taken


def compared(
    module: nn.Module, theirs: dict[str, Tensor], path: Path, what: str, left_out: Collection[str] = ()
) -> Taken:
    """Which of these weights have a place in `module`, but for those `left_out`, which are of another vocabulary.

    Nothing is changed.
    """
    ours, taken = module.state_dict(), Taken(path, what)
    for name, weight in ours.items():
        if name not in theirs:
            taken.missing.append(name)
        elif name in left_out:
            taken.other_vocabulary.append(name)
        elif theirs[name].shape != weight.shape:
            taken.other_shape.append(f"{name} {_sides(theirs[name])} there, {_sides(weight)} here")
        else:
            taken.matched.append(name)
    taken.unused = [name for name in theirs if name not in ours]
    return taken


def _sides(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape)) or "a number"


__all__ = ["Source", "Taken", "compared", "open_source", "take", "take_backbone"]
