"""Compressed pictures: what comes back, what is given back to the machine, and what is no picture."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from triathlon.agents import picture_store
from triathlon.agents.picture_store import PictureStore, has_pictures
from triathlon.networks.errors import SettingError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 1, 10, 10), np.uint8)  # packed: 102 bytes each


def test_pictures_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_store, "SLAB_BYTES", 250)  # two of noise
    store = PictureStore(5, 1, (10, 10))
    for first in range(0, 40, 3):
        rows = np.arange(first, min(first + 3, 40))
        store.write(rows % 5, NOISE[rows])
        known = np.arange(max(0, rows[-1] - 4), rows[-1] + 1)
        taken = store.take(np.stack([known, known[::-1]]) % 5)  # each twice
        np.testing.assert_array_equal(taken, NOISE[np.stack([known, known[::-1]]), 0])
        assert store.nbytes <= 5 * 12 + 4 * 250  # five pictures lie in at most four slabs


def test_a_row_that_is_written_again_takes_no_more_room() -> None:
    store, once = PictureStore(50, 1, (10, 10)), PictureStore(50, 1, (10, 10))
    once.write(np.arange(40), NOISE)
    for row in range(39):  # as segments of one row do: each begins with the last row of the one before
        store.write(np.array([row, row + 1]), NOISE[[row, row + 1]])
    assert store.nbytes == once.nbytes
    store.write(np.array([39]), np.zeros_like(NOISE[:1]))  # another picture in its place
    assert store.nbytes < once.nbytes
    np.testing.assert_array_equal(store.take(np.arange(40))[:39], NOISE[:39, 0])
    assert not store.take(np.array([39])).any()


@pytest.mark.parametrize(
    ("space", "found"),
    [
        (spaces.Box(0, 255, (84, 84), np.uint8), True),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), True),
        (spaces.Box(0, 255, (2, 210, 160, 3), np.uint8), True),
        (spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Tuple([spaces.Box(0, 255, (9, 9, 3), np.uint8)])}), True),
        (spaces.Box(0, 255, (128,), np.uint8), False),
        (spaces.Box(0, 1, (84, 84, 3), np.float32), False),
        (spaces.Dict({"a": spaces.Discrete(3)}), False),
    ],
)
def test_what_is_a_picture(space: spaces.Space[Any], found: bool) -> None:
    assert has_pictures(space) is found


def test_without_lz4_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lz4", None)
    with pytest.raises(SettingError, match=r'needs lz4, which is not installed: pip install "triathlon\[atari\]"'):
        PictureStore(5, 1, (10, 10))


def test_without_pictures_the_setting_is_refused(practise: Any) -> None:
    with pytest.raises(SettingError, match=r"agent.compress_replay is true, but there are no pictures of bytes"):
        practise("CartPole-v1", {"kind": "dqn", "compress_replay": True})
