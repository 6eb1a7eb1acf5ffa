"""One command at a time works on a folder."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from triathlon.training.errors import RunError

try:
    import fcntl
except ImportError as error:  # Windows
    raise RunError("Triathlon runs on Linux and macOS; on Windows use WSL, the Windows Subsystem for Linux") from error

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of some shared file systems


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
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise RunError(f"{folder} is being worked on by another command") from None
            if error.errno not in NO_LOCKS:
                raise RunError(f"{folder} cannot be locked: {error.strerror or error}") from error
            sys.stderr.write(f"{folder} cannot be locked here: see to it that no other command works on it\n")
        yield
