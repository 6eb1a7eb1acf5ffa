"""Engines: programs that are spoken to in lines over pipes, timed out, restarted and ended without leaving anything."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from triathlon.envs.board.player import PlayerError, Resigned
from triathlon.envs.errors import EnvError

if TYPE_CHECKING:
    import pyspiel

DEBIAN_GAMES = "/usr/games"  # where Debian puts game programs; often not on the PATH of root or of a service
LONGEST_LINE = 65_536  # an engine that writes without end must not fill the memory
WAITING_LINES = 4_096  # the reader pauses there until someone asks
FAREWELL_S = 1.0  # between a polite end and a kill


class EngineFailure(Exception):
    """What an engine did wrong, as the rest of a sentence that begins with its name."""


class EngineResigned(EngineFailure):
    """An engine gave up a game; it can be asked about others."""


class EngineProcess:
    """One running engine: lines in, lines out.

    Raises:
        EngineFailure: the program cannot be run.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is ours to handle, and what the engine starts ends with it
            )
        except OSError as error:
            self._errors.close()
            raise EngineFailure(f"cannot be run: {error.strerror}") from error
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING_LINES)
        self._reader = threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()
        self._end = weakref.finalize(self, _end, self._process, FAREWELL_S)  # at the latest when Python ends

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: str) -> None:
        """Write one line.

        Raises:
            EngineFailure: the engine has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineFailure(self._obituary()) from error

    def read(self, deadline: float, asked: str) -> str:
        """The next line, without its end; `deadline` is a time of `time.monotonic()`, `asked` what waits for it.

        Raises:
            EngineFailure: the engine ended, or the deadline passed.
        """
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise EngineFailure(f"gave no answer to {asked!r} in time") from None
        if line is None:
            self._lines.put(None)
            raise EngineFailure(self._obituary())
        return line

    def close(self, patience: float = FAREWELL_S) -> None:
        """Say `quit`, wait `patience` seconds, kill."""
        if self._end.detach() is None:
            return
        with contextlib.suppress(EngineFailure):
            self.send("quit")
        _end(self._process, patience)
        while self._reader.is_alive():  # it may be waiting for room
            with contextlib.suppress(queue.Empty):
                self._lines.get(timeout=0.01)
        self._errors.close()

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL_S)
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2_000))
        last_words = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        status = self._process.returncode
        how = "stopped talking" if status is None else f"ended with exit status {status}"
        return f"{how} ({last_words})" if last_words else how


def _read(stream: IO[bytes], lines: queue.Queue[str | None]) -> None:
    while line := stream.readline(LONGEST_LINE):
        lines.put(line.decode(errors="replace").rstrip("\r\n"))
    lines.put(None)
    stream.close()


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # its whole session: what it started may outlive it
    process.kill()  # where the system does not let us end a session
    process.wait()


class EnginePlayer:
    """A player whose moves come from an engine: one process for all games, after a failure a new one.

    Raises:
        EnvError: the engine is not installed or does not start.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = [find_program(command[0], name), *command[1:]]
        self._engine: EngineProcess | None = None
        try:
            self._engine = self._start()
        except EngineFailure as failure:
            raise EnvError(f"{name} {failure}") from failure

    def choose(self, states: Sequence[pyspiel.State]) -> list[int]:
        chosen: list[int] = []
        for index, state in enumerate(states):
            try:
                if self._engine is None:
                    self._engine = self._start()
                chosen.append(self._ask(self._engine, state))
            except EngineFailure as failure:
                sentence = f"{self.name} {failure}, at ply {state.move_number()}"
                if isinstance(failure, EngineResigned):
                    raise Resigned(sentence, index, chosen) from failure
                self.close(patience=0)
                raise PlayerError(sentence, index, chosen) from failure
        return chosen

    def close(self, patience: float = FAREWELL_S) -> None:
        if self._engine is not None:
            self._engine.close(patience)
            self._engine = None

    def _start(self) -> EngineProcess:
        engine = EngineProcess(self._command)
        try:
            self._greet(engine)
        except BaseException:
            engine.close(patience=0)
            raise
        return engine

    def _greet(self, engine: EngineProcess) -> None:
        """Make a new engine ready to play."""
        raise NotImplementedError

    def _ask(self, engine: EngineProcess, state: pyspiel.State) -> int:
        """The engine's move."""
        raise NotImplementedError


def find_program(program: str, name: str) -> str:
    """The path of a program on the PATH or among Debian's games.

    Raises:
        EnvError: it is not there.
    """
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), DEBIAN_GAMES]))
    if found is None:
        raise EnvError(
            f"{name} needs the program {program}, which is neither on the PATH nor in {DEBIAN_GAMES}"
            " (make system-deps installs stockfish, fairy-stockfish and gnugo on Debian)"
        )
    return found


__all__ = ["EngineFailure", "EnginePlayer", "EngineProcess", "EngineResigned", "find_program"]
