"""What is said of GPUs, asked from a command that a driver brings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triathlon.training import gpus

CPU = torch.device("cpu")


def test_a_gpu_that_pytorch_cannot_use_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.installed() == [] and gpus.sentence("auto", CPU) is None
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'NVIDIA H200, 550.54.15'\n")
    command.chmod(0o755)
    assert gpus.installed() == ["NVIDIA H200, 550.54.15"]
    said = gpus.sentence("auto", CPU)
    assert (
        said is not None and "cannot use the GPU here (NVIDIA H200, 550.54.15), so the networks are on the CPU" in said
    )
    assert gpus.sentence("cpu", CPU) is None  # who asked for it knows
    command.write_text("#!/bin/sh\nexit 9\n")
    assert gpus.installed() == []
