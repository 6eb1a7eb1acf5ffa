"""Generators of a learner, all descending from the run's one seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def torch_generator(seed: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    """A generator on `device`, seeded with 63 bits of `seed`."""
    return torch.Generator(device).manual_seed(_integer(seed))


@contextmanager
def initialisation(seed: np.random.SeedSequence) -> Iterator[None]:
    """Parameters made inside are drawn from `seed`; torch's global generator is left as it was.

    `torch.nn.init` draws from the global generator in modules that we did not write; only for this is it seeded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_integer(seed))
        yield


def _integer(seed: np.random.SeedSequence) -> int:
    return int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1))
