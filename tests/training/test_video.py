"""Films are there whole or not at all, and show what was added."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs, read_frames
from PIL import Image

from triathlon.envs.make import EnvConfig, make_envs
from triathlon.training import video
from triathlon.training.errors import RunError


def frames(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames that grow brighter."""
    grey = np.linspace(0, 250, count).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (count, height, width, 3))


def test_mp4(tmp_path: Path) -> None:
    path = tmp_path / "new" / "film.mp4"
    with video.record(path, 10) as film:
        for frame in frames(20, 33, 47):  # odd sides
            film.add(frame)
    count, seconds = count_frames_and_secs(str(path))
    assert count == 20
    assert seconds == pytest.approx(2.0, abs=0.2)
    reader = read_frames(str(path))
    size = next(reader)["size"]
    last = [np.frombuffer(frame, np.uint8).mean() for frame in reader][-1]
    assert size == (48, 34)
    assert last == pytest.approx(250, abs=8)
    assert os.listdir(path.parent) == ["film.mp4"]


def test_gif(tmp_path: Path) -> None:
    with video.record(tmp_path / "film.gif", 25) as film:
        for frame in frames(7):
            film.add(frame)
    picture = Image.open(tmp_path / "film.gif")
    assert picture.n_frames == 7
    assert picture.size == (48, 32)
    picture.seek(6)
    assert picture.info["duration"] == 40
    assert picture.info["loop"] == 0
    assert picture.convert("RGB").getpixel((5, 5))[1] == pytest.approx(250, abs=8)


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_a_film_that_breaks_off_is_not_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"an older film")

    def broken() -> None:
        with video.record(path, 10) as film:
            film.add(frames(1)[0])
            raise KeyError("the environment broke")

    with pytest.raises(KeyError):
        broken()
    assert path.read_bytes() == b"an older film"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_a_film_without_frames_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match=f"{name} has no frames"), video.record(tmp_path / name, 10):
        pass
    assert os.listdir(tmp_path) == []


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"should be named \.mp4 or \.gif"), video.record(tmp_path / "film.avi", 10):
        pass


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), video.record(tmp_path / "file" / name, 10) as film:
        film.add(frames(1)[0])


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_the_system_says_what_is_wrong_with_a_place(tmp_path: Path, ending: str) -> None:
    path = tmp_path / ("f" * 300 + ending)
    with (
        pytest.raises(RunError, match=r"f{300}.* cannot be written: File name too long$"),
        video.record(path, 10) as film,
    ):
        film.add(frames(1)[0])


def test_thumbnails_are_bounded_and_keep_the_time() -> None:
    film = video.Thumbnails(30, max_side=20, max_frames=10)
    for frame in frames(95, 50, 40):
        film.add(frame)
    small = film.frames
    assert small.shape[1:] == (17, 14, 3)
    assert len(small) <= 10
    assert len(small) / film.fps == pytest.approx(95 / 30, rel=0.1)
    brightness = small[:, 0, 0, 0].astype(int)
    assert (np.diff(brightness) > 0).all()
    assert np.ptp(np.diff(brightness)) <= 2  # evenly spread over the whole
    assert video.Thumbnails(30).frames.shape[0] == 0


def test_frames_per_second() -> None:
    assert video.frames_per_second({"render_fps": 50}) == 50.0
    assert video.frames_per_second({}) == 30.0
    assert video.frames_per_second({"render_fps": None}) == 30.0


def test_a_film_is_as_fast_as_a_window() -> None:
    for env in ("triathlon/Catch-v0", "CartPole-v1"):
        envs, alone = make_envs(EnvConfig(env), 1, render=True), gymnasium.make(env, render_mode="rgb_array")
        assert video.frames_per_second(envs.metadata) == video.frames_per_second(alone.metadata) != 30.0
        envs.close()
        alone.close()
