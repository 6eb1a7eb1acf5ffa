"""What a run takes of the machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.training import machine
from triathlon.training.machine import pick_precision

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
