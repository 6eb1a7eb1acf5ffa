"""One command at a time works on a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from triathlon.training.errors import RunError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second command out of `folder`; the lock goes with the process, however that ends.

    It is a record lock, which processes that this one forks do not inherit: environments that outlive a killed trainer
    for a moment do not keep its run from going on. Within one process it keeps nothing out.

    Raises:
        RunError: another process works on it, or nothing can be written there.
    """
    with ExitStack() as opened:
        try:
            file = opened.enter_context(open(folder / ".lock", "w", encoding="utf-8"))
        except OSError as error:
            raise RunError(f"nothing can be written to {folder}: {error.strerror or error}") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RunError(f"{folder} is being worked on by another command") from None
        yield
