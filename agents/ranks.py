"""The processes that train one agent together, each on its own part of the experience (data parallelism).

Every process holds the whole network. Gradients are summed over all of them before each step, with loss weights that
refer to all of their samples, so that the weights stay what one process with all samples side by side would get.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor

from triathlon.networks.errors import SettingError

PATIENCE = timedelta(hours=2)  # the others wait while the first process evaluates and writes files


class Ranks:
    """Process `rank` of `size`; alone (`size` 1), everything here returns what it was given.

    All processes must make the same calls in the same order: what decides how many there are is agreed on first, by
    `gather`.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and speaks to the person."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """`x` summed over all processes, in place; all give the same shape and get the same bits."""
        if self.size > 1:
            torch.distributed.all_reduce(x)
        return x

    def gather(self, *numbers: float) -> list[list[float]]:
        """Each number of every process, `[len(numbers)][size]`; this goes from processor to processor."""
        if self.size == 1:
            return [[number] for number in numbers]
        mine = torch.tensor([numbers], dtype=torch.float64)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        torch.distributed.all_gather(parts, mine)
        return torch.cat(parts).T.tolist()

    def total(self, number: int) -> int:
        """A number summed over all processes."""
        return int(sum(self.gather(number)[0]))

    def any(self, flag: bool) -> bool:
        """Whether it is true in one of the processes."""
        return any(self.gather(flag)[0])

    def share(self, number: int, setting: str) -> int:
        """This process' part of a number that all of them share evenly.

        Raises:
            SettingError: they cannot.
        """
        if number % self.size:
            raise SettingError(f"{setting} is {number}, which {self.size} processes cannot share evenly")
        return number // self.size

    def seed(self, seed: np.random.SeedSequence) -> np.random.SeedSequence:
        """A seed of this process' own; that of the first process is `seed` itself."""
        if self.rank == 0:
            return seed
        return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, 2**31 + self.rank))


ALONE = Ranks()


def join(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Meet the other processes that `torchrun` started; alone where it did not (its variables are not set).

    With GPUs, each process takes the one of its number on its machine. Sums of tensors on GPUs go by NCCL, everything
    else by Gloo.

    Raises:
        SettingError: there are GPUs, but not one for each process.
    """
    size = int(environment.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    rank = int(environment["RANK"])
    if not torch.distributed.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(own_gpu(int(environment["LOCAL_RANK"]), torch.cuda.device_count()))
            backend = "cpu:gloo,cuda:nccl"
        torch.distributed.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
        atexit.register(torch.distributed.destroy_process_group)
    return Ranks(rank, size)


def own_gpu(local_rank: int, num_gpus: int) -> int:
    """The GPU of process `local_rank` of this machine; errors: `SettingError`."""
    if local_rank >= num_gpus:
        raise SettingError(
            f"torchrun started more processes (--nproc-per-node) than the {num_gpus} GPUs of this machine; start as "
            "many, or learn on the CPU with CUDA_VISIBLE_DEVICES set to nothing"
        )
    return local_rank


__all__ = ["ALONE", "Ranks", "join", "own_gpu"]
