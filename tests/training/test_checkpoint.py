"""Checkpoints come back as they were, or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from triathlon.training import checkpoint
from triathlon.training.errors import RunError

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
TENSORS = ARRAYS.map(lambda array: torch.from_numpy(array.copy()))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5)
KEYS = st.text(st.characters(), max_size=5) | st.integers(0, 3) | st.sampled_from(["a.b", "__metadata__", "dict", ""])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(KEYS, inner, max_size=3)
        ),
        max_leaves=8,
    )


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, (np.ndarray, torch.Tensor)):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert np.asarray(found).tobytes() == np.asarray(expected).tobytes()
    elif expected != expected:
        assert found != found
    else:
        assert found == expected


@settings(max_examples=150, deadline=None)
@given(state=st.dictionaries(KEYS, nested(PLAIN | ARRAYS | TENSORS), max_size=4))
def test_what_is_loaded_is_what_was_saved(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "last.safetensors"
    checkpoint.save(path, state)
    assert_same(checkpoint.load(path), state)
    assert os.listdir(path.parent) == ["last.safetensors"]


def test_optimisers_and_generators_go_on_where_they_were(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    rng, torch_rng = np.random.default_rng(3), torch.Generator().manual_seed(4)
    state = {"adam": optimizer.state_dict(), "numpy": rng.bit_generator.state, "torch": torch_rng.get_state()}
    checkpoint.save(tmp_path / "c.safetensors", state)
    loaded = checkpoint.load(tmp_path / "c.safetensors")

    assert_same(loaded, state)
    other = torch.optim.Adam(layer.parameters())
    other.load_state_dict(loaded["adam"])
    assert other.param_groups[0]["lr"] == 0.1
    expected = rng.integers(2**62)
    again = np.random.default_rng(0)
    again.bit_generator.state = loaded["numpy"]
    assert again.integers(2**62) == expected


def test_views_shared_and_read_only_arrays_are_saved_by_value(tmp_path: Path) -> None:
    weights = torch.arange(6.0).view(2, 3)
    frozen = np.broadcast_to(np.float32(7), (2, 2))
    state = {
        "t": weights.t(),
        "row": weights[1],
        "again": weights,
        "frozen": frozen,
        "big_endian": np.array([1, 2], ">i4"),
    }
    checkpoint.save(tmp_path / "c.safetensors", state)
    loaded = checkpoint.load(tmp_path / "c.safetensors")
    assert loaded["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert loaded["row"].tolist() == [3, 4, 5]
    assert loaded["frozen"].tolist() == [[7, 7], [7, 7]]
    assert loaded["big_endian"].tolist() == [1, 2]
    loaded["row"][0] = -1  # writable, and no other array changes with it
    assert loaded["again"][1, 0] == 3


def test_bfloat16_and_numpy_scalars(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.safetensors", {"half": torch.ones(3, dtype=torch.bfloat16), "n": np.int64(5)})
    loaded = checkpoint.load(tmp_path / "c.safetensors")
    assert loaded["half"].dtype is torch.bfloat16
    assert loaded["half"].tolist() == [1, 1, 1]
    assert loaded["n"] == 5


def test_what_is_not_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"agent\.callback: function"):
        checkpoint.save(tmp_path / "c.safetensors", {"agent": {"callback": lambda: None}})
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "c.safetensors", {"objects": np.array([object()])})
    assert os.listdir(tmp_path) == []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, {"weights": torch.arange(100.0), "step": 12345})
    return path


def test_a_file_cut_short_anywhere_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in [*range(0, 60, 7), *range(60, len(whole), 41), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(RunError, match=r"last\.safetensors is not a checkpoint, or is damaged or cut short"):
            checkpoint.load(saved)


def test_a_changed_byte_anywhere_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    state = checkpoint.load(saved)
    for position in range(0, len(whole), 5):
        saved.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            loaded = checkpoint.load(saved)
        except RunError:
            continue
        assert_same(loaded, state)  # padding: nothing that is read


def test_foreign_and_newer_files_are_refused(tmp_path: Path, saved: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    with pytest.raises(RunError, match="not a checkpoint of triathlon"):
        checkpoint.load(foreign)
    save_file({"x": torch.zeros(1)}, foreign, {"format": checkpoint.FORMAT, "version": "99"})
    with pytest.raises(RunError, match="version 99"):
        checkpoint.load(foreign)
    foreign.write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(RunError, match="not a checkpoint"):
        checkpoint.load(foreign)
    with pytest.raises(RunError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "missing.safetensors")
    with pytest.raises(RunError, match="there is no checkpoint"):
        checkpoint.load(tmp_path)


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    code = f"""
        import torch
        from triathlon.training import checkpoint
        checkpoint.save({str(path)!r}, {{"n": 0, "big": torch.zeros(1)}})
        print("ready", flush=True)
        n = 0
        while True:
            n += 1
            checkpoint.save({str(path)!r}, {{"n": n, "big": torch.full((2_000_000,), float(n))}})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        deadline = time.monotonic() + 20
        partial = tmp_path / ".last.partial.safetensors"
        while not partial.exists() and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    state = checkpoint.load(path)
    assert state["big"].eq(float(state["n"])).all()
    checkpoint.save(path, {"n": -1})  # a left-over part is in nobody's way
    assert os.listdir(tmp_path) == ["last.safetensors"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(saved: Path) -> None:
    code = f"""
        import resource, signal
        import torch
        from triathlon.training import checkpoint
        from triathlon.training.errors import RunError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoint.save({str(saved)!r}, {{"big": torch.zeros(1_000_000)}})
        except RunError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{saved} cannot be written: File too large\n"
    assert checkpoint.load(saved)["step"] == 12345
    assert os.listdir(saved.parent) == ["last.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left(tmp_path: Path) -> None:
    (tmp_path / ".last.partial.safetensors").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"last\.safetensors cannot be written: No space left on device"):
        checkpoint.save(tmp_path / "last.safetensors", {"big": torch.zeros(1_000_000)})
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(RunError, match=r"file/last\.safetensors cannot be written"):
        checkpoint.save(tmp_path / "file" / "last.safetensors", {"x": 1})


def test_the_header_is_plain_json(saved: Path) -> None:
    content = saved.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["weights"]["dtype"] == "F32"
    assert json.loads(header["__metadata__"]["state"])["dict"][1] == ["step", 12345]


def test_what_a_reader_would_refuse_replaces_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"numbers": [1.5] * 10})
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint, "LONGEST_HEADER", 2_000)
    with pytest.raises(RunError, match=r"cannot hold [0-9,]+ bytes of lists, dicts and texts, only 2,000"):
        checkpoint.save(path, {"numbers": [1.5] * 1_000})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["c.safetensors"]


def test_a_part_can_be_left_unread(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    state = {"learner": {"network": torch.ones(3), "replay": {"rows": np.zeros((9, 9))}}, "replay": 1, "steps": [2]}
    checkpoint.save(path, state)
    raw = bytearray(path.read_bytes())
    raw[-20] ^= 255  # among the rows, the largest array being the last
    path.write_bytes(raw)
    with pytest.raises(RunError, match="does not match its checksum"):
        checkpoint.load(path)
    found = checkpoint.load(path, without=("learner.replay", "nothing.of.it"))
    assert found["learner"].keys() == {"network"} and found["replay"] == 1 and found["steps"] == [2]
    assert found["learner"]["network"].tolist() == [1, 1, 1]
    assert checkpoint.load(path, without=("learner",)).keys() == {"replay", "steps"}
