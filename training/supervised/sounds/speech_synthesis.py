"""Words said by the voices of espeak-ng and flite, which are made once and kept. n samples, N recordings.

No recording comes with Triathlon: these are synthesised on the spot, so results on them say so.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triathlon.training.errors import RunError
from triathlon.training.supervised.sounds.sound_files import Wave, at_rate, check_packages

ACCENTS = ("en-gb", "en-us", "en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd")
FLITE_VOICES = ("awb", "kal16", "rms", "slt")  # of these slt is a woman; kal is kal16 at half the rate
VERSIONS = {"espeak-ng": ["espeak-ng", "--version"], "flite": ["flite", "-lv"]}  # flite --version ends with an error
PATIENCE = 30.0  # seconds for one utterance


@dataclass(frozen=True)
class Utterance:
    """What is said, by whom and how."""

    text: str
    engine: str  # espeak-ng or flite
    voice: str
    accent: str = ""  # flite's voices have their own
    speed: float = 1.0  # 1: as the voice is made
    pitch: float = 1.0


def espeak_voices() -> list[str]:
    """The names of espeak-ng's voices, which every accent can be said by, in order.

    Raises:
        RunError: espeak-ng is not there.
    """
    lines = _output(["espeak-ng", "--voices=variant"]).decode().splitlines()[1:]
    return sorted(line.partition("!v/")[2].split("  ")[0].strip() for line in lines)


def styles(text: str, voices: Sequence[tuple[str, str]], num_takes: int, rng: np.random.Generator) -> list[Utterance]:
    """A text said by each voice (engine, name), `num_takes` times, with accents, speeds and pitches drawn at random."""
    return [
        Utterance(
            text,
            engine,
            voice,
            str(rng.choice(ACCENTS)) if engine == "espeak-ng" else "",
            round(float(rng.uniform(0.7, 1.2)), 2),
            round(float(rng.uniform(0.8, 1.25)), 2),
        )
        for engine, voice in voices
        for _ in range(num_takes)
    ]


def say(utterance: Utterance, sample_rate: int) -> Wave:
    """One recording, made anew.

    Raises:
        RunError: the synthesiser is not there or fails.
    """
    check_packages()
    import soundfile

    if utterance.engine == "espeak-ng":
        style = ["-s", str(round(165 * utterance.speed)), "-p", str(round(50 * utterance.pitch))]
        name = f"{utterance.accent}+{utterance.voice}"
        content = _output(["espeak-ng", "-v", name, *style, "--stdout", utterance.text])
        content = _with_size(content)
    else:
        stretch = ["--setf", f"duration_stretch={1 / utterance.speed:.3f}"]
        stretch += (
            ["--setf", f"int_f0_target_mean={round(110 * utterance.pitch)}"] if utterance.voice == "kal16" else []
        )
        content = _output(["flite", "-voice", utterance.voice, *stretch, "-t", utterance.text, "-o", "/dev/stdout"])
    try:
        wave, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise RunError(f"{utterance.engine} said nothing as {utterance}: {error}") from error
    return at_rate(wave, rate, sample_rate)


def say_all(utterances: Sequence[Utterance], sample_rate: int) -> list[Wave]:
    """Recordings of all utterances, from the cache folder if they were made before.

    Raises:
        RunError: a synthesiser is not there or fails, or the cache folder cannot be written.
    """
    versions = [_output(VERSIONS[engine]).decode() for engine in sorted({u.engine for u in utterances})]
    order = json.dumps([versions, sample_rate, [asdict(utterance) for utterance in utterances]])
    path = cache_folder() / f"speech-{hashlib.sha256(order.encode()).hexdigest()[:20]}.npz"
    if not path.is_file():
        waves = [say(utterance, sample_rate) for utterance in utterances]
        samples = np.round(np.concatenate(waves) * 32767).clip(-32768, 32767).astype(np.int16)
        _keep(path, samples, np.array([len(wave) for wave in waves]))
    try:
        with np.load(path, allow_pickle=False) as kept:
            samples, sizes = kept["samples"], kept["sizes"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it, and it is made again") from error
    pieces = np.split(samples.astype(np.float32) / 32767, np.cumsum(sizes)[:-1])
    return [np.asarray(piece, np.float32) for piece in pieces]


def cache_folder() -> Path:
    """Where what was made once is kept: a folder of the user's cache (XDG_CACHE_HOME, else ~/.cache)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "triathlon"


def _keep(path: Path, samples: NDArray[np.int16], sizes: NDArray[np.int64]) -> None:
    """Written beside, then renamed: no run ever reads half a file."""
    beside = path.with_name(f"{path.stem}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            np.savez_compressed(file, samples=samples, sizes=sizes)
        beside.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _with_size(content: bytes) -> bytes:
    """A .wav file whose sizes say what is there: espeak-ng does not know them when it begins to write to a pipe."""
    size = len(content)
    return (
        content[:4]
        + (size - 8).to_bytes(4, "little")
        + content[8:40]
        + (size - 44).to_bytes(4, "little")
        + content[44:]
    )


def _output(command: Sequence[str]) -> bytes:
    if shutil.which(command[0]) is None:
        raise RunError(
            f"task.source: spoken words are made by {command[0]}, which is not there; on Debian and Ubuntu "
            "'apt-get install espeak-ng flite' puts it there"
        )
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout
    except (subprocess.SubprocessError, OSError) as error:
        raise RunError(f"{' '.join(command)} failed: {error}") from error


__all__ = ["FLITE_VOICES", "Utterance", "cache_folder", "espeak_voices", "say", "say_all", "styles"]
