"""The workers of a run: started together, asked one thing at a time, and replaced when they are lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from triathlon.training.errors import RunError
from triathlon.training.workers.config import WorkersConfig
from triathlon.training.workers.transport import Remote, Transport, WorkerLost

LONGEST_BACKOFF = 30.0  # seconds
LONGEST_DOUBLING = 10  # failures; a worker may be waited for over days, and floats end at the 1024th power
WINDOW = 3600.0  # seconds over which losses are counted against `max_restarts`
GLANCE = 1.0  # seconds between two looks at the clocks while nothing is heard


class WorkersLost(RunError):
    """So many workers were lost that the run gives up."""


@dataclass
class Seat:
    """The place of one worker, whoever sits there."""

    index: int
    remote: Remote | None = None
    doing: str = ""  # what it was asked and has not answered
    since: float = 0.0  # when it was asked
    answer: Any = None  # what it gave last
    num_lives: int = 0  # workers that have sat here
    failures: int = 0  # in a row, without an answer between them
    is_awaited: bool = False  # was it said that it does not start?
    restart_at: float = 0.0  # where nobody sits

    @property
    def is_alive(self) -> bool:
        """Does a worker sit here that has said it is ready?"""
        return self.remote is not None and self.doing != "start"

    @property
    def is_idle(self) -> bool:
        """Is it alive, with nothing to do?"""
        return self.is_alive and not self.doing


class Crew:
    """`config.num` workers behind a transport.

    A worker that dies, hangs or whose environment raises is ended and a new one made in its seat, after a wait that
    doubles each time this does not help. The clock of hanging runs only for what was asked of a worker that was ready.
    A new worker that does not start, as where a cluster has no room for it, is no loss: it is made again until it does.
    `say` gets sentences for whoever watches the run; an environment's traceback is among them once.

    Raises:
        RunError: a worker cannot start at all, when the run begins.
        WorkersLost: more than `config.max_restarts` were lost within an hour.
    """

    def __init__(
        self,
        config: WorkersConfig,
        transport: Transport,
        settings: dict[str, Any],
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self.config, self.seed, self._settings, self._say = config, seed, settings, say
        self._transport = transport
        self.seats = [Seat(index) for index in range(config.num)]
        self.counts: Counter[str] = Counter()
        self._losses: deque[float] = deque()
        self._shown: set[str] = set()
        self._has_begun = False
        self.given_up: WorkersLost | None = None  # why; what its workers are doing then means nothing any more
        try:
            for seat in self.seats:
                self._start(seat)
            while not all(seat.is_idle for seat in self.seats):
                self.attend()
        except BaseException:
            self.close()
            raise
        self._has_begun = True

    @property
    def num_alive(self) -> int:
        """Workers that are ready or busy."""
        return sum(seat.is_alive for seat in self.seats)

    def ask(self, seat: Seat, request: str, *arguments: Any) -> None:
        """Ask the idle worker of a seat; its answer will be in `seat.answer`."""
        assert seat.remote is not None
        assert not seat.doing
        seat.doing, seat.since, seat.answer = request, time.monotonic(), None
        seat.remote.ask(request, *arguments)

    def ask_all(self, request: str, arguments: Callable[[Seat], tuple[Any, ...]] = lambda seat: ()) -> dict[int, Any]:
        """Ask all who have nothing to do and wait for them: answers by the index of the seat, of those who gave one."""
        asked = {seat.index: seat.num_lives for seat in self.seats if seat.is_idle}
        for index in asked:
            self.ask(self.seats[index], request, *arguments(self.seats[index]))
        while any(seat.doing == request for seat in self.seats):
            self.attend()
        answers = {i: self.seats[i].answer for i, life in asked.items() if self.seats[i].num_lives == life}
        answers = {i: answer for i, answer in answers.items() if self.seats[i].is_idle}
        for seat in self.seats:
            seat.answer = None if seat.index in asked else seat.answer
        return answers

    def share(self, weights: Any) -> Any:
        """What to send to several workers instead of `weights`."""
        return self._transport.share(weights)

    def attend(self) -> None:
        """Wait a while for the next answer, take those that are there, and see to the workers that are lost."""
        now = time.monotonic()
        for seat in self.seats:
            if seat.remote is None and seat.restart_at <= now:
                self.counts["restarts"] += 1
                self._start(seat)
        busy = [(seat, seat.remote) for seat in self.seats if seat.remote is not None and seat.doing]
        if busy:
            self._transport.wait([remote for _, remote in busy], GLANCE)
        else:
            time.sleep(min(GLANCE, max(0.0, min(seat.restart_at for seat in self.seats) - now)))
        for seat, remote in busy:
            try:
                reply = remote.reply()
            except WorkerLost as lost:
                self._lose(seat, "deaths", f"was lost: {lost}")
                continue
            if reply is None:
                self._check_clock(seat)
            elif "error" in reply:
                self._show_once(reply["traceback"])
                self._lose(seat, "env_errors" if reply["is_env"] else "errors", f"cannot go on: {reply['error']}")
            else:
                self._take(seat, reply["value"])

    def close(self) -> None:
        """End all workers."""
        for seat in self.seats:
            if seat.remote is not None:
                seat.remote.kill()
                seat.remote, seat.doing = None, ""

    def seed_of(self, seat: Seat) -> int:
        """The seed of the worker that sits there: another one for each that does."""
        return int(np.random.SeedSequence([self.seed, seat.num_lives]).generate_state(1, np.uint32)[0])

    def _start(self, seat: Seat) -> None:
        seat.num_lives += 1
        seat.remote = self._transport.make()
        seat.doing, seat.since, seat.answer = "start", time.monotonic(), None
        seat.remote.ask("start", self._settings, seat.index, self.seed_of(seat))

    def _take(self, seat: Seat, value: Any) -> None:
        if seat.doing != "start":
            seat.failures, seat.answer = 0, value
        elif self._has_begun:
            seat.is_awaited = False
            self._say(f"Worker {seat.index} plays again.")
        seat.doing = ""

    def _check_clock(self, seat: Seat) -> None:
        waited, config = time.monotonic() - seat.since, self.config
        if seat.doing == "start" and waited > config.start_seconds:
            self._start_again(seat)
        elif seat.doing != "start" and waited > config.hang_seconds:
            self._lose(seat, "hangs", f"gave no answer for {config.hang_seconds:g} s (workers.hang_seconds)")

    def _start_again(self, seat: Seat) -> None:
        """One that does not start is no loss, however often: the others play, and room for it may be found later."""
        limit = f"{self.config.start_seconds:g} s (workers.start_seconds)"
        what = f"did not start within {limit}; a Ray cluster may have no processor left for it"
        self._end(seat, what)
        self._back_off(seat)
        if not seat.is_awaited:
            seat.is_awaited = True
            self._say(f"Worker {seat.index} {what}; until it starts, training goes on with the rest.")

    def _end(self, seat: Seat, why: str) -> None:
        assert seat.remote is not None
        seat.remote.kill()
        seat.remote, seat.doing = None, ""
        if not self._has_begun:
            raise RunError(f"worker {seat.index} {why}")

    def _back_off(self, seat: Seat) -> float:
        """Have a new worker made after so many seconds, which are returned."""
        seconds = min(LONGEST_BACKOFF, self.config.backoff_seconds * 2.0 ** min(seat.failures, LONGEST_DOUBLING))
        seat.failures += 1
        seat.restart_at = time.monotonic() + seconds
        return seconds

    def _lose(self, seat: Seat, kind: str, what: str) -> None:
        self._end(seat, what)
        self.counts[kind] += 1
        now = time.monotonic()
        self._losses.append(now)
        while now - self._losses[0] > WINDOW:
            self._losses.popleft()
        if len(self._losses) > self.config.max_restarts:
            self.given_up = WorkersLost(
                f"{len(self._losses)} workers were lost within an hour, and workers.max_restarts is "
                f"{self.config.max_restarts}; the last one, worker {seat.index}, {what}"
            )
            raise self.given_up
        self._say(f"Worker {seat.index} {what}; a new one is made in {self._back_off(seat):g} s.")

    def _show_once(self, traceback: str) -> None:
        last_line = traceback.strip().rpartition("\n")[2]
        if last_line not in self._shown:
            self._shown.add(last_line)
            self._say(traceback.rstrip())


__all__ = ["Crew", "Seat", "WorkersLost"]
