"""Recordings with what is said or who speaks: synthesised digits, and a person's own folders and tables.

N recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import SPLIT_SEED, Indices, parts
from triathlon.training.supervised.sounds.sound_files import SUFFIXES, Wave, check_packages, read_sound
from triathlon.training.supervised.sounds.speech_synthesis import (
    FLITE_VOICES,
    Utterance,
    espeak_voices,
    say_all,
    styles,
)
from triathlon.training.supervised.sources import USUAL_PARTS, PartsConfig, class_names, pick, read_table, three_parts

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT_SHARE = 0.1  # of the voices, for choosing and again for testing
MOST_DIGITS = 7  # of a string

# Debian's asterisk-core-sounds-en-wav: Allison Smith, CC-BY-SA 3.0. Read where it is installed, never copied.
RECORDED_DIGITS = Path("/usr/share/asterisk/sounds/en_US_f_Allison/digits")

MADE = ("spoken_digits", "spoken_voices")

Recordings = tuple[list[Wave], list[str]]  # N waves, and what is said in each or who speaks


@dataclass(frozen=True)
class SoundData:
    """Recordings in three parts, and more of them to be tested on by name."""

    train: Recordings
    validation: Recordings
    test: Recordings
    others: dict[str, Recordings] = field(default_factory=dict)


def read_labelled(source: str, sample_rate: int, parts: PartsConfig = USUAL_PARTS) -> SoundData:
    """Recordings of one class each: `spoken_digits`, `spoken_voices`, or a folder with one for each class.

    Raises:
        RunError: no such source or folder, a package or a synthesiser is missing, a file is no sound, or `parts` is
            not read.
    """
    check_packages()
    if source in MADE:
        parts.refuse("recordings", True, True)
        return spoken_digits(sample_rate) if source == "spoken_digits" else spoken_voices(sample_rate)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise RunError(_no_source(source, MADE, "folder"))
    if not (folder / "train").is_dir():
        return _split(_folder(folder, sample_rate), None, None, parts)
    validation, test = (
        _folder(folder / part, sample_rate) if (folder / part).is_dir() else None for part in ("val", "test")
    )
    return _split(_folder(folder / "train", sample_rate), test, validation, parts)


def read_transcribed(source: str, sample_rate: int, parts: PartsConfig = USUAL_PARTS) -> SoundData:
    """Recordings with the text of each: `spoken_digit_strings`, or a table with columns file and text.

    A table's files are looked for from its folder. A column `part` (train, val, test) keeps its parts.

    Raises:
        RunError: no such source or file, a package or a synthesiser is missing, a file is no sound, or `parts` is
            not read.
    """
    check_packages()
    if source == "spoken_digit_strings":
        parts.refuse("recordings", True, True)
        return spoken_digit_strings(sample_rate)
    path = Path(source).expanduser()
    if not path.is_file():
        raise RunError(_no_source(source, ("spoken_digit_strings",), "table"))
    rows: dict[str, list[tuple[Wave, str]]] = {"train": [], "val": [], "test": []}
    for row in read_table(path, "file", "text"):
        if not row["file"] or not row["text"].strip():
            raise RunError(f"{path} has a row without a file or a text")
        part = row.get("part") or "train"
        if part not in rows:
            raise RunError(f"{path}: part is '{part}' but should be one of {', '.join(rows)}")
        rows[part].append((read_sound(path.parent / row["file"], sample_rate), " ".join(row["text"].lower().split())))
    train, validation, test = (_recordings(rows[part]) if rows[part] else None for part in ("train", "val", "test"))
    if train is None:
        raise RunError(f"{path} has no row to learn from")
    return _split(train, test, validation, parts)


def spoken_digits(sample_rate: int) -> SoundData:
    """The ten digits by 101 voices of espeak-ng, some of them held out, and by flite's, of which slt is held out.

    Tested too: `flite`, by the voice that is held out, and `recorded`, ten recordings of a real speaker, where they
    are installed (Debian's asterisk-core-sounds-en-wav).
    """
    train, validation, test = _voices()
    rng = np.random.default_rng(SPLIT_SEED)

    def said(voices: Sequence[tuple[str, str]], num_takes: int) -> Recordings:
        return _said([u for digit in DIGITS for u in styles(digit, voices, num_takes, rng)], sample_rate)

    flite = [("flite", voice) for voice in FLITE_VOICES]
    learned = _joined(said(train, 4), said(flite[:-1], 16))
    data = SoundData(learned, said(validation, 4), said(test, 4), {"flite": said(flite[-1:], 8)})
    if RECORDED_DIGITS.is_dir():
        data.others["recorded"] = _recorded(sample_rate), list(DIGITS)
    return data


def spoken_digit_strings(sample_rate: int) -> SoundData:
    """Strings of one to seven digits, said in one go by the voices of `spoken_digits`, parted as they are.

    Tested too: `flite`, and `recorded`, 100 strings put together from the ten recordings of a real speaker.
    """
    train, validation, test = _voices()
    rng = np.random.default_rng(SPLIT_SEED)

    def said(voices: Sequence[tuple[str, str]], num_takes: int) -> Recordings:
        chosen = [styles(_digit_string(rng), [voice], 1, rng)[0] for voice in voices for _ in range(num_takes)]
        return _said(chosen, sample_rate)

    flite = [("flite", voice) for voice in FLITE_VOICES]
    learned = _joined(said(train, 30), said(flite[:-1], 120))
    data = SoundData(learned, said(validation, 10), said(test, 20), {"flite": said(flite[-1:], 50)})
    if RECORDED_DIGITS.is_dir():
        recorded = _recorded(sample_rate)
        texts = [_digit_string(rng) for _ in range(100)]
        waves = [np.concatenate([recorded[DIGITS.index(word)] for word in text.split()]) for text in texts]
        data.others["recorded"] = waves, texts
    return data


def spoken_voices(sample_rate: int) -> SoundData:
    """Who speaks? Four voices of flite and eight of espeak-ng say strings of digits, others in each part."""
    voices = [("flite", voice) for voice in FLITE_VOICES]
    voices += [("espeak-ng", f"{kind}{number}") for kind in "mf" for number in range(1, 5)]
    rng = np.random.default_rng(SPLIT_SEED)
    strings = [f"{i:03}" for i in rng.permutation(1000)]

    def said(first: int, last: int) -> Recordings:
        texts = [" ".join(DIGITS[int(digit)] for digit in string) for string in strings[first:last]]
        utterances = [u for text in texts for u in styles(text, voices, 1, rng)]
        return _said(utterances, sample_rate)[0], [utterance.voice for utterance in utterances]

    return SoundData(said(0, 40), said(40, 48), said(48, 64))


def _voices() -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str]]]:
    """The voices of espeak-ng to learn from, to choose by and to test with."""
    voices = [("espeak-ng", name) for name in espeak_voices()]
    rest, test = parts(len(voices), HELD_OUT_SHARE)
    train, validation = parts(len(rest), HELD_OUT_SHARE)
    return [voices[i] for i in rest[train]], [voices[i] for i in rest[validation]], [voices[i] for i in test]


def _said(utterances: Sequence[Utterance], sample_rate: int) -> Recordings:
    return say_all(utterances, sample_rate), [utterance.text for utterance in utterances]


def _digit_string(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(DIGITS, rng.integers(1, MOST_DIGITS + 1)))


def _recorded(sample_rate: int) -> list[Wave]:
    return [read_sound(RECORDED_DIGITS / f"{digit}.wav", sample_rate) for digit in range(10)]


def _folder(folder: Path, sample_rate: int) -> Recordings:
    files = [
        (path, name)
        for name in class_names(folder)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise RunError(f"task.source: there are no sounds ({', '.join(sorted(SUFFIXES))}) in the folders of {folder}")
    return [read_sound(path, sample_rate) for path, _ in files], [name for _, name in files]


def _no_source(source: str, names: Sequence[str], what: str) -> str:
    return (
        f"task.source: there is no {what} '{source}' and no source of that name{nearest(source, names)}; "
        f"there are {', '.join(names)}"
    )


def _joined(*several: Recordings) -> Recordings:
    return [wave for waves, _ in several for wave in waves], [text for _, texts in several for text in texts]


def _recordings(pairs: Sequence[tuple[Wave, str]]) -> Recordings:
    return [wave for wave, _ in pairs], [text for _, text in pairs]


def _split(train: Recordings, test: Recordings | None, validation: Recordings | None, config: PartsConfig) -> SoundData:
    """The parts that are there, and those that are not taken from `train`."""

    def take(recordings: Recordings, chosen: Indices) -> Recordings:
        waves, texts = recordings
        return pick(waves, chosen), pick(texts, chosen)

    return SoundData(
        *three_parts(train, test, validation, config, take, lambda recordings: len(recordings[0]), "recordings")
    )


__all__ = ["DIGITS", "Recordings", "SoundData", "read_labelled", "read_transcribed"]
