"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from triathlon.training.errors import RunError


@contextlib.contextmanager
def write_beside(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there takes the place of `path` when the block ends well.

    Whatever goes wrong (an exception, Ctrl-C, a killed process, a power cut) `path` holds its old content or the new.

    Raises:
        RunError: the file cannot be written; names the file and the cause (a full disk, an unwritable folder, …).
    """
    path = Path(path)
    # One fixed name: what a killed process left behind is overwritten by the next attempt.
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)  # the new name is on the disk too
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all; raises RunError where it cannot be written."""
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
