"""Which GPUs there are, and whether one is used: a driver that is too old for PyTorch would go unnoticed for days."""

from __future__ import annotations

import subprocess

import torch


def installed() -> list[str]:
    """Name and driver of each of NVIDIA's GPUs, asked from the driver: PyTorch names none that it cannot use."""
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def sentence(asked: str, device: torch.device) -> str | None:
    """What a person should know of the `device` that was taken where one was `asked` for; None if nothing."""
    if device.type == "cuda":
        return f"The networks are on the GPU ({torch.cuda.get_device_name(device)})."
    if asked == "auto" and (there := installed()):
        return (
            f"PyTorch {torch.__version__} cannot use the GPU here ({there[0]}), so the networks are on the CPU: it "
            "is built without CUDA, or for a newer driver."
        )
    return None


__all__ = ["installed", "sentence"]
