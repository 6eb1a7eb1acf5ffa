"""TensorBoard's projector: the files are read back as TensorBoard reads them."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from triathlon.networks.errors import SettingError
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.examples import Examples
from triathlon.training.supervised.fit import Fit, fit
from triathlon.training.supervised.projector import write_projector
from triathlon.training.supervised.task import Embeddings

QUIET = {"logging": {"csv": False, "embeddings": 50}, "num_threads": 1, "device": "cpu"}
SETTINGS = {"num_epochs": 1, "batch_size": 32, "warmup_steps": 0}
MLP = {"kind": "mlp", "hidden_sizes": [12]}
SIDE = 32  # pixels of a digit of 8 x 8, enlarged


def read(folder: Path) -> tuple[ProjectorConfig, np.ndarray, list[str]]:
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    with open(folder / embedding.tensor_path) as file:
        vectors = np.array(list(csv.reader(file, delimiter="\t")), np.float64)
    return embedding, vectors, (folder / embedding.metadata_path).read_text().splitlines()


@pytest.mark.parametrize("kind", ["image_classification", "autoencoder", "vae"])
def test_features_of_test_pictures_with_their_names_and_sprites(kind: str, tmp_path: Path) -> None:
    run = from_mapping({**QUIET, "task": {"kind": kind, "source": "digits"}, "backbone": MLP, "fit": SETTINGS})
    fit(run, tmp_path)
    embedding, vectors, labels = read(tmp_path)
    again = Fit(run, tmp_path / "again")
    again.close()
    from triathlon.training import checkpoint

    again.network.load_state_dict(checkpoint.load(tmp_path / "checkpoints" / "best.safetensors")["network"])
    test = again.task.splits.test
    assert isinstance(test, Examples)
    chosen = [i * 359 // 50 for i in range(50)]
    again.network.eval()
    with torch.no_grad():
        features = again.network.backbone(test.batch(np.array(chosen)).obs)[0][-1]
        if kind != "image_classification":  # codes, of the variational one their means
            head: Any = again.network.head
            features = head.code(features)[:, :16]
    assert np.allclose(vectors, features.numpy(), rtol=1e-4, atol=1e-5)
    assert labels == [str(test.target[i]) for i in chosen]
    sprite = np.asarray(Image.open(tmp_path / embedding.sprite.image_path))
    assert list(embedding.sprite.single_image_dim) == [SIDE, SIDE] and sprite.shape == (8 * SIDE, 8 * SIDE, 3)
    for place, i in enumerate(chosen):
        row, column = divmod(place, 8)
        tile = sprite[row * SIDE : (row + 1) * SIDE : 4, column * SIDE : (column + 1) * SIDE : 4]
        assert np.array_equal(tile, np.repeat(test.obs[i, 0][..., None], 3, -1))


def test_tensorboard_finds_them(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    task = {"kind": "image_classification", "source": "digits"}
    fit(from_mapping({**QUIET, "task": task, "backbone": MLP, "fit": SETTINGS}), tmp_path / "run")
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    plugin = ProjectorPlugin(TBContext(logdir=str(tmp_path), multiplexer=multiplexer, data_provider=provider))
    plugin.is_active()  # begins to look in a thread
    for thread in threading.enumerate():
        if thread.name == "ProjectorPluginIsActiveThread":
            thread.join()
    assert plugin.is_active()
    apps = plugin.get_plugin_apps()

    def answer(path: str, **query: str) -> bytes:
        response = Client(apps[path]).get(path, query_string=query)
        assert response.status_code == 200
        return response.data

    assert b'"run"' in answer("/runs")
    assert answer("/metadata", run="run", name="features").decode().split() == read(tmp_path / "run")[2]
    vectors = np.frombuffer(answer("/tensor", run="run", name="features"), np.float32)
    assert np.allclose(vectors.reshape(50, 12), read(tmp_path / "run")[1], atol=1e-6)
    assert answer("/sprite_image", run="run", name="features").startswith(b"\x89PNG")


def test_texts_and_signals_have_no_sprites(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "s.npz", x=rng.normal(size=(60, 9)), y=np.arange(60) % 2, length=rng.integers(3, 10, 60))
    task = {"kind": "sequence_classification", "source": str(tmp_path / "s.npz"), "pooling": "mean"}
    backbone = {"kind": "gru", "hidden_size": 5}
    fit(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": SETTINGS}), tmp_path / "run")
    embedding, vectors, labels = read(tmp_path / "run")
    assert vectors.shape == (12, 5) and len(labels) == 12  # there are no more test signals
    assert not embedding.HasField("sprite")


def test_a_name_is_one_column_whatever_is_in_it(tmp_path: Path) -> None:
    write_projector(tmp_path, [Embeddings(torch.eye(2), ["a\tb", "c\nd"])])
    assert read(tmp_path)[2] == ["a b", "c d"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": {"kind": "gan"}}, "task 'gan' has no features to show; set it to 0"),
        ({"logging": {"embeddings": 5, "tensorboard": False}}, "embeddings is 5, but tensorboard is false"),
    ],
)
def test_what_cannot_be_shown_is_said_at_once(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    mapping = {**QUIET, "task": {"kind": "xor"}, "backbone": MLP} | change
    with pytest.raises((RunError, SettingError), match=sentence):
        Fit(from_mapping(mapping), tmp_path)
