"""Progress is a bar on a terminal and a line in a file."""

from __future__ import annotations

import io
from dataclasses import dataclass

from triathlon.training import progress
from triathlon.training.progress import Progress


@dataclass
class Ended:
    """An episode that ended."""

    episode_return: float


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_at_the_end() -> None:
    stream = io.StringIO()
    with Progress(2_000, stream=stream) as shown:
        for step in range(0, 1_001, 10):
            shown.update(step, [Ended(1.0), Ended(4.0)])
    assert stream.getvalue().startswith("1,000 of 2,000 steps, return 2.5, ")
    assert stream.getvalue().count("\n") == 1


def test_a_file_gets_a_line_whenever_one_is_due(monkeypatch) -> None:
    monkeypatch.setattr(progress, "LINE_PERIOD", 0.0)
    stream = io.StringIO()
    with Progress(100, num_steps=40, stream=stream) as shown:
        shown.update(40, [])
        shown.update(60, [])
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("40 of 100 steps, no episode has ended, 0 steps/s, ? left")
    assert lines[1].startswith("60 of 100 steps, no episode has ended, ")
    assert len(lines) == 3


def test_a_terminal_gets_a_bar(monkeypatch) -> None:
    monkeypatch.setattr(progress, "BAR_PERIOD", 0.0)
    stream = Terminal()
    with Progress(10_000, stream=stream) as shown:
        shown.update(2_500, [Ended(7.25)])
        shown.update(12_000, [Ended(8.0)])  # the last segment goes over
    text = stream.getvalue()
    assert " 25% " in text
    assert "2.50k/10.0k steps, return 7.2" in text
    assert "100% " in text
    assert "return 8.0" in text


def test_a_sentence_is_a_line_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(progress, "BAR_PERIOD", 0.0)
    for stream in (io.StringIO(), Terminal()):
        with Progress(100, stream=stream) as shown:
            shown.say("First.")
            shown.update(50, [])
            shown.say("Then.")
        lines = stream.getvalue().replace("\r", "\n").split("\n")
        assert [line for line in lines if line in ("First.", "Then.")] == ["First.", "Then."]
