"""How far the training is, for whoever is watching: a bar on a terminal, a line now and then in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

BAR_PERIOD = 0.2  # seconds
LINE_PERIOD = 30.0


class HasReturn(Protocol):
    """A finished episode."""

    @property
    def episode_return(self) -> float: ...


class Progress:
    """Shows steps, mean return of the last episodes, steps per second and time left; a call is a look at the clock."""

    def __init__(self, total_steps: int, num_steps: int = 0, stream: TextIO | None = None) -> None:
        self._total, self._first, self._num_steps = total_steps, num_steps, num_steps
        self._stream = sys.stderr if stream is None else stream
        self._period = BAR_PERIOD if self._stream.isatty() else LINE_PERIOD
        self._bar: tqdm[Any] | None = None
        self._started = time.perf_counter()
        self._due = self._started + self._period
        self._episodes: Sequence[HasReturn] = ()

    def update(self, num_steps: int, episodes: Sequence[HasReturn]) -> None:
        """The run has done `num_steps` in all; `episodes` are the last ones that ended."""
        self._num_steps, self._episodes = num_steps, episodes
        if time.perf_counter() >= self._due:
            self._show()

    def say(self, sentence: str) -> None:
        """A line of its own above the bar."""
        if self._bar is None:
            print(sentence, file=self._stream, flush=True)
        else:
            self._bar.write(sentence, file=self._stream)

    def close(self) -> None:
        """Show the last state and leave the line."""
        self._show()
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _shown(self) -> str:
        """How well it goes, in a few words."""
        returns = [episode.episode_return for episode in self._episodes]
        return f"return {sum(returns) / len(returns):.1f}" if returns else "no episode has ended"

    def _show(self) -> None:
        now = time.perf_counter()
        self._due = now + self._period
        shown = self._shown()
        if not self._stream.isatty():
            rate = (self._num_steps - self._first) / max(now - self._started, 1e-9)
            left = (self._total - self._num_steps) / rate if rate else float("inf")
            steps = f"{self._num_steps:,} of {self._total:,} steps"
            print(f"{steps}, {shown}, {rate:,.0f} steps/s, {_duration(left)} left", file=self._stream, flush=True)
            return
        if self._bar is None:
            from tqdm import tqdm  # when there is something to show, not while the run starts

            self._bar = tqdm(
                total=self._total,
                initial=self._first,
                file=self._stream,
                dynamic_ncols=True,
                mininterval=0,
                bar_format="{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} steps{postfix}, {rate_fmt}, {remaining} left",
                unit=" steps",
                unit_scale=True,
            )
            self._bar.start_t -= now - self._started  # the clock runs from the start of the training
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.n = min(self._num_steps, self._total)  # the last segment may go over
        self._bar.refresh()


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
