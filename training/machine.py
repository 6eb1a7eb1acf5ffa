"""What a run takes of the machine: a device, and CPU threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import torch

from triathlon.agents.agent import Policy
from triathlon.agents.registry import Task
from triathlon.networks.spaces import num_pixels
from triathlon.training.errors import RunError


def pick_device(device: str) -> torch.device:
    """The device that a configuration names; `auto` is a GPU if there is one.

    Raises:
        RunError: the named device is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    there: dict[str, Callable[[], bool]] = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device in there and not there[device]():
        raise RunError(f"device: this machine has no '{device}' that PyTorch can use; set device: cpu or auto")
    return torch.device(device)


def pick_precision(precision: str, device: torch.device, observation_space: gym.Space[Any]) -> torch.dtype:
    """What a configuration names; `auto` is bfloat16 for pictures worth it where the hardware computes in it."""
    if precision == "auto":
        worth_it = num_pixels(observation_space) >= SMALL_PICTURE and has_bfloat16(device)
        precision = "bfloat16" if worth_it else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def allow_tf32(precision: str, device: torch.device) -> None:
    """Let a GPU round the factors of float32 products to ten bits (TF32) where the precision is left to `auto`.

    Products of matrices do so if they are told to, convolutions and LSTMs (cuDNN) unless they are told not to. Both
    are said the way that all versions of PyTorch know: the way since 2.9 must not be mixed with it.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "auto" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "auto"


def has_bfloat16(device: torch.device) -> bool:
    """Does the device compute in bfloat16 itself, instead of imitating it?"""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # PyTorch has no public name for this; without it the answer is no, which is only slower.
    checks = [getattr(torch.cpu, f"_is_{name}_supported", lambda: False) for name in ("avx512_bf16", "amx_tile")]
    return device.type == "cpu" and any(check() for check in checks)


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_with_one_thread() -> None:
    """What is computed until `set_threads`, initial weights above all, is then the same with any number of cores."""
    torch.set_num_threads(1)


def set_threads(configured: int | None, policy: Policy, task: Task) -> None:
    """CPU threads for PyTorch: as configured, else as many as the network is worth."""
    torch.set_num_threads(configured or default_threads(policy, task))


def default_threads(policy: Policy, task: Task) -> int:
    """One for small networks (or where a GPU computes), all cores for large ones and pictures.

    Sharing small operations gains little on an idle machine, and on a busy one the threads spend their time waiting for
    each other.
    """
    small = is_small(policy.weights().numel(), num_pixels(task.observation_space))
    return 1 if small or task.device.type != "cpu" else num_cores()


def is_small(num_parameters: int, num_pixels: int) -> bool:
    """Are single operations of a network that sees so many pixels so short that what surrounds them costs more?"""
    return num_parameters < SMALL_NETWORK and num_pixels < SMALL_PICTURE


SMALL_NETWORK = 1_000_000  # parameters
SMALL_PICTURE = 64 * 64  # pixels
