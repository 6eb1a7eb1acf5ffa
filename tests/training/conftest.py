"""What a run leaves, read back, and a run that dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from triathlon.training import checkpoint


@pytest.fixture
def learned() -> Callable[..., Tensor]:
    """`learned(folder, "last")`: all numbers that the learner of a checkpoint is made of, in one row."""

    def read(folder: Path, name: str = "last") -> Tensor:
        return _flat(checkpoint.load(folder / "checkpoints" / f"{name}.safetensors")["learner"])

    return read


@pytest.fixture
def dying_at_the_third_save(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Inside, a run dies when it would save for the third time, as if killed: what came after the second is lost."""

    class Killed(BaseException):
        pass

    @contextmanager
    def dying() -> Iterator[None]:
        save, num_saves = checkpoint.save, 0

        def save_twice(path: Path, state: dict[str, Any]) -> None:
            nonlocal num_saves
            num_saves += 1
            if num_saves > 2:
                raise Killed
            save(path, state)

        with monkeypatch.context() as patched:
            patched.setattr(checkpoint, "save", save_twice)
            with pytest.raises(Killed):
                yield

    return dying


def _flat(state: Any) -> Tensor:
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, (list, tuple)):
        return torch.cat([_flat(item) for item in state] or [torch.zeros(0, dtype=torch.float64)])
    if isinstance(state, (int, float)):
        state = float(state)  # the state of a generator is an integer of 128 bits
    is_number = isinstance(state, (float, Tensor, np.ndarray))
    return torch.as_tensor(state).double().ravel() if is_number else torch.zeros(0, dtype=torch.float64)
