"""Films of episodes: mp4 by imageio-ffmpeg, gif by Pillow. T frames, H height, W width.

A film is written as it is played: a thousand frames of a large picture would fill gigabytes of memory.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from triathlon.training.atomic_write import write_beside
from triathlon.training.errors import RunError

DEFAULT_FPS = 30.0
Frame = NDArray[np.uint8]  # [H, W, 3]


class Film(Protocol):
    """Takes frames one after another."""

    def add(self, frame: Frame) -> None:
        """The next frame `[H, W, 3]` uint8; all of a film have one size."""


def frames_per_second(metadata: Mapping[str, Any]) -> float:
    """How fast an environment wants to be shown: its `render_fps`, or 30."""
    return float(metadata.get("render_fps") or DEFAULT_FPS)


@contextlib.contextmanager
def record(path: str | Path, fps: float) -> Iterator[Film]:
    """A film that is at `path` (`.mp4` or `.gif`) when the block ends well; the file is there whole or not at all.

    Raises:
        RunError: the name ends otherwise, no frame was added, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise RunError(f"the video {path} should be named .mp4 or .gif")
    with write_beside(path) as temporary:
        if path.suffix == ".gif":
            thumbnails = Thumbnails(fps, max_side=640, max_frames=1000)
            yield thumbnails
            temporary.write_bytes(gif(_frames_of(thumbnails, path), thumbnails.fps))
        else:
            mp4 = _Mp4(temporary, fps)
            try:
                yield mp4
            finally:
                mp4.close()
            if not temporary.exists():
                raise RunError(f"the video {path} has no frames")


class Thumbnails:
    """A film kept in memory, small enough for a web page: fewer pixels, and fewer frames a second where it is long."""

    def __init__(self, fps: float, max_side: int = 320, max_frames: int = 250) -> None:
        self._full_fps, self._max_side, self._max_frames = fps, max_side, max_frames
        self._period, self._seen = 1, 0
        self._frames: list[Frame] = []

    def add(self, frame: Frame) -> None:
        """The next frame `[H, W, 3]` uint8."""
        if self._seen % self._period == 0:
            stride = -(-max(frame.shape[:2]) // self._max_side)
            self._frames.append(np.ascontiguousarray(frame[::stride, ::stride]))
            if len(self._frames) > self._max_frames:
                self._frames = self._frames[::2]
                self._period *= 2
        self._seen += 1

    @property
    def frames(self) -> NDArray[np.uint8]:
        """`[T, H, W, 3]`, as much time as was added."""
        return np.stack(self._frames) if self._frames else np.zeros((0, 0, 0, 3), np.uint8)

    @property
    def fps(self) -> float:
        """Frames a second of `frames`."""
        return self._full_fps / self._period


def gif(frames: NDArray[np.uint8], fps: float) -> bytes:
    """Frames `[T, H, W, 3]` as an animated GIF that repeats."""
    from PIL import Image

    # One palette for all, from frames across the whole film: a palette a frame takes five times as long and flickers.
    sample = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(np.concatenate(list(sample))).quantize(255)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    duration = max(20, round(1000 / fps))  # milliseconds; browsers slow down anything that is faster
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return buffer.getvalue()


class _Mp4:
    """H.264, written frame by frame."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: Generator[None, Frame, None] | None = None

    def add(self, frame: Frame) -> None:
        # H.264 in yuv420p wants even sides: the last row and column are repeated where they are odd.
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._writer is None:
            self._path.touch()  # what is wrong with a folder is said better by the system than by ffmpeg
            with self._explained():
                self._writer = self._open(frame.shape[1], frame.shape[0])
        with self._explained():
            self._writer.send(np.ascontiguousarray(frame))

    def close(self) -> None:
        if self._writer is not None:
            with self._explained():
                self._writer.close()

    def _open(self, width: int, height: int) -> Generator[None, Frame, None]:
        from imageio_ffmpeg import write_frames

        writer: Generator[None, Frame, None] = write_frames(
            str(self._path),
            (width, height),
            fps=self._fps,
            codec="libx264",
            quality=None,
            macro_block_size=2,
            output_params=["-crf", "23", "-preset", "veryfast"],
        )
        writer.send(None)  # type: ignore[arg-type]  # a generator's first send starts it
        return writer

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """ffmpeg speaks on many lines, the last of which says what happened."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise RunError(f"ffmpeg cannot write {self._path.parent}: {lines[-1] if lines else error!r}") from error


def _frames_of(thumbnails: Thumbnails, path: Path) -> NDArray[np.uint8]:
    frames = thumbnails.frames
    if not len(frames):
        raise RunError(f"the video {path} has no frames")
    return frames
