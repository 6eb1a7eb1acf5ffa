"""Recordings that are easily told apart: tones, 'low' of 300 Hz, 'mid' of 800 Hz and 'high' of 2000 Hz."""

from __future__ import annotations

import numpy as np

RATE = 8000
PITCHES = {"low": 300, "mid": 800, "high": 2000}


def tone(pitch: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


def tones(words: list[str], rng: np.random.Generator) -> np.ndarray:
    """Each word a tone of about a sixth of a second, with pauses."""
    pieces = [np.zeros(400)]
    for word in words:
        pieces += [
            tone(PITCHES[word] * rng.uniform(0.9, 1.1), rng.uniform(0.12, 0.2)),
            np.zeros(rng.integers(300, 700)),
        ]
    wave = np.concatenate(pieces)
    return wave + 0.003 * rng.standard_normal(len(wave))
