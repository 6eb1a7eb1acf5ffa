"""Sounds as they are heard: spectrograms, rows of frames, and how both are changed while they are learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.training.supervised.tones import PITCHES, RATE, tone, tones
from triathlon.training.errors import RunError
from triathlon.training.supervised.sounds.hearing import Hearing
from triathlon.training.supervised.sounds.sound_files import read_sound
from triathlon.training.supervised.sounds.spectrogram import HearingConfig, centred, spectrogram
from triathlon.training.supervised.sounds.spectrogram_augmentation import (
    SpectrogramAugmentationConfig,
    augmented,
    band_shifted,
    later,
    masked,
    mean_strength,
    noisy,
)


def test_a_file_is_read_as_one_channel_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    left, right = tone(500, 0.5, 22050), np.zeros(11025)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 22050)
    wave = read_sound(tmp_path / "stereo.wav", RATE)
    assert wave.dtype == np.float32 and wave.shape == (4000,)
    assert np.abs(wave - tone(500, 0.5) / 2)[100:-100].max() < 0.005


@pytest.mark.parametrize("name", ["nothing.wav", "broken.wav", "empty.wav"])
def test_what_is_no_sound_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF and so on")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    sentence = {
        "nothing.wav": "there is no file",
        "broken.wav": "cannot be read as a sound",
        "empty.wav": "without samples",
    }
    with pytest.raises(RunError, match=sentence[name]):
        read_sound(tmp_path / name, RATE)


def test_a_tone_is_in_its_band_and_loudness_does_not_count() -> None:
    config = HearingConfig(num_bands=32, relative_to="recording")
    heard = {word: spectrogram(tone(pitch, 1.0).astype(np.float32), config) for word, pitch in PITCHES.items()}
    assert all(frames.shape == (100, 32) for frames in heard.values())  # a frame each 10 ms
    mel = 1127 * np.log(1 + np.array([20, *PITCHES.values(), 4000]) / 700)
    expected = (mel[1:4] - mel[0]) / (mel[4] - mel[0]) * 33 - 1  # triangles are at 1, 2, … 32 of 33 parts
    for frames, band in zip(heard.values(), expected, strict=True):
        assert abs(frames[50].argmax() - band) < 1.0
        assert abs(frames.mean()) < 1e-5
    quiet = spectrogram((0.01 * tone(300, 1.0)).astype(np.float32), config)
    assert np.allclose(quiet, heard["low"], atol=1e-4)


def test_strength_is_measured_in_bel() -> None:
    config = HearingConfig(num_bands=32, relative_to="recording")
    wave = np.concatenate([tone(800, 0.5), 0.1 * tone(800, 0.5)]).astype(np.float32)
    frames = spectrogram(wave, config)
    assert frames[25].max() - frames[75].max() == pytest.approx(2.0, abs=0.01)  # a tenth of the amplitude


def test_silence_has_a_floor() -> None:
    wave = np.concatenate([tone(800, 0.5), np.zeros(4000)]).astype(np.float32)
    frames = spectrogram(wave, HearingConfig(relative_to="recording"))
    assert frames.max() - frames.min() == pytest.approx(6.0, abs=1e-4)
    nothing = spectrogram(np.zeros(4000, np.float32), HearingConfig())
    assert nothing.shape == (50, 40) and (nothing == 0).all()
    assert spectrogram(np.zeros(3, np.float32), HearingConfig()).shape == (1, 40)


def test_more_bands_than_frames_tell_apart_are_refused() -> None:
    with pytest.raises(RunError, match=r"task\.hearing\.num_bands is 128, but frames of 25 ms of 8000 samples"):
        spectrogram(tone(800, 0.5).astype(np.float32), HearingConfig(num_bands=128))
    longer = HearingConfig(num_bands=128, frame_shift=40.0)  # what the sentence says to change
    assert spectrogram(tone(800, 0.4).astype(np.float32), longer).shape == (10, 128)


def test_relative_to_its_band_a_microphone_does_not_count() -> None:
    rng = np.random.default_rng(0)
    wave = tones(["low", "high", "mid"], rng).astype(np.float32)
    duller = np.convolve(wave, [0.5, 0.5])[:-1].astype(np.float32)  # high frequencies fainter
    for relative_to, less in (("band", 0.1), ("recording", None)):
        config = HearingConfig(relative_to=relative_to)
        difference = np.abs(spectrogram(wave, config)[6:] - spectrogram(duller, config)[6:])
        assert difference.mean() < less if less else difference.mean() > 0.1


def hearing(frames_per_row: int | None, num_frames: int | None, **augmentation: Any) -> Hearing:
    config = HearingConfig(num_bands=8, frames_per_row=frames_per_row)
    return Hearing(config, SpectrogramAugmentationConfig(**augmentation), num_frames)


def test_rows_are_frames_beside_each_other_and_silence_fills_the_last() -> None:
    frames = np.arange(40, dtype=np.float32).reshape(5, 8)
    examples = hearing(2, None).examples([frames, frames[:1]], np.zeros(2, np.int64))
    assert examples.obs.shape == (2, 3, 16)
    assert examples.obs[0, 1].tolist() == list(range(16, 32))
    assert examples.obs[0, 2].tolist() == [*range(32, 40), *[0] * 8]
    assert examples.length is not None and examples.length.tolist() == [3, 1]
    whole = hearing(None, 4).examples([frames, frames[:1]], np.zeros(2, np.int64))
    assert whole.obs.shape == (2, 1, 32) and whole.length is None
    assert whole.obs[0, 0].tolist() == list(range(32))  # what is longer is cut
    assert whole.obs[1, 0].tolist() == [*range(8), *[0] * 24]
    assert whole.num_frames.tolist() == [4, 1]
    assert whole.part(np.array([1])).batch(np.array([0])).num_frames.tolist() == [1]


# --- augmentation -----------------------------------------------------------------------------------------------------

FRAMES = np.random.default_rng(0).normal(0, 1, (5, 12, 8)).astype(np.float32)
LENGTH = np.array([12, 9, 12, 3, 1])


def test_later_is_the_same_after_silence() -> None:
    moved, length = later(FRAMES, LENGTH, 4, np.random.default_rng(1))
    delay = length - LENGTH
    assert moved.shape == (5, 16, 8) and delay.min() >= 0 and delay.max() <= 4 and len(set(delay)) > 1
    for before, after, start, size in zip(FRAMES, moved, delay, LENGTH, strict=True):
        assert np.array_equal(after[start : start + size], before[:size])
        assert (after[:start] == before.min()).all() and (after[start + size :] == before.min()).all()


def test_moved_bands_are_between_their_neighbours() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (200, 3, 8))
    moved = band_shifted(ramp, 1.5, np.random.default_rng(0))
    by = moved[:, 0, 4] - 4
    assert by.min() < -1.3 and by.max() > 1.3 and np.abs(by).max() <= 1.5
    assert np.allclose(moved[:, :, 2:6], ramp[:, :, 2:6] + by[:, None, None], atol=1e-5)
    assert moved.min() == 0 and moved.max() == 7  # what lies outside is the outermost band


def test_hiss_adds_power() -> None:
    silence = np.full((400, 10, 8), -4.0, np.float32)
    strength = np.zeros((1, 1, 8), np.float32)
    hissing = noisy(silence, strength, 0.0, np.random.default_rng(0))
    level = hissing.mean((1, 2))
    assert (hissing >= silence).all()
    assert level.min() < -2.8 and -0.2 < level.max() < 0.1  # from 30 dB below to the mean strength, 0
    loud = np.full((4, 10, 8), 3.0, np.float32)
    assert np.abs(noisy(loud, strength, -10.0, np.random.default_rng(0)) - loud).max() < 0.001
    weak = np.full((1, 1, 8), -2.0, np.float32)  # a band is drowned by hiss of its own strength only
    below = noisy(silence, weak, 0.0, np.random.default_rng(0))
    assert -2.2 < below.mean((1, 2)).max() < -1.9


def test_the_strength_of_a_band_is_that_of_its_own_frames() -> None:
    frames = np.array([[[1, 5], [3, 7], [100, 100]]], np.float32)
    assert mean_strength(frames, np.array([2])).tolist() == [[[2, 6]]]


def test_blots_are_of_the_size_and_number_that_are_asked_for() -> None:
    frames, length = np.ones((300, 20, 8), np.float32), np.full(300, 20)
    config = SpectrogramAugmentationConfig(num_time_masks=1, time_mask_size=5)
    hidden = masked(frames, length, config, np.random.default_rng(0)) == 0
    assert (hidden.all(2) == hidden.any(2)).all()
    widths = hidden[:, :, 0].sum(1)
    assert set(widths) == {0, 1, 2, 3, 4, 5}
    config = SpectrogramAugmentationConfig(num_band_masks=2, band_mask_size=2)
    hidden = masked(frames, length, config, np.random.default_rng(0)) == 0
    assert (hidden.all(1) == hidden.any(1)).all()
    assert set(hidden[:, 0].sum(1)) == {0, 1, 2, 3, 4}
    assert hidden[:, 0].any(0).all()  # every band is hidden at times


EVERYTHING = {
    "shift": 4,
    "loudest_noise": 0.0,
    "band_shift": 1.0,
    "num_time_masks": 1,
    "num_band_masks": 1,
}


@pytest.mark.parametrize(("frames_per_row", "num_frames"), [(2, None), (None, 30)])
def test_a_batch_that_is_changed_is_still_one(frames_per_row: int | None, num_frames: int | None) -> None:
    ear = hearing(frames_per_row, num_frames, **EVERYTHING)
    rng = np.random.default_rng(0)
    spectrograms = [rng.normal(0, 1, (size, 8)).astype(np.float32) for size in (30, 17, 5)]
    batch = ear.examples(spectrograms, np.arange(3)).batch(np.arange(3))
    changed = ear.augmented(batch, np.random.default_rng(1))
    assert changed.obs.dtype == torch.float32 and changed.obs.shape[2:] == batch.obs.shape[2:]
    assert torch.equal(changed.target, batch.target)
    if frames_per_row is not None:
        assert batch.length is not None and changed.length is not None
        assert (changed.length >= batch.length).all() and (changed.length <= batch.length + 2).all()
        assert changed.obs.shape[0] == changed.length.max()
    else:
        assert changed.obs.shape == batch.obs.shape
    assert torch.equal(changed.obs, ear.augmented(batch, np.random.default_rng(1)).obs)
    assert not torch.equal(changed.obs, ear.augmented(batch, np.random.default_rng(2)).obs)
    same = hearing(frames_per_row, num_frames).augmented(batch, rng)
    assert torch.equal(same.obs, batch.obs)


SIZES = np.array([30, 17, 5])


def recordings() -> list[np.ndarray]:
    """Three recordings of 8 bands, each measured from its own mean as `spectrogram` does."""
    rng = np.random.default_rng(0)
    frames = [rng.normal(0, 1, (1, size, 8)).astype(np.float32) for size in SIZES]
    return [centred(one, np.array([one.shape[1]]), "band")[0] for one in frames]


@pytest.mark.parametrize(("frames_per_row", "num_frames"), [(4, None), (None, 30)])
def test_what_is_learned_from_is_measured_as_what_is_tested_on(
    frames_per_row: int | None, num_frames: int | None
) -> None:
    ear = hearing(frames_per_row, num_frames, loudest_noise=-200.0)  # far too faint to change anything
    batch = ear.examples(recordings(), np.arange(3)).batch(np.arange(3))
    changed = ear.augmented(batch, np.random.default_rng(1))
    torch.testing.assert_close(changed.obs, batch.obs, atol=1e-5, rtol=0)
    ear = hearing(frames_per_row, num_frames, loudest_noise=20.0, band_shift=1.0)
    changed = ear.augmented(batch, np.random.default_rng(1))
    for column, size in enumerate(SIZES):
        frames = changed.obs[:, column].reshape(-1, 8)
        assert (frames[:size] - batch.obs[:, column].reshape(-1, 8)[:size]).abs().max() > 0.5
        assert frames[:size].mean(0).abs().max() < 1e-5  # measured from the new mean
        assert (frames[size:] == frames[:size].min()).all()  # and filled up with what is faintest now


def test_blots_are_at_the_mean_that_hiss_has_lifted() -> None:
    config = SpectrogramAugmentationConfig(loudest_noise=20.0, num_band_masks=1, band_mask_size=6)
    frames = augmented(FRAMES, LENGTH, mean_strength(FRAMES, LENGTH), config, "recording", np.random.default_rng(0))
    hidden = (frames == 0).all(1)
    assert 0 < hidden.sum() < hidden.size
    bare = SpectrogramAugmentationConfig(loudest_noise=20.0)
    before = augmented(FRAMES, LENGTH, mean_strength(FRAMES, LENGTH), bare, "recording", np.random.default_rng(0))
    assert all(abs(one[:size].mean()) < 1e-5 for one, size in zip(before, LENGTH, strict=True))
    assert np.array_equal(frames, np.where(hidden[:, None], 0, before))
