"""What is logged is read back by the tools that people use: TensorBoard and Stable-Baselines3."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stable_baselines3.common.monitor import load_results
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from triathlon.training.config import LoggingConfig
from triathlon.training.errors import RunError
from triathlon.training.logger import Logger


def logger(folder: Path, resume_step: int = 0, **settings: bool) -> Logger:
    return Logger(folder, LoggingConfig(**settings), "CartPole-v1", resume_step)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"images": 0, "tensors": 0, "histograms": 0, "scalars": 0}).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def test_scalars(tmp_path: Path) -> None:
    log = logger(tmp_path)
    log.scalars({"rollout/ep_rew_mean": 20.5, "time/fps": 1000}, 100)
    log.scalars({"rollout/ep_rew_mean": 30.0, "train/loss": float("nan")}, 200)
    assert scalars(tmp_path, "rollout/ep_rew_mean") == [(100, 20.5), (200, 30.0)]  # there before the file is closed
    log.close()
    assert np.isnan(scalars(tmp_path, "train/loss")[0][1])
    rows = list(csv.DictReader((tmp_path / "progress.csv").open()))
    assert rows == [
        {"time/total_timesteps": "100", "rollout/ep_rew_mean": "20.5", "time/fps": "1000", "train/loss": ""},
        {"time/total_timesteps": "200", "rollout/ep_rew_mean": "30.0", "time/fps": "", "train/loss": "nan"},
    ]


def test_histograms_hold_the_finite_elements(tmp_path: Path) -> None:
    log = logger(tmp_path)
    log.histogram("train/q", np.array([[0.0, 1.0], [1.0, 10.0]], np.float32), 5)
    log.histogram("train/q", np.array([np.nan, np.inf, 2.0]), 6)
    log.histogram("train/q", np.array([np.nan]), 7)
    log.histogram("rollout/actions", np.array([1, 1, 1]), 5)
    log.close()
    first, second = events(tmp_path).Histograms("train/q")
    found = first.histogram_value
    assert (first.step, found.min, found.max, found.num, found.sum, found.sum_squares) == (5, 0, 10, 4, 12, 102)
    counts = dict(zip(np.round(found.bucket_limit, 6), found.bucket, strict=True))
    assert counts[0.2] == 1  # (0, 0.2]: the zero
    assert counts[10.0] == 1
    assert sum(found.bucket) == 4
    assert (second.histogram_value.num, second.histogram_value.sum) == (1, 2)
    assert sum(events(tmp_path).Histograms("rollout/actions")[0].histogram_value.bucket) == 3


def test_the_configuration_is_a_text_that_waits_for_the_first_numbers(tmp_path: Path) -> None:
    log = Logger(tmp_path, LoggingConfig(), "CartPole-v1", configuration="**hello** ü")
    assert not list(tmp_path.glob("events*"))  # the run starts without waiting for TensorBoard
    log.scalars({"time/fps": 1000}, 100)
    log.close()
    found = events(tmp_path)
    assert found.Tensors("configuration")[0].tensor_proto.string_val == ["**hello** ü".encode()]
    assert found.summary_metadata["configuration"].plugin_data.plugin_name == "text"


def test_videos_are_moving_pictures(tmp_path: Path) -> None:
    frames = np.zeros((6, 40, 60, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(6)[:, None, None] * 40
    log = logger(tmp_path)
    log.video("eval/video", frames, 20, 9)
    log.close()
    (event,) = events(tmp_path).Images("eval/video")
    assert (event.step, event.width, event.height) == (9, 60, 40)
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert picture.n_frames == 6
    picture.seek(5)
    assert picture.info["duration"] == 50
    assert abs(picture.convert("RGB").getpixel((30, 20))[0] - 200) < 20


def test_hparams(tmp_path: Path) -> None:
    log = logger(tmp_path)
    log.hparams({"agent": {"gamma": 0.9, "dueling": True, "sizes": [1, 2], "none": None}}, {"eval/final": 3.0}, 8)
    log.close()
    found = events(tmp_path)

    def content(tag: str) -> plugin_data_pb2.HParamsPluginData:
        return plugin_data_pb2.HParamsPluginData.FromString(found.summary_metadata[tag].plugin_data.content)

    values = content(metadata.SESSION_START_INFO_TAG).session_start_info.hparams
    assert values["agent.gamma"].number_value == 0.9
    assert values["agent.dueling"].bool_value is True
    assert values["agent.sizes"].string_value == "[1, 2]"
    assert set(values) == {"agent.gamma", "agent.dueling", "agent.sizes"}
    assert content(metadata.EXPERIMENT_TAG).experiment.metric_infos[0].name.tag == "eval/final"
    assert scalars(tmp_path, "eval/final") == [(8, 3.0)]


def test_monitor_is_what_stable_baselines3_reads(tmp_path: Path) -> None:
    log = logger(tmp_path)
    log.episodes([20.0, 31.5], [20, 31], 64)
    log.episodes([7.0], [9], 128)
    log.close()
    found = load_results(str(tmp_path))
    assert found["r"].tolist() == [20.0, 31.5, 7.0]
    assert found["l"].tolist() == [20, 31, 9]
    assert (found["t"] >= 0).all()


def test_going_on_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = logger(tmp_path)
    for step in (100, 200, 300):
        log.scalars({"train/loss": step / 100}, step)
        log.episodes([float(step)], [step], step)
    log.close()
    log = logger(tmp_path, resume_step=200)
    for step in (250, 300):
        log.scalars({"train/loss": -step / 100, "train/new": 1.0}, step)
        log.episodes([-float(step)], [step], step)
    log.close()
    assert scalars(tmp_path, "train/loss") == [(100, 1.0), (200, 2.0), (250, -2.5), (300, -3.0)]
    assert load_results(str(tmp_path))["r"].tolist() == [100.0, 200.0, -250.0, -300.0]
    rows = list(csv.DictReader((tmp_path / "progress.csv").open()))
    assert [row["train/loss"] for row in rows] == ["1.0", "2.0", "-2.5", "-3.0"]
    assert [row["train/new"] for row in rows] == ["", "", "1.0", "1.0"]


@pytest.mark.parametrize("half", ["5.0,6", "5.0,6,0.5,1"])  # the other half may be digits of the last number only
def test_half_a_row_of_a_killed_process_is_dropped(tmp_path: Path, half: str) -> None:
    log = logger(tmp_path, tensorboard=False)
    log.episodes([1.0, 2.0], [3, 4], 10)
    log.close()
    path = tmp_path / "monitor.csv"
    path.write_text(path.read_text() + half)
    log = logger(tmp_path, resume_step=20)
    log.episodes([9.0], [1], 30)
    log.close()
    assert load_results(str(tmp_path))["r"].tolist() == [1.0, 2.0, 9.0]


def test_what_is_not_wanted_is_not_written(tmp_path: Path) -> None:
    log = logger(tmp_path, tensorboard=False, csv=False)
    log.scalars({"a": 1.0}, 1)
    log.histogram("h", np.ones(3), 1)
    log.episodes([1.0], [1], 1)
    log.video("v", np.zeros((1, 2, 2, 3), np.uint8), 10, 1)
    log.close()
    assert list(tmp_path.iterdir()) == []

    log = logger(tmp_path, histograms=False, csv=False)
    log.histogram("h", np.ones(3), 1)
    log.scalars({"a": 1.0}, 1)
    log.close()
    assert events(tmp_path).Tags()["histograms"] == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"the logs in .*file cannot be written: File exists"):
        logger(tmp_path / "file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path: Path) -> None:
    """What was written before stays, also where a table is written anew because it got more columns."""
    written = logger(tmp_path)
    written.scalars({"train/loss": 1.0}, 10)
    before = (tmp_path / "progress.csv").read_bytes()
    (tmp_path / ".progress.partial.csv").symlink_to("/dev/full")
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        written.scalars({"train/loss": 0.5, "eval/mean_reward": 3.0}, 20)
    assert (tmp_path / "progress.csv").read_bytes() == before
    (tmp_path / ".monitor.partial.csv").symlink_to("/dev/full")
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        logger(tmp_path)
