"""Words said by synthesisers, and real recordings of the same words, where they are installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triathlon.training.errors import RunError
from triathlon.training.supervised.sounds import sources
from triathlon.training.supervised.sounds.sources import read_labelled
from triathlon.training.supervised.sounds.speech_synthesis import Utterance, espeak_voices, say, say_all, styles


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "triathlon"


TWO = (Utterance("seven", "espeak-ng", "f2", "en-gb"), Utterance("seven", "flite", "slt", speed=0.8))


def test_styles_are_drawn_from_what_is_passed_in() -> None:
    drawn = styles("two", [("espeak-ng", "m1"), ("flite", "rms")], 3, np.random.default_rng(0))
    assert [(u.text, u.voice) for u in drawn] == [("two", "m1")] * 3 + [("two", "rms")] * 3
    assert len({(u.speed, u.pitch) for u in drawn}) == 6
    assert all(0.7 <= u.speed <= 1.2 and 0.8 <= u.pitch <= 1.25 for u in drawn)
    assert all(u.accent for u in drawn[:3]) and not any(u.accent for u in drawn[3:])
    assert drawn == styles("two", [("espeak-ng", "m1"), ("flite", "rms")], 3, np.random.default_rng(0))


def test_without_a_synthesiser_it_is_said_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=r"made by espeak-ng, which is not there.*'apt-get install espeak-ng flite'"):
        read_labelled("spoken_digits", 8000)


@pytest.mark.external
def test_what_was_said_once_is_kept(cache: Path) -> None:
    waves = say_all(TWO, 8000)
    assert all(2400 < len(wave) < 12000 and wave.dtype == np.float32 and np.abs(wave).max() > 0.05 for wave in waves)
    (kept,) = cache.iterdir()
    written = kept.stat().st_mtime_ns
    again = say_all(TWO, 8000)
    assert all(np.array_equal(one, other) for one, other in zip(waves, again, strict=True))
    assert kept.stat().st_mtime_ns == written
    assert np.abs(waves[0] - say(TWO[0], 8000)).max() < 1e-4  # 16 bits
    say_all(TWO[:1], 8000)
    assert len(list(cache.iterdir())) == 2  # other words are kept apart, and nothing half-written is left
    kept.write_bytes(b"half a file")
    with pytest.raises(RunError, match=r"cannot be read .* remove it, and it is made again"):
        say_all(TWO, 8000)


@pytest.mark.external
def test_a_faster_voice_is_shorter() -> None:
    for utterance in TWO:
        slow, fast = (
            say(Utterance(utterance.text, utterance.engine, utterance.voice, utterance.accent, speed), 8000)
            for speed in (0.7, 1.2)
        )
        assert len(fast) < 0.85 * len(slow)


@pytest.mark.external
def test_no_voice_is_learned_from_and_tested_with() -> None:
    train, validation, test = sources._voices()
    assert [len(part) for part in (train, validation, test)] == [82, 9, 10]
    assert len({*train, *validation, *test}) == 101 == len(espeak_voices())


@pytest.mark.external
def test_recordings_of_a_real_speaker_are_read() -> None:
    waves = sources._recorded(8000)
    assert [round(len(wave) / 8000, 2) for wave in waves] == [
        0.87,
        0.91,
        0.75,
        0.84,
        0.80,
        0.82,
        0.88,
        0.82,
        0.69,
        0.86,
    ]
