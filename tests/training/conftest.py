"""What a run leaves, read back, and a run that dies."""

from __future__ import annotations

import subprocess
import sys
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
def worked_on_elsewhere() -> Callable[[Path], AbstractContextManager[subprocess.Popen[str]]]:
    """`with worked_on_elsewhere(folder) as other`: inside, another process holds the folder until it ends."""

    @contextmanager
    def elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
        holding = "import sys; from pathlib import Path; from triathlon.training.folder_lock import locked\n"
        holding += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", holding, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            yield other
            other.kill()

    return elsewhere


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
