"""From a recording to how strong each band of frequencies is, frame by frame.

n samples, F frames, M bands, B recordings of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from triathlon.training.errors import RunError
from triathlon.training.supervised.sounds.sound_files import Wave

# Quieter than this below the loudest is silence: a synthesiser's is perfect, a room's is not.
DYNAMIC_RANGE = 6.0  # bel

Spectrogram = NDArray[np.float32]  # [F, M]


@dataclass(frozen=True)
class HearingConfig:
    """How a recording is heard."""

    sample_rate: Annotated[
        int, Ge(4000), "samples per second that recordings are brought to; 8000 is a telephone's"
    ] = 8000
    num_bands: Annotated[int, Ge(8), Le(128), "bands of frequencies, evenly spaced on the mel scale"] = 40
    frame_shift: Annotated[float, Gt(0), "milliseconds from one frame to the next; each covers 2.5 times that"] = 10.0
    frames_per_row: Annotated[
        int | None, Gt(0), "frames that are read at once, as one row; null: the whole recording"
    ] = 3
    as_picture: Annotated[bool, "a row is a picture of frames x bands, for a backbone that sees"] = False
    relative_to: Annotated[
        Literal["band", "recording"],
        "what strength is measured from: each band's mean, so that microphones matter less, or one mean of all",
    ] = "band"


def spectrogram(wave: Wave, config: HearingConfig) -> Spectrogram:
    """Strength in bel (tenfold power is 1) of the bands of each frame, 0 on average: log-mel features.

    Frames and filters are Kaldi's (kaldi-native-fbank): 25 ms frames, pre-emphasis, triangles evenly spaced in mel.

    Raises:
        RunError: there are more bands than the frames can tell apart.
    """
    from kaldi_native_fbank import FbankOptions, OnlineFbank

    options = FbankOptions()
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.frame_shift_ms = config.frame_shift
    options.frame_opts.frame_length_ms = 2.5 * config.frame_shift
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False  # as many frames as shifts fit into the recording
    options.mel_opts.num_bins = config.num_bands
    options.use_log_fbank = False
    try:
        bank = OnlineFbank(options)
    except ValueError as error:  # a band would lie between two frequencies of the frames' spectrum
        raise RunError(
            f"task.hearing.num_bands is {config.num_bands}, but frames of {2.5 * config.frame_shift:g} ms of "
            f"{config.sample_rate} samples per second cannot tell so many bands apart; make it less, or "
            "task.hearing.frame_shift more"
        ) from error
    bank.accept_waveform(config.sample_rate, wave)
    bank.input_finished()
    frames = [bank.get_frame(i) for i in range(bank.num_frames_ready)]
    if not frames:  # shorter than half a shift
        return np.zeros((1, config.num_bands), np.float32)
    power = np.stack(frames)
    loudest = max(float(power.max()), 1e-20)
    bel = np.log10(np.maximum(power, loudest * 10**-DYNAMIC_RANGE))
    relative: Spectrogram = centred(bel[None], np.array([len(bel)]), config.relative_to)[0]
    return relative


def centred(frames: NDArray[np.float32], length: NDArray[np.int64], relative_to: str) -> NDArray[np.float32]:
    """`[B, F, M]` less the mean of each band or of all, over the frames before `length [B]`."""
    valid = (np.arange(frames.shape[1]) < length[:, None])[..., None]
    mean = (frames * valid).sum(1, keepdims=True) / length[:, None, None]
    if relative_to == "recording":
        mean = mean.mean(2, keepdims=True)
    return np.asarray(frames - mean, np.float32)


__all__ = ["HearingConfig", "Spectrogram", "centred", "spectrogram"]
