"""What a run takes of the machine."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.training import machine
from triathlon.training.machine import allow_tf32, pick_precision

ATARI, SMALL, VECTOR = (
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(0, 255, (2, 24, 32), np.uint8),
    spaces.Box(-1, 1, (4,)),
)


@pytest.mark.parametrize(
    ("setting", "space", "has_it", "expected"),
    [
        ("auto", ATARI, True, torch.bfloat16),
        ("auto", ATARI, False, torch.float32),
        ("auto", SMALL, True, torch.float32),
        ("auto", VECTOR, True, torch.float32),
        ("auto", spaces.Dict({"see": ATARI, "feel": VECTOR}), True, torch.bfloat16),
        ("float32", ATARI, True, torch.float32),
        ("bfloat16", VECTOR, False, torch.bfloat16),
    ],
)
def test_precision(setting, space, has_it, expected, monkeypatch) -> None:
    monkeypatch.setattr(machine, "has_bfloat16", lambda device: has_it)
    assert pick_precision(setting, torch.device("cpu"), space) is expected


@pytest.fixture
def _float32_as_it_was() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("_float32_as_it_was")
def test_float32_is_exact_where_it_is_asked_for() -> None:
    def settings() -> list[bool]:
        return [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]

    for precision, rounds in (("auto", True), ("float32", False), ("auto", True), ("bfloat16", False)):
        allow_tf32(precision, torch.device("cuda"))
        assert settings() == [rounds, rounds]  # and reading them raises nothing
        allow_tf32("float32" if rounds else "auto", torch.device("cpu"))
        assert settings() == [rounds, rounds]
