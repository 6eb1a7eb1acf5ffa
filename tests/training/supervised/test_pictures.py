"""Pictures from files, what is drawn of results, and autoencoders."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.drawing import confusion_picture, regions, sheet
from triathlon.training.supervised.fit import fit
from triathlon.training.supervised.pictures.sources import read_picture, read_pictures
from triathlon.training.supervised.sources import PartsConfig

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}


def photographs(folder: Path, num: int = 24) -> Path:
    """Reddish and bluish pictures of all sizes."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("red", "blue")):
        (folder / name).mkdir(parents=True)
        for i in range(num):
            pixels = rng.integers(0, 120, (*rng.integers(9, 30, 2), 3), np.uint8)
            pixels[..., 2 * k] += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def idx_folder(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, num in (("train", 40), ("t10k", 10)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (num, 9, 7), np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(num) % 5).astype(np.uint8))
    return folder


def test_a_folder_of_pictures_is_learned(tmp_path: Path) -> None:
    task = {"kind": "image_classification", "source": str(photographs(tmp_path / "mine")), "size": 12}
    settings = {"num_epochs": 10, "batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 5}
    mapping = {**QUIET, "task": task, "backbone": {"kind": "cnn", "features": 16}, "fit": settings}
    result = fit(from_mapping(mapping), tmp_path / "run")
    assert result.test is not None and result.test.metrics["accuracy"] == 1.0


def test_a_folder_that_is_parted_keeps_its_parts(tmp_path: Path) -> None:
    for part, num in (("train", 10), ("val", 3), ("test", 2)):
        photographs(tmp_path / part, num)
    data = read_pictures(str(tmp_path), 8)
    assert [len(part[0]) for part in (data.train, data.validation, data.test)] == [20, 6, 4]
    assert data.classes == ["blue", "red"]
    assert data.train[0].shape == (20, 8, 8, 3)


def test_idx_files_are_read_as_they_are(tmp_path: Path) -> None:
    data = read_pictures(str(idx_folder(tmp_path)), None)
    assert [len(part[0]) for part in (data.train, data.validation, data.test)] == [36, 4, 10]
    assert data.test[0].shape == (10, 9, 7)
    assert data.test[1].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    rng = np.random.default_rng(0)
    rng.integers(0, 256, (40, 9, 7), np.uint8)
    assert np.array_equal(data.test[0], rng.integers(0, 256, (10, 9, 7), np.uint8))


def test_each_fold_tests_other_digits_and_all_folds_test_all() -> None:
    tested = [read_pictures("digits", None, PartsConfig(fold)).test[0] for fold in range(5)]
    assert [len(part) for part in tested] == [359, 360, 359, 360, 359]
    everything = np.concatenate(tested)
    assert everything.astype(int).sum() == np.round(load_digits().data * (255 / 16)).sum()
    assert not np.array_equal(tested[0], tested[2])


def test_the_share_that_chooses_can_be_smaller() -> None:
    data = read_pictures("digits", None, PartsConfig(validation_share=0.02))
    assert [len(part[0]) for part in (data.train, data.validation, data.test)] == [1409, 29, 359]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (PartsConfig(fold=2), r"task\.parts\.fold is 2, but these pictures come with a test part; leave it out"),
        (PartsConfig(validation_share=0.5), r"task\.parts\.validation_share is 0\.5, but .* with a validation part"),
    ],
)
def test_parts_that_are_there_are_not_dealt_out(parts: PartsConfig, sentence: str, tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        photographs(tmp_path / part)
    with pytest.raises(RunError, match=sentence):
        read_pictures(str(tmp_path), 8, parts)


def test_digits_are_the_same_for_every_run() -> None:
    data = read_pictures("digits", None)
    assert [len(part[0]) for part in (data.train, data.validation, data.test)] == [1294, 144, 359]
    assert data.train[0].max() == 255 and data.train[0].dtype == np.uint8
    assert np.array_equal(data.test[0], read_pictures("digits", None).test[0])


@pytest.mark.parametrize(
    ("source", "size", "sentence"),
    [
        ("mine", None, r"task\.size is missing: pictures in mine are scaled"),
        ("fashion-mnist", None, "did you mean 'fashion_mnist'"),
        ("empty", 8, "should have a folder for each of two or more classes; it has \\[\\]"),
        ("bare", 8, "there are no pictures"),
        ("broken", 8, r"broken/a/x\.png cannot be read as a picture"),
        ("cut", None, r"t10k-labels-idx1-ubyte\.gz cannot be read"),
        ("half", None, "has no file train-labels-idx"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(
    source: str, size: int | None, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine/a", "mine/b", "empty", "bare/a", "bare/b", "broken/a", "broken/b", "cut", "half"):
        Path(name).mkdir(parents=True)
    Path("broken/a/x.png").write_bytes(b"no picture")
    idx_folder(Path("cut"))
    Path("cut/t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x09abc"))
    idx_folder(Path("half"))
    Path("half/train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(RunError, match=sentence):
        read_pictures(source, size)


def test_a_transparent_picture_stands_on_white(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[:2, :, 3] = 255  # black above, nothing below
    Image.fromarray(picture, "RGBA").save(tmp_path / "p.png")
    grey = read_picture(tmp_path / "p.png", (4, 4), is_grey=True)
    assert grey[:, 0].tolist() == [0, 0, 255, 255]
    assert read_picture(tmp_path / "p.png", (2, 3), is_grey=False).shape == (2, 3, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_grey_become_eight(suffix: str, tmp_path: Path) -> None:
    pixels = np.array([[0, 255, 256], [25_700, 32_768, 65_535]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / f"deep{suffix}")
    assert read_picture(tmp_path / f"deep{suffix}", (2, 3), is_grey=True).tolist() == [[0, 0, 1], [100, 128, 255]]
    coloured = read_picture(tmp_path / f"deep{suffix}", (2, 3), is_grey=False)
    assert coloured[1].tolist() == [[100] * 3, [128] * 3, [255] * 3]


def test_a_photo_stands_upright_as_its_camera_says(tmp_path: Path) -> None:
    lying = Image.fromarray(np.array([[10, 20, 30], [40, 50, 60]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    lying.save(tmp_path / "p.png", exif=exif)
    assert read_picture(tmp_path / "p.png", None, is_grey=True).tolist() == [[40, 10], [50, 20], [60, 30]]
    lying.save(tmp_path / "damaged.png", exif=b"nothing that says how it stands")
    assert read_picture(tmp_path / "damaged.png", None, is_grey=True).tolist() == [[10, 20, 30], [40, 50, 60]]


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    Image.new("1", (14_000, 14_000)).save(tmp_path / "p.png")
    with pytest.raises(RunError, match=r"p\.png cannot be read as a picture: Image size \(196000000 pixels\) exceeds"):
        read_picture(tmp_path / "p.png", (8, 8), is_grey=True)


def test_a_class_that_is_not_learned_is_not_left_out_in_silence(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        photographs(tmp_path / part, 3)
    (tmp_path / "test" / "notes").mkdir()  # without a picture it is no class
    assert len(read_pictures(str(tmp_path), 8).test[0]) == 6
    (tmp_path / "val" / "blue").rename(tmp_path / "val" / "green")
    with pytest.raises(RunError, match=r"val has classes that the training part lacks: green"):
        read_pictures(str(tmp_path), 8)


def test_right_captions_are_green_and_wrong_ones_red() -> None:
    picture = sheet([np.zeros((8, 8), np.uint8)] * 3, 2, [("a", True), ("b", False), ("c", True)])
    assert picture.shape == (2 * (64 + 14 + 2), 2 * (64 + 2), 3)
    redness = picture[..., 0].astype(int) - picture[..., 1]
    assert redness[:, :64].max() == 0 and redness[:, :64].min() < -50
    assert redness[:, 66:].max() > 50 and redness[:, 66:].min() == 0


@pytest.mark.parametrize("num_classes", [2, 10, 40, 200])
def test_a_confusion_table_of_any_size_is_drawn(num_classes: int) -> None:
    table = np.eye(num_classes, dtype=np.int64) * 5
    picture = confusion_picture(table, [f"class {k}" for k in range(num_classes)])
    assert picture.ndim == 3 and max(picture.shape) < 1200
    assert not np.array_equal(picture, confusion_picture(np.ones_like(table), ["x"] * num_classes))


def test_a_plane_is_drawn_with_the_second_number_upwards() -> None:
    probability = np.zeros((40, 40))
    probability[30:] = 1.0  # where the second number is large
    picture = regions(probability, np.zeros((0, 2)), np.zeros(0), 1.0)
    assert picture[0, 0].tolist() == [245, 160, 70]
    assert picture[-1, 0].tolist() == [90, 140, 220]


AUTOENCODER: dict[str, Any] = {"kind": "autoencoder", "source": "digits", "code_size": 12}


@pytest.mark.parametrize("backbone", [{"kind": "cnn", "features": 48}, {"kind": "mlp", "activation": "relu"}])
def test_an_autoencoder_makes_digits_again(backbone: dict[str, Any], tmp_path: Path) -> None:
    settings = {"num_epochs": 6, "batch_size": 32, "learning_rate": 4e-3, "warmup_steps": 10, "evaluation_period": 120}
    result = fit(from_mapping({**QUIET, "task": AUTOENCODER, "backbone": backbone, "fit": settings}), tmp_path)
    test = read_pictures("digits", None).test[0] / 255
    trivial = ((test - test.mean(0)) ** 2).mean()  # the mean picture for everything
    assert result.test is not None and result.test.metrics["loss"] < 0.6 * trivial
    assert result.test.pictures["reconstructions"].shape[2] == 3


def test_a_class_that_is_held_out_is_told_by_its_error(tmp_path: Path) -> None:
    task = AUTOENCODER | {"held_out": "0", "code_size": 6}
    settings = {"num_epochs": 6, "batch_size": 32, "learning_rate": 4e-3, "warmup_steps": 10, "evaluation_period": 120}
    backbone = {"kind": "mlp", "activation": "relu"}
    result = fit(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": settings}), tmp_path)
    assert result.test is not None
    assert result.test.metrics["auroc"] > 0.7
    assert result.test.metrics["loss_held_out"] > result.test.metrics["loss"]
    with pytest.raises(RunError, match=r"task\.held_out is 'zero', but the classes are 0, 1, 2"):
        fit(from_mapping({**QUIET, "task": task | {"held_out": "zero"}}), tmp_path / "other")
