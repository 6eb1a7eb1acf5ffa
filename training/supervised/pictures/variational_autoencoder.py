"""An autoencoder whose codes are drawn, so that new pictures can be. B examples, N in all, Z numbers of a code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from triathlon.networks.backbone import State
from triathlon.training.supervised.drawing import sheet
from triathlon.training.supervised.examples import Batch, Dataset
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.losses import auroc, kl_to_standard_normal
from triathlon.training.supervised.pictures.autoencoder import NUM_SHOWN, Autoencoder, AutoencoderConfig
from triathlon.training.supervised.pictures.decoder import VariationalHead, between, to_bytes, to_planes
from triathlon.training.supervised.task import Evaluation, Picture

NUM_SAMPLES = 64
NUM_LINES, NUM_BETWEEN = 8, 10


@dataclass(frozen=True)
class VariationalAutoencoderConfig(AutoencoderConfig):
    """Settings of a variational autoencoder."""

    kind: Annotated[str, "pictures made again, and new ones, from codes that are drawn"] = "vae"
    beta: Annotated[float, Gt(0), "what a nat of the code costs; 1: loss is the bound itself, more: simpler codes"] = (
        1.0
    )
    kl_warmup_steps: Annotated[int, Ge(0), "steps in which that cost rises from 0, so that codes come into use"] = 0
    sample_seed: Annotated[int, Ge(0), "random numbers of measures and of the pictures shown descend from it"] = 0


class VariationalAutoencoder(Autoencoder):
    """Pictures `[H, W]` or `[H, W, 3]` of bytes. All measures are in nats a picture.

    The bound on log p(x) is log p(x | z) of a z drawn for x, less the KL divergence of z's distribution from N(0, 1)
    (Kingma & Welling 2014, "Auto-Encoding Variational Bayes", eq. 3; beta: Higgins et al. 2017, "beta-VAE", eq. 4; its
    rise: Sønderby et al. 2016, "Ladder Variational Autoencoders", §2.3). A pixel is a coin that falls as bright as it
    is: log p(x | z) is minus the binary cross-entropy.
    """

    Config = VariationalAutoencoderConfig
    config: VariationalAutoencoderConfig
    metric = "elbo"
    higher_is_better = True

    def make_head(self, in_features: int) -> VariationalHead:
        return VariationalHead(in_features, self.config.code_size, *self.picture_settings())

    def prepare(self, network: Network) -> None:
        self.after_step(network, 0)

    def after_step(self, network: Network, num_steps: int) -> None:
        """The cost of the next step's codes."""
        share = min(1.0, (num_steps + 1) / (self.config.kl_warmup_steps + 1))
        _head(network).beta.fill_(self.config.beta * share)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        (logits, mean, log_variance), state = network(batch.obs, state, None, generator)
        kl = kl_to_standard_normal(mean, log_variance)
        return (_reconstruction(logits, batch.obs) + _head(network).beta * kl).mean(), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        generator = torch.Generator().manual_seed(self.config.sample_seed)
        found: list[tuple[Tensor, ...]] = []
        for batch in dataset.in_order(batch_size):
            obs = batch.obs.to(device)
            logits, mean, log_variance = network(obs, generator=generator)[0]
            kl = kl_to_standard_normal(mean, log_variance)
            found.append((_reconstruction(logits, obs).cpu(), kl.cpu(), mean.cpu(), batch.target))
        reconstruction, divergence, means, target = (torch.cat(part).numpy() for part in zip(*found, strict=True))
        elbo, unknown = -reconstruction - divergence, self.unknown(target)
        metrics = {
            "elbo": float(elbo[~unknown].mean()),
            "reconstruction": float(reconstruction[~unknown].mean()),
            "kl": float(divergence[~unknown].mean()),
            "active_units": float((means.var(0) > 0.01).sum()),
        }
        if unknown.any():
            metrics |= {"elbo_held_out": float(elbo[unknown].mean()), "auroc": auroc(-elbo, unknown)}
        return Evaluation(metrics, self._shown(network, dataset, target, device))

    def _shown(
        self, network: Network, dataset: Dataset, target: NDArray[Any], device: torch.device
    ) -> dict[str, Picture]:
        """Pictures made again from the means of their codes, new ones, and what lies between two."""
        head = _head(network)

        def codes(indices: NDArray[Any]) -> Tensor:
            return self.encode(network, dataset.batch(indices).obs.to(device))

        first = np.arange(min(NUM_SHOWN, len(dataset)))
        again = head.decode(codes(first))
        generator = torch.Generator().manual_seed(self.config.sample_seed)
        samples = head.decode(torch.randn(NUM_SAMPLES, self.config.code_size, generator=generator).to(device))
        ends = np.unique(target, return_index=True)[1][:NUM_LINES]  # an example of each class
        lines = head.decode(between(codes(ends), codes(np.roll(ends, -1)), NUM_BETWEEN))
        return {
            "reconstructions": sheet([*to_bytes(to_planes(dataset.batch(first).obs)), *to_bytes(again)], len(first)),
            "samples": sheet(list(to_bytes(samples)), 8),
            "interpolations": sheet(list(to_bytes(lines)), NUM_BETWEEN),
        }

    def encode(self, network: Network, obs: Tensor) -> Tensor:
        """The means of the codes."""
        return _head(network).encode(network.backbone(obs)[0])[0]

    def make_again(self, network: Network, obs: Tensor) -> tuple[Tensor, str]:
        generator = torch.Generator().manual_seed(self.config.sample_seed)
        logits, mean, log_variance = network(obs, generator=generator)[0]
        elbo = float(-_reconstruction(logits, obs) - kl_to_standard_normal(mean, log_variance))
        return _head(network).decode(mean), f"elbo {elbo:.1f} nats"


def _head(network: Network) -> VariationalHead:
    assert isinstance(network.head, VariationalHead)
    return network.head


def _reconstruction(logits: Tensor, obs: Tensor) -> Tensor:
    """`[B]`: -log p(x | z) of `obs [1, B, H, W(, C)]` in nats, from `logits [B, C, H, W]`."""
    return F.binary_cross_entropy_with_logits(logits, to_planes(obs), reduction="none").flatten(1).sum(1)


__all__ = ["VariationalAutoencoder", "VariationalAutoencoderConfig"]
