"""Signals in time: where they come from, how a network sees them, and that networks learn to tell them apart."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.networks.errors import SettingError
from triathlon.networks.images import PictureBackbone
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.examples import Examples
from triathlon.training.supervised.fit import fit
from triathlon.training.supervised.network import make_network
from triathlon.training.supervised.registry import make_task
from triathlon.training.supervised.signals.sequence_classification import (
    SequenceClassification,
    SequenceClassificationConfig,
)
from triathlon.training.supervised.signals.sources import read_sequences, read_signal

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
TASK = "sequence_classification"


def waves(path: Path, num: int = 60, lengths: bool = False) -> Path:
    """Slow and fast waves of two channels; with `lengths` they end early and are followed by nonsense."""
    rng = np.random.default_rng(0)
    target = np.arange(num) % 2
    time = np.arange(20)[None, :, None] + rng.uniform(0, 20, (num, 1, 1)) + np.array([0, 2.0])
    signals = np.sin(time * (0.3 + 0.9 * target[:, None, None])) * 5 + 100
    arrays: dict[str, Any] = {"x": signals, "y": target, "classes": np.array(["slow", "fast"])}
    if lengths:
        arrays["length"] = rng.integers(9, 21, num)
        for signal, length in zip(signals, arrays["length"], strict=True):
            signal[length:] = 1e6
    np.savez(path, **arrays)
    return path


def test_mnist1d_has_its_official_parts_and_leaves_the_global_generators_alone() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.Random(5).random(), np.random.RandomState(5).random()
    data = read_sequences("mnist1d")
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3600, 400, 1000]
    assert data.test.obs.shape == (1000, 40, 1) and data.test.obs.dtype == np.float32
    assert np.bincount(data.test.target).tolist() == [102, 104, 89, 106, 106, 98, 99, 96, 98, 102]


SEEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gru": ({"kind": "gru", "hidden_size": 16}, {}),
    "gru over patches": ({"kind": "gru", "hidden_size": 16}, {"patch_size": 3}),
    "transformer": ({"kind": "transformer", "width": 16, "num_layers": 1}, {"pooling": "mean"}),
    "impala": ({"kind": "impala", "channels": [8], "layout": "channels_first"}, {"as_rows": False}),
    "mlp": ({"kind": "mlp"}, {"as_rows": False}),
}


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("name", SEEN)
def test_slow_waves_are_told_from_fast_ones(name: str, lengths: bool, tmp_path: Path) -> None:
    backbone, how = SEEN[name]
    task = {"kind": TASK, "source": str(waves(tmp_path / "waves.npz", 300, lengths)), **how}
    settings = {"num_epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 5}
    result = fit(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": settings}), tmp_path / "run")
    assert result.test is not None and result.test.metrics["accuracy"] > 0.9


def test_a_signal_is_seen_at_once_channel_by_channel_or_in_patches(tmp_path: Path) -> None:
    source = str(waves(tmp_path / "waves.npz", lengths=True))
    signal = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    examples = Examples(signal, np.zeros(1, np.int64), np.array([3]))

    def seen(**how: Any) -> Examples:
        task = SequenceClassification(SequenceClassificationConfig(source=source, **how))
        task.facts |= {"mean": [0.0, 1.0], "std": [1.0, 2.0]}
        return task.examples(examples)

    rows = seen(patch_size=2)
    assert rows.obs.tolist() == [[[0, 0, 2, 1], [4, 2, 0, 0], [0, 0, 0, 0]]]
    assert rows.length is not None and rows.length.tolist() == [2]
    at_once = seen(as_rows=False)
    assert at_once.obs.shape == (1, 1, 2, 1, 20) and at_once.length is None
    assert at_once.obs[0, 0, :, 0, :4].tolist() == [[0, 2, 4, 0], [0, 1, 2, 0]]


def test_more_channels_than_frames_are_not_taken_for_frames(tmp_path: Path) -> None:
    signals = np.random.default_rng(0).normal(0, 1, (12, 20, 30))
    np.savez(tmp_path / "wide.npz", x=signals, y=np.arange(12) % 2)
    mapping = {**QUIET, "task": {"kind": TASK, "source": str(tmp_path / "wide.npz"), "as_rows": False}}
    impala = {"kind": "impala", "channels": [8]}
    experiment = from_mapping({**mapping, "backbone": impala})
    task = make_task(experiment.task)
    with pytest.raises(SettingError, match=r"backbone\.layout: signals of 30 channels and 20 frames .* channels_first"):
        make_network(experiment, task, torch.device("cpu"))
    experiment = from_mapping({**mapping, "backbone": impala | {"layout": "channels_first"}})
    backbone = make_network(experiment, task, torch.device("cpu")).backbone
    assert isinstance(backbone, PictureBackbone) and backbone.read.channels == 30


def test_channels_are_standardised_by_what_is_learned_from_and_padding_is_no_part_of_it(tmp_path: Path) -> None:
    source = str(waves(tmp_path / "waves.npz", 200, lengths=True))
    task = SequenceClassification(SequenceClassificationConfig(source=source))
    assert task.facts["mean"] == pytest.approx([100, 100], abs=0.5)
    assert task.facts["std"] == pytest.approx([5 / 2**0.5] * 2, abs=0.3)
    assert isinstance(task.splits.test, Examples) and np.abs(task.splits.test.obs).max() < 2


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt"])
def test_a_file_of_ones_own_is_told(suffix: str, tmp_path: Path) -> None:
    task = {"kind": TASK, "source": str(waves(tmp_path / "waves.npz", 300))}
    settings = {"num_epochs": 5, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 5}
    run = from_mapping({**QUIET, "task": task, "backbone": {"kind": "gru", "hidden_size": 16}, "fit": settings})
    fit(run, tmp_path / "run")
    from triathlon.training import checkpoint

    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.safetensors")
    again = make_task(run.task, state["facts"])
    network = make_network(run, again, torch.device("cpu")).eval()
    network.load_state_dict(state["network"])
    signal = np.sin((np.arange(33)[:, None] + np.array([0, 2.0])) * 1.2) * 5 + 100  # longer than any learned from
    file = tmp_path / f"mine{suffix}"
    if suffix == ".npy":
        np.save(file, signal)
    else:
        np.savetxt(file, signal, delimiter="," if suffix == ".csv" else " ")
    with torch.no_grad():
        (line,) = again.predict(network, [file], torch.device("cpu"))
    assert line.startswith(f"{file}: fast ")


GAP = np.zeros((9, 4))
GAP[7, 2] = np.nan


def test_a_gap_after_the_end_of_a_signal_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=GAP, y=np.zeros(9, int), length=np.full(9, 2))
    assert not read_sequences(str(tmp_path / "mine.npz")).train.obs.any()


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": np.zeros((9, 4))}, "is no .npz file with arrays x and y"),
        ({"x": np.zeros((9, 4)), "y": np.zeros(8, int)}, r"not \[9, 4, 1\] with \[8\]"),
        ({"x": np.zeros((9, 4)), "y": np.full(9, -1)}, "should be whole numbers from 0 to 0"),
        ({"x": np.zeros((9, 4)), "y": np.zeros(9, int), "length": np.full(9, 5)}, "should be from 1 to 4 frames"),
        ({"x": GAP, "y": np.zeros(9, int)}, r"task\.source: x in .*mine\.npz is nan in frame 2 of signal 7"),
        ({"x": GAP, "y": np.zeros(9, int), "length": np.full(9, 3)}, "is nan in frame 2 of signal 7"),
        ({"x": np.full((9, 4), np.inf), "y": np.zeros(9, int)}, "is inf in frame 0 of signal 0"),
        ({"x": np.zeros((2, 4)), "y": np.zeros(2, int)}, "1 signals are too few to be split"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(RunError, match=sentence):
        read_sequences(str(tmp_path / "mine.npz"))


def test_what_is_wrong_with_a_source_a_setting_or_a_signal_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="did you mean 'mnist1d'"):
        read_sequences("mnist-1d")
    (tmp_path / "no.npz").write_bytes(b"no arrays")
    with pytest.raises(RunError, match=r"no\.npz is no \.npz file"):
        read_sequences(str(tmp_path / "no.npz"))
    np.save(tmp_path / "one.npy", np.zeros((3, 4)))
    with pytest.raises(RunError, match=r"one\.npy is no \.npz file"):
        read_sequences(str(tmp_path / "one.npy"))
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(RunError, match=r"empty\.npy is no \.npz file"):
        read_sequences(str(tmp_path / "empty.npy"))
    with pytest.raises(RunError, match=r"empty\.npy cannot be read as frames of numbers"):
        read_signal(tmp_path / "empty.npy", 1)
    with pytest.raises(SettingError, match="pooling and patch_size are of signals that are read in time"):
        SequenceClassificationConfig(as_rows=False, patch_size=2)
    (tmp_path / "s.txt").write_text("1 2\n3\n")
    with pytest.raises(RunError, match="cannot be read as frames of numbers"):
        read_signal(tmp_path / "s.txt", 2)
    (tmp_path / "s.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(RunError, match="holds 2 x 3 numbers; this run reads frames of 2"):
        read_signal(tmp_path / "s.txt", 2)
