"""Generators of a learner, all descending from the run's one seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def torch_generator(seed: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    """A generator on `device`, seeded with 63 bits of `seed`."""
    return torch.Generator(device).manual_seed(_integer(seed))


def restore_generator(generator: torch.Generator, saved: Tensor) -> None:
    """Let `generator` go on where the one went on whose `get_state()` was `saved`.

    A GPU's generator is of another kind than a CPU's, with a state of another size. From the state of the other kind
    nothing can go on to the bit: the generator keeps the seed that it has.
    """
    if saved.numel() == generator.get_state().numel():
        generator.set_state(saved)


@contextmanager
def initialisation(seed: np.random.SeedSequence) -> Iterator[None]:
    """Parameters made inside are drawn from `seed`; torch's global generator is left as it was.

    `torch.nn.init` draws from the global generator in modules that we did not write; only for this is it seeded. It is
    the CPU's: `torch.manual_seed` would seed those of GPUs too, which nothing here draws from and nothing puts back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_integer(seed))
        yield


def _integer(seed: np.random.SeedSequence) -> int:
    return int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1))
