"""A picture squeezed into a few numbers and made again from them. T rows, B examples, N pictures, H, W, C its sides.

Z numbers of a code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, MinLen
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.backbone import State
from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.drawing import sheet, write_answer
from triathlon.training.supervised.examples import Batch, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.losses import auroc
from triathlon.training.supervised.pictures.decoder import AutoencoderHead, Decoder, num_channels, to_bytes, to_planes
from triathlon.training.supervised.pictures.sources import Pictures, read_picture, read_pictures
from triathlon.training.supervised.sources import PartsConfig
from triathlon.training.supervised.task import Embeddings, Evaluation, Task, TaskConfig

NUM_SHOWN = 12


@dataclass(frozen=True)
class AutoencoderConfig(TaskConfig):
    """Settings of an autoencoder."""

    kind: Annotated[str, "a picture made again from a few numbers"] = "autoencoder"
    source: Annotated[
        str, MinLen(1), "digits, fashion_mnist, a folder of IDX files, or one with a folder of pictures for each class"
    ] = "digits"
    size: Annotated[int | None, Ge(5), "side that the pictures of a person's own folder are scaled to"] = None
    parts: PartsConfig = field(default_factory=PartsConfig)
    code_size: Annotated[int, Gt(0), "numbers that a picture is squeezed into"] = 16
    decoder_channels: Annotated[int, Gt(0), "channels inside the decoder"] = 32
    held_out: Annotated[
        str | None, MinLen(1), "class that is not learned from, to be told by its error (auroc); null: none"
    ] = None


class Autoencoder(Task):
    """Pictures `[H, W]` or `[H, W, 3]` of bytes; what is to come out is what went in."""

    Config = AutoencoderConfig
    metric = "loss"
    higher_is_better = False
    can_embed = True

    def __init__(self, config: AutoencoderConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        if facts is None:
            data = read_pictures(config.source, config.size, config.parts)
            facts = {"classes": data.classes, "shape": list(data.train[0].shape[1:])}
            if config.held_out is not None and config.held_out not in data.classes:
                raise RunError(
                    f"task.held_out is '{config.held_out}'{nearest(config.held_out, data.classes)}, but the classes "
                    f"are {', '.join(data.classes)}"
                )
            known = [self._known(part, data.classes) for part in (data.train, data.validation)]
            self.data = Splits(*(Examples(images[:, None], target) for images, target in (*known, data.test)))
        self.facts = facts
        self.space = spaces.Box(0, 255, tuple(facts["shape"]), np.uint8)

    def _known(self, pictures: Pictures, classes: list[str]) -> Pictures:
        """Without the class that is held out."""
        if self.config.held_out is None:
            return pictures
        keep = pictures[1] != classes.index(self.config.held_out)
        return pictures[0][keep], pictures[1][keep]

    def make_head(self, in_features: int) -> Decoder:
        return AutoencoderHead(in_features, self.config.code_size, *self.picture_settings())

    def picture_settings(self) -> tuple[int, int, int, int]:
        """Channels, height and width of a picture, and the channels inside the decoder."""
        height, width = self.facts["shape"][:2]
        return num_channels(self.facts["shape"]), height, width, self.config.decoder_channels

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        made, state = network(batch.obs, state, None, generator)
        return (made - to_planes(batch.obs)).square().mean(), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        errors, targets = [], []
        shown: list[NDArray[Any]] = []
        for batch in dataset.in_order(batch_size):
            made = network(batch.obs.to(device))[0].cpu()
            wanted = to_planes(batch.obs)
            errors.append((made - wanted).square().flatten(1).mean(1))
            targets.append(batch.target)
            if not shown:
                shown = [*to_bytes(wanted[:NUM_SHOWN]), *to_bytes(made[:NUM_SHOWN])]
        error, target = torch.cat(errors).numpy(), torch.cat(targets).numpy()
        unknown = self.unknown(target)
        metrics = {"loss": float(error[~unknown].mean())}
        if unknown.any():
            metrics |= {"loss_held_out": float(error[unknown].mean()), "auroc": auroc(error, unknown)}
        return Evaluation(metrics, {"reconstructions": sheet(shown, len(shown) // 2)})

    def unknown(self, target: NDArray[Any]) -> NDArray[np.bool_]:
        """`[N]`: which examples are of the class that is held out."""
        held_out = self.config.held_out
        return np.zeros(len(target), bool) if held_out is None else target == self.facts["classes"].index(held_out)

    def embed(self, network: Network, batch: Batch) -> Embeddings:
        """The codes."""
        names = [self.facts["classes"][k] for k in batch.target.tolist()]
        return Embeddings(self.encode(network, batch.obs), names, to_bytes(to_planes(batch.obs)))

    def encode(self, network: Network, obs: Tensor) -> Tensor:
        """The codes `[B, Z]` of `obs [1, B, H, W(, C)]`."""
        assert isinstance(network.head, AutoencoderHead)
        return network.head.encode(network.backbone(obs)[0])

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Pictures; what is made of each is written beside it."""
        shape = self.facts["shape"]
        for file in files:
            picture = read_picture(file, (shape[0], shape[1]), is_grey=len(shape) == 2)
            made, words = self.make_again(network, torch.from_numpy(picture)[None, None].to(device))
            out = write_answer(file, "made-again", to_bytes(made)[0].squeeze())
            yield f"{file}: {words}, made again in {out}"

    def make_again(self, network: Network, obs: Tensor) -> tuple[Tensor, str]:
        """What the network makes of `obs [1, 1, H, W(, C)]`: a picture `[1, C, H, W]`, and how near it is in words."""
        made: Tensor = network(obs)[0]
        return made, f"mean squared error {float((made - to_planes(obs)).square().mean()):.4f}"


__all__ = ["Autoencoder", "AutoencoderConfig"]
