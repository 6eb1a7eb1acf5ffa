"""What a run writes down while it trains: TensorBoard events, `monitor.csv` and `progress.csv`, all in its folder.

Tags and `monitor.csv` are those of Stable-Baselines3, so its users' tools read them. T frames, H height, W width.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from triathlon.training.atomic_write import write_beside
from triathlon.training.config import LoggingConfig
from triathlon.training.errors import RunError

if TYPE_CHECKING:
    from triathlon.training.event_file import EventFile

STEP = "time/total_timesteps"
MONITOR = ["r", "l", "t", "step"]  # SB3's columns, and the step: it says which rows to forget when a run goes on


class Logger:
    """Writes what it is given at once. With `resume_step > 0` it goes on in a folder and forgets what came later.

    `configuration` (Markdown) is what TensorBoard shows as the text of that name. Without an `env_id` there are no
    episodes and no `monitor.csv`.

    Raises:
        RunError: (every method) a file cannot be written; names the folder and the cause.
    """

    def __init__(
        self,
        folder: str | Path,
        config: LoggingConfig,
        env_id: str | None,
        resume_step: int = 0,
        configuration: str = "",
    ) -> None:
        self._folder, self._config, self._resume_step = Path(folder), config, resume_step
        self._configuration = configuration
        self._events: EventFile | None = None
        self._monitor: _Table | None = None
        self._progress: _Table | None = None
        self._started = time.time()
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            if config.csv:
                self._progress = _Table(self._folder / "progress.csv", [STEP], STEP, resume_step)
            if config.csv and env_id is not None:
                header = "#" + json.dumps({"t_start": self._started, "env_id": env_id})
                self._monitor = _Table(self._folder / "monitor.csv", MONITOR, "step", resume_step, header)
                self._started = self._monitor.started(self._started)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by tag, as they stand after `step` environment steps."""
        with self._writing():
            if self._config.tensorboard:
                self._event_file().scalars(values, step)
            if self._progress is not None:
                self._progress.add([{STEP: step, **values}])

    def episodes(self, returns: Sequence[float], lengths: Sequence[int], step: int) -> None:
        """Episodes that ended at `step`: true returns and lengths in agent steps, one row each in `monitor.csv`."""
        if self._monitor is None:
            return
        now = round(time.time() - self._started, 6)
        ended = zip(returns, lengths, strict=True)
        rows = [{"r": round(float(r), 6), "l": int(n), "t": now, "step": step} for r, n in ended]
        with self._writing():
            self._monitor.add(rows)

    def histogram(self, tag: str, values: NDArray[Any], step: int) -> None:
        """The distribution of an array of any shape."""
        if self._config.tensorboard and self._config.histograms:
            with self._writing():
                self._event_file().histogram(tag, values, step)

    def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float], step: int = 0) -> None:
        """A nested mapping of settings and how the run ended, for TensorBoard's table of runs."""
        if self._config.tensorboard:
            with self._writing():
                self._event_file().hparams(dict(_flat(settings)), metrics, step)

    def video(self, tag: str, frames: NDArray[np.uint8], fps: float, step: int) -> None:
        """Frames `[T, H, W, 3]` as an animated GIF, made small enough for a web page."""
        if self._config.tensorboard and len(frames):
            from triathlon.training.video import Thumbnails, gif

            film = Thumbnails(fps)
            for frame in frames:
                film.add(frame)
            small = film.frames
            with self._writing():
                self._event_file().image(tag, gif(small, film.fps), small.shape[1], small.shape[2], step)

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """One picture `[H, W, 3]`."""
        if self._config.tensorboard:
            from PIL import Image

            encoded = io.BytesIO()
            Image.fromarray(picture).save(encoded, "PNG")
            with self._writing():
                self._event_file().image(tag, encoded.getvalue(), picture.shape[0], picture.shape[1], step)

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Text, shown as Markdown."""
        if self._config.tensorboard:
            with self._writing():
                self._event_file().text(tag, markdown, step)

    def close(self) -> None:
        """Close the files; nothing can be written afterwards."""
        with self._writing():
            for file in (self._events, self._monitor, self._progress):
                if file is not None:
                    file.close()

    def _event_file(self) -> EventFile:
        """The event file, opened when it is first needed: the run starts without waiting for its import."""
        if self._events is None:
            from triathlon.training.event_file import EventFile

            self._events = EventFile(self._folder, self._resume_step)
            if self._configuration:
                self._events.text("configuration", self._configuration, self._resume_step)
        return self._events

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"the logs in {self._folder} cannot be written: {error.strerror or error}") from error


class _Table:
    """A CSV file that grows by rows, and by columns when a row has new ones."""

    def __init__(self, path: Path, columns: list[str], step: str, resume_step: int, comment: str = "") -> None:
        self._path, self._columns, self._comment = path, columns, comment
        rows: list[dict[str, Any]] = []
        if resume_step > 0 and path.is_file():
            # A process that was killed may have left half a row, which may look whole: a number lacks digits.
            lines = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
            if lines and lines[0].startswith("#"):
                self._comment, lines = lines[0], lines[1:]
            reader = csv.DictReader(lines)
            rows = [r for r in reader if None not in r.values() and float(r[step] or "inf") <= resume_step]
            self._columns = list(reader.fieldnames or columns)
        self._file = self._written(rows)

    def started(self, default: float) -> float:
        """When the run began, as the comment in the first line has it (seconds since the epoch)."""
        try:
            return float(json.loads(self._comment[1:])["t_start"])
        except (ValueError, KeyError, TypeError):
            return default

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        new = [column for row in rows for column in row if column not in self._columns]
        if new:
            self._file.close()
            with open(self._path, encoding="utf-8", newline="") as file:
                before = list(csv.DictReader(line for line in file if not line.startswith("#")))
            self._columns += list(dict.fromkeys(new))
            self._file = self._written(before)
        writer = csv.DictWriter(self._file, self._columns, restval="", lineterminator="\n")
        writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _written(self, rows: Sequence[Mapping[str, Any]]) -> io.TextIOWrapper:
        """The file, newly written with these rows and open for more; what was there stays if that fails."""
        with write_beside(self._path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            if self._comment:
                file.write(self._comment + "\n")
            writer = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return open(self._path, "a", encoding="utf-8", newline="")


def _flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", value
