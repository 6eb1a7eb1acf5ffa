"""Sounds: what is learned from a person's own recordings."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.training.supervised.tones import PITCHES, RATE, tone, tones
from triathlon.networks.errors import SettingError
from triathlon.scripts.main import main
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import Fit, fit

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}


def class_folders(folder: Path, num: int = 20) -> Path:
    rng = np.random.default_rng(0)
    for word in PITCHES:
        (folder / word).mkdir(parents=True)
        for i in range(num):
            soundfile.write(folder / word / f"{i}.wav", tones([word], rng), RATE)
    return folder


def table(folder: Path, num: int = 150) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "texts.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "text"])
        for i in range(num):
            words = [str(word) for word in rng.choice(list(PITCHES), rng.integers(1, 4))]
            soundfile.write(folder / f"{i}.wav", tones(words, rng), RATE)
            writer.writerow([f"{i}.wav", " ".join(words)])
    return folder / "texts.csv"


# --- learning ---------------------------------------------------------------------------------------------------------

WHOLE = {"frames_per_row": None, "as_picture": True, "num_bands": 16}
BACKBONES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gru": ({"kind": "gru", "hidden_size": 16}, {}),
    "lstm": ({"kind": "lstm", "hidden_size": 16}, {}),
    "transformer": ({"kind": "transformer", "width": 16, "num_layers": 1, "gated": False}, {"pooling": "mean"}),
    "cnn": ({"kind": "cnn", "features": 16}, {"hearing": WHOLE}),
    "patches": ({"kind": "patches", "patch_size": 4, "width": 32, "num_layers": 1}, {"hearing": WHOLE}),
    "cnn and gru": (
        {"kind": "gru", "hidden_size": 16, "encoder": {"kind": "cnn", "features": 16}},
        {"hearing": {"frames_per_row": 8, "as_picture": True}},
    ),
}
QUICK = {"num_epochs": 12, "batch_size": 8, "learning_rate": 5e-3, "warmup_steps": 5, "evaluation_period": 25}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_tells_tones_apart(name: str, tmp_path: Path) -> None:
    backbone, task = BACKBONES[name]
    source = str(class_folders(tmp_path / "mine"))
    task = {"kind": "speech_classification", "source": source, "augmentation": {"shift": 3}} | task
    settings = QUICK | {"num_epochs": 24 if name == "patches" else 12}
    result = fit(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": settings}), tmp_path / "run")
    assert result.test is not None and result.test.metrics["accuracy"] == 1.0
    assert result.test.pictures["samples"].shape[2] == 3


def test_a_folder_that_is_parted_keeps_its_parts(tmp_path: Path) -> None:
    for part, num in (("train", 4), ("val", 2), ("test", 1)):
        class_folders(tmp_path / part, num)
    experiment = from_mapping({**QUIET, "task": {"kind": "speech_classification", "source": str(tmp_path)}})
    run = Fit(experiment, tmp_path / "run")
    run.close()
    splits = run.task.splits
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12, 6, 3]
    assert run.task.facts == {"classes": ["high", "low", "mid"], "num_frames": None}


def test_a_run_on_sounds_goes_on_to_the_bit(go_on: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    source = str(class_folders(tmp_path / "mine", 8))
    task = {
        "kind": "speech_classification",
        "source": source,
        "augmentation": {"shift": 4, "loudest_noise": 0.0, "num_time_masks": 1},
    }
    settings = {"num_epochs": 3, "batch_size": 6, "evaluation_period": 2}
    experiment = from_mapping({**QUIET, "task": task, "backbone": {"kind": "gru", "hidden_size": 8}, "fit": settings})
    go_on(experiment, 3)


SPEECH_CONFIG = """
task: {{kind: speech_recognition, source: {source}, unit: {unit}, hearing: {{num_bands: 16}}}}
backbone: {{kind: {backbone}}}
fit: {{num_epochs: 40, batch_size: 8, learning_rate: 1e-2, warmup_steps: 10, evaluation_period: 108}}
num_threads: 1
"""


@pytest.mark.parametrize(
    ("unit", "backbone"), [("word", "gru, hidden_size: 48"), ("character", "gru, hidden_size: 64")]
)
def test_what_tones_say_is_written_down(
    unit: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = SPEECH_CONFIG.format(source=table(tmp_path / "mine"), unit=unit, backbone=backbone)
    Path("tones.yaml").write_text(config)
    assert main(["supervised", "tones.yaml", "--name", "mine"]) == 0
    capsys.readouterr()
    words = ["low", "low", "mid"]  # a tone twice
    soundfile.write("said.wav", tones(words, np.random.default_rng(7)), RATE)
    assert main(["predict", "latest", "said.wav"]) == 0
    assert capsys.readouterr().out == "said.wav: low low mid\n"
    assert main(["predict", "latest", "said.wav", "--task.beam-size", "4"]) == 0
    assert capsys.readouterr().out == "said.wav: low low mid\n"


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"kind": "speech_classification", "source": "spoken_digit"}, "did you mean 'spoken_digits'"),
        ({"kind": "speech_classification", "parts": {"fold": 1}}, "these recordings come with a test part"),
        ({"kind": "speech_recognition", "parts": {"validation_share": 0.2}}, "come with a validation part"),
        ({"kind": "speech_recognition", "source": "spoken_digits"}, "did you mean 'spoken_digit_strings'"),
        ({"kind": "speech_classification", "source": "bare"}, "there are no sounds"),
        ({"kind": "speech_classification", "source": "one"}, r"two or more classes; it has \['a'\]"),
        ({"kind": "speech_recognition", "source": "columns.csv"}, "columns 'file' and 'text'; it has sound, text"),
        ({"kind": "speech_recognition", "source": "gap.csv"}, "a row without a file or a text"),
        ({"kind": "speech_recognition", "source": "lost.csv"}, r"there is no file lost\.wav"),
        ({"kind": "speech_recognition", "source": "part.csv"}, "part is 'dev' but should be one of train, val, test"),
        ({"kind": "speech_recognition", "source": "long.csv"}, "a recording of 4 rows is too short for 'a a a'"),
        ({"kind": "speech_recognition", "source": "new.csv"}, "in no text that is learned from: b"),
        ({"kind": "speech_recognition", "hearing": {"frames_per_row": None}}, "needs a row for each of its tokens"),
        (
            {"kind": "speech_classification", "pooling": "mean", "hearing": {"frames_per_row": None}},
            "heard at once is one row",
        ),
    ],
)
def test_what_is_wrong_with_a_source_is_said(
    task: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bare/a", "bare/b", "one/a"):
        Path(name).mkdir(parents=True)
    soundfile.write("a.wav", tone(300, 0.12), RATE)
    Path("columns.csv").write_text("sound,text\na.wav,a\n")
    Path("gap.csv").write_text("file,text\na.wav,\n")
    Path("lost.csv").write_text("file,text\nlost.wav,a\n")
    Path("part.csv").write_text("file,text,part\na.wav,a,dev\n")
    Path("long.csv").write_text("file,text\n" + "a.wav,a a a\n" * 20)
    Path("new.csv").write_text("file,text,part\n" + "a.wav,a,train\n" * 9 + "a.wav,b,test\n")
    with pytest.raises((RunError, SettingError), match=sentence):
        Fit(from_mapping({**QUIET, "task": task, "backbone": {"kind": "gru"}}), tmp_path / "run")
