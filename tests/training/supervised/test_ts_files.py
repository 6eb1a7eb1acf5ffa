"""Files of labelled signals: what is in them, and what is said of those that are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triathlon.training.errors import RunError
from triathlon.training.supervised.signals.sources import read_sequences
from triathlon.training.supervised.signals.ts_files import read_ts

HEAD = """# Two channels, from 1 to 3 frames.
@problemName Tiny
@timeStamps false
@classLabel true left right
@data
"""
SIGNALS = """1,2,3:-1,-2.5,-3:right
4:0.5:left
"""


def written(folder: Path, text: str, name: str = "Tiny_TRAIN.ts") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_signals_are_read_as_they_are(tmp_path: Path) -> None:
    classes, signals = read_ts(written(tmp_path, HEAD + SIGNALS))
    assert classes == ["left", "right"]
    assert signals.obs.tolist() == [[[1, -1], [2, -2.5], [3, -3]], [[4, 0.5], [0, 0], [0, 0]]]
    assert signals.target.tolist() == [1, 0]
    assert signals.length is not None and signals.length.tolist() == [3, 1]


def test_the_classes_of_the_test_part_have_the_numbers_of_the_training_part(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD.replace("left right", "right left") + SIGNALS)
    assert read_ts(path, ["left", "right"])[1].target.tolist() == [1, 0]


def test_a_test_part_beside_is_kept_apart(tmp_path: Path) -> None:
    train = written(tmp_path, HEAD + "1:1:left\n2:2:right\n" * 10)
    written(tmp_path, HEAD + "7:7:left\n8:8:right\n9:9:right\n", "Tiny_TEST.ts")
    data = read_sequences(str(train))
    assert data.test.obs[:, 0, 0].tolist() == [7, 8, 9] and data.test.target.tolist() == [0, 1, 1]
    assert len(data.train) + len(data.validation) == 20
    assert max(data.train.obs.max(), data.validation.obs.max()) == 2


def test_japanese_vowels_are_found_in_sktime_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sktime" / "datasets" / "data" / "JapaneseVowels"
    folder.mkdir(parents=True)
    (tmp_path / "sktime" / "__init__.py").write_text("raise ImportError('this one was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    written(folder, HEAD + "1:1:left\n2:2:right\n" * 5, "JapaneseVowels_TRAIN.ts")
    written(folder, HEAD + "7:7:left\n", "JapaneseVowels_TEST.ts")
    assert np.array_equal(read_sequences("japanese_vowels").test.obs, [[[7, 7]]])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SIGNALS, "has no line @data"),
        (HEAD.replace("@classLabel true left right", "@classLabel false") + "1:1\n", "with classes"),
        (HEAD.replace("@timeStamps false", "@timeStamps true") + SIGNALS, "signals without times"),
        (HEAD + "1:1:up\n", "signal 1 is of class 'up', and the classes are left, right"),
        (HEAD + "1,2:1:left\n", "signal 1 should be channels of equally many numbers"),
        (HEAD + "1,x:1,2:left\n", "signal 1 should be channels of equally many numbers"),
        (HEAD + "1,2:1,NaN:left\n", "signal 1 has a value that is no number"),
        (HEAD + "1:1:left\n1:1:1:left\n", r"the same number of channels, not \[2, 3\]"),
        (HEAD, "the same number of channels, not no signal"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=sentence):
        read_sequences(str(written(tmp_path, text)))


def test_a_test_part_of_another_shape_is_refused(tmp_path: Path) -> None:
    train = written(tmp_path, HEAD + SIGNALS)
    written(tmp_path, HEAD + "7:7:7:left\n", "Tiny_TEST.ts")
    with pytest.raises(RunError, match=r"Tiny_TEST\.ts has 3 channels, and Tiny_TRAIN\.ts has 2"):
        read_sequences(str(train))
