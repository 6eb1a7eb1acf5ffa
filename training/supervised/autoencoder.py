"""A picture squeezed into a few numbers and made again from them. T rows, B examples, N pictures, H, W, C its sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, MinLen
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from triathlon.networks.backbone import State
from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.decoder import Decoder
from triathlon.training.supervised.drawing import sheet
from triathlon.training.supervised.examples import Batch, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.losses import auroc
from triathlon.training.supervised.picture_sources import Pictures, read_picture, read_pictures
from triathlon.training.supervised.task import Evaluation, Task, TaskConfig

NUM_SHOWN = 12


@dataclass(frozen=True)
class AutoencoderConfig(TaskConfig):
    """Settings of an autoencoder."""

    kind: Annotated[str, "a picture made again from a few numbers"] = "autoencoder"
    source: Annotated[
        str, MinLen(1), "digits, fashion_mnist, a folder of IDX files, or one with a folder of pictures for each class"
    ] = "digits"
    size: Annotated[int | None, Ge(5), "side that the pictures of a person's own folder are scaled to"] = None
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

    def __init__(self, config: AutoencoderConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        if facts is None:
            data = read_pictures(config.source, config.size)
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
        config, (height, width) = self.config, self.facts["shape"][:2]
        channels = self.facts["shape"][2] if len(self.facts["shape"]) == 3 else 1
        return Decoder(in_features, config.code_size, channels, height, width, config.decoder_channels)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        made, state = network(batch.obs, state, None, generator)
        return (made - self._wanted(batch.obs)).square().mean(), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        errors, targets = [], []
        shown: list[NDArray[Any]] = []
        for batch in dataset.in_order(batch_size):
            made = network(batch.obs.to(device))[0].cpu()
            wanted = self._wanted(batch.obs)
            errors.append((made - wanted).square().flatten(1).mean(1))
            targets.append(batch.target)
            if not shown:
                shown = [*self._pictures(wanted[:NUM_SHOWN]), *self._pictures(made[:NUM_SHOWN])]
        error, target = torch.cat(errors).numpy(), torch.cat(targets).numpy()
        held_out, metrics = self.config.held_out, {}
        unknown = np.zeros(len(target), bool) if held_out is None else target == self.facts["classes"].index(held_out)
        metrics["loss"] = float(error[~unknown].mean())
        if unknown.any():
            metrics |= {"loss_held_out": float(error[unknown].mean()), "auroc": auroc(error, unknown)}
        return Evaluation(metrics, {"reconstructions": sheet(shown, len(shown) // 2)})

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Pictures; what is made of each is written beside it."""
        shape = self.facts["shape"]
        for file in files:
            picture = read_picture(file, (shape[0], shape[1]), is_grey=len(shape) == 2)
            obs = torch.from_numpy(picture)[None, None].to(device)
            made = network(obs)[0]
            error = float((made - self._wanted(obs)).square().mean())
            out = file.with_name(f"{file.stem}.made-again.png")
            try:
                Image.fromarray(self._pictures(made.cpu())[0].squeeze()).save(out)
            except OSError as problem:
                raise RunError(f"{out} cannot be written: {problem.strerror or problem}") from problem
            yield f"{file}: mean squared error {error:.4f}, made again in {out}"

    def _wanted(self, obs: Tensor) -> Tensor:
        """`obs [1, B, H, W(, C)]` of bytes as `[B, C, H, W]` from 0 to 1."""
        pictures = obs[0].float() / 255
        return pictures.unsqueeze(1) if pictures.dim() == 3 else pictures.movedim(-1, 1)

    def _pictures(self, values: Tensor) -> NDArray[np.uint8]:
        """`[N, C, H, W]` from 0 to 1 as bytes `[N, H, W, C]`."""
        pictures: NDArray[np.uint8] = (values.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
        return pictures


__all__ = ["Autoencoder", "AutoencoderConfig"]
