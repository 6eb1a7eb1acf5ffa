"""A generator, and a discriminator that it learns to fool. B examples, N in all, D features, Z numbers of a code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt, MinLen
from gymnasium import spaces
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from triathlon.networks.backbone import Backbone, State
from triathlon.networks.errors import SettingError
from triathlon.networks.initialization import POLICY_GAIN, orthogonal
from triathlon.training.supervised.averaging import follow
from triathlon.training.supervised.drawing import sheet
from triathlon.training.supervised.examples import Batch, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network, pool
from triathlon.training.supervised.pictures.decoder import Decoder, between, num_channels, to_bytes, to_obs, to_planes
from triathlon.training.supervised.pictures.judge import Judge, Sight
from triathlon.training.supervised.pictures.sources import read_picture, read_pictures
from triathlon.training.supervised.sources import PartsConfig
from triathlon.training.supervised.task import Evaluation, Task, TaskConfig

NUM_SAMPLES = 64
NUM_LINES, NUM_BETWEEN = 8, 10


@dataclass(frozen=True)
class GanConfig(TaskConfig):
    """Settings of a generative adversarial network."""

    kind: Annotated[str, "new pictures that cannot be told from real ones"] = "gan"
    source: Annotated[
        str, MinLen(1), "digits, fashion_mnist, a folder of IDX files, or one with a folder of pictures for each class"
    ] = "digits"
    size: Annotated[int | None, Ge(5), "side that the pictures of a person's own folder are scaled to"] = None
    parts: PartsConfig = field(default_factory=PartsConfig)
    judge: Annotated[
        str | None, MinLen(1), "run of image_classification that says what is on pictures; null: pixels are compared"
    ] = None
    code_size: Annotated[int, Gt(0), "random numbers that a picture is made from"] = 32
    decoder_channels: Annotated[int, Gt(0), "channels inside the generator"] = 64
    gradient_penalty: Annotated[float, Ge(0), "what a steep discriminator costs at real pictures (R1); 0: nothing"] = (
        1.0
    )
    averaging: Annotated[float, Ge(0), Lt(1), "share of the average generator, which is tested, that a step keeps"] = (
        0.999
    )
    sample_seed: Annotated[int, Ge(0), "random numbers of measures and of the pictures shown descend from it"] = 0


class AdversarialHead(nn.Module):
    """`features [T, B, D]` of a picture to how real it is `[B]`; and the generators that are to fool it."""

    def __init__(self, in_features: int, code_size: int, channels: int, height: int, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = orthogonal(nn.Linear(in_features, 1), POLICY_GAIN)
        self.generator = Decoder(code_size, channels, height, width, hidden)
        self.average = Decoder(code_size, channels, height, width, hidden).requires_grad_(False)
        self.average.load_state_dict(self.generator.state_dict())

    def forward(self, features: Tensor, length: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return self.linear(pool(features, length, "last")).squeeze(-1)  # type: ignore[no-any-return]


class AdversarialNetwork(Network):
    """The discriminator, with the generators in its head."""

    def compile_backbone(self) -> None:
        raise SettingError("fit.compile: the gradient of a slope cannot go through compiled code; set it to false")


class Gan(Task):
    """Pictures `[H, W]` or `[H, W, 3]` of bytes. The discriminator is the backbone; the generator is the decoder.

    Both take a step at once, the discriminator on what stands before the step and the generator through a copy of the
    discriminator that gets no gradient, so that one backward pass and one optimiser serve both. Losses: non-saturating
    (Goodfellow et al. 2014, "Generative Adversarial Nets", §3). Simultaneous steps alone circle around the solution;
    with a penalty on the discriminator's slope at real pictures they arrive (Mescheder, Geiger & Nowozin 2018, "Which
    Training Methods for GANs do actually Converge?", eq. 9). What is tested is the average of the generator's weights
    over the last steps (Yazıcı et al. 2019, "The Unusual Effectiveness of Averaging in GAN Training").
    """

    Config = GanConfig
    metric = "frechet_distance"
    higher_is_better = False
    averages = True

    def __init__(self, config: GanConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        if facts is None:
            data = read_pictures(config.source, config.size, config.parts)
            facts = {"shape": list(data.train[0].shape[1:])}
            self.data = Splits(
                *(Examples(p[:, None], target) for p, target in (data.train, data.validation, data.test))
            )
            self.judge = Judge(config.judge, facts["shape"])
            self._seen: dict[int, tuple[Sight, dict[str, float]]] = {}
        self.facts = facts
        self.space = spaces.Box(0, 255, tuple(facts["shape"]), np.uint8)

    def make_head(self, in_features: int) -> AdversarialHead:
        config, (height, width) = self.config, self.facts["shape"][:2]
        channels = num_channels(self.facts["shape"])
        return AdversarialHead(in_features, config.code_size, channels, height, width, config.decoder_channels)

    def make_network(self, backbone: Backbone) -> Network:
        return AdversarialNetwork(backbone, self.make_head(backbone.out_features))

    def prepare(self, network: Network) -> None:
        if not network.backbone_learns:
            raise SettingError("freeze_backbone: a frozen discriminator cannot be learned against; set it to false")

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        shape, planes = self.facts["shape"], to_planes(batch.obs)
        noise = torch.randn(len(planes), self.config.code_size, generator=generator, device=planes.device)
        made = to_obs(_head(network).generator.decode(noise), shape)
        planes.requires_grad_(self.config.gradient_penalty > 0)
        real, state = network(to_obs(planes, shape))
        loss = F.softplus(-real).mean() + F.softplus(network(made.detach())[0]).mean()
        if self.config.gradient_penalty:
            (slope,) = torch.autograd.grad(real.sum(), planes, create_graph=True)
            loss = loss + self.config.gradient_penalty / 2 * slope.square().flatten(1).sum(1).mean()
        fixed = {name: parameter.detach() for name, parameter in network.named_parameters()}
        return loss + F.softplus(-functional_call(network, fixed, (made,))[0]).mean(), state

    def after_step(self, network: Network, num_steps: int) -> None:
        """The average follows the generator, at first more closely."""
        head = _head(network)
        follow(head.average, head.generator, self.config.averaging, num_steps)

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        assert isinstance(dataset, Examples)
        if id(dataset) not in self._seen:  # real pictures stay as they are
            assert isinstance(self.splits.train, Examples)
            num = len(self.splits.train)
            some = self.splits.train.part(np.arange(0, num, max(1, num // len(dataset)))[: len(dataset)])
            reference, learned_from = (
                self.judge.look(self._real(part, batch_size, device)) for part in (dataset, some)
            )
            measures = reference.measures(learned_from)
            self._seen[id(dataset)] = reference, {f"real_{name}": value for name, value in measures.items()}
        reference, real = self._seen[id(dataset)]
        metrics = self.judge.look(self._made(network, len(dataset), batch_size, device)).measures(reference) | real
        for name, pictures in (
            ("fooled", self._made(network, len(dataset), batch_size, device)),
            ("recognised", self._real(dataset, batch_size, device)),
        ):
            is_real = torch.cat([network(to_obs(planes, self.facts["shape"]))[0] > 0 for planes in pictures])
            metrics[name] = float(is_real.float().mean())
        return Evaluation(metrics, self._shown(network, device))

    def _real(self, dataset: Examples, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        return (to_planes(batch.obs.to(device)) for batch in dataset.in_order(batch_size))

    def _made(self, network: Network, num: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """`num` new pictures, always from the same codes."""
        codes = self._codes(num).to(device)
        return (_head(network).average.decode(some) for some in codes.split(batch_size))

    def _codes(self, num: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.config.sample_seed)
        return torch.randn(num, self.config.code_size, generator=generator)

    def _shown(self, network: Network, device: torch.device) -> dict[str, Any]:
        codes = self._codes(NUM_SAMPLES).to(device)
        ends = codes[:NUM_LINES]
        lines = between(ends, ends.roll(-1, 0), NUM_BETWEEN)
        samples, between_them = (to_bytes(_head(network).average.decode(some)) for some in (codes, lines))
        return {"samples": sheet(list(samples), 8), "interpolations": sheet(list(between_them), NUM_BETWEEN)}

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Pictures; how real the discriminator takes them to be."""
        shape = self.facts["shape"]
        for file in files:
            picture = read_picture(file, (shape[0], shape[1]), is_grey=len(shape) == 2)
            logit = network(torch.from_numpy(picture)[None, None].to(device))[0]
            yield f"{file}: real {float(logit.sigmoid()):.2f}"


def _head(network: Network) -> AdversarialHead:
    assert isinstance(network.head, AdversarialHead)
    return network.head


__all__ = ["Gan", "GanConfig"]
