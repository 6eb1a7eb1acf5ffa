"""What is a signal in time? T frames, B examples, C channels, P frames of a patch, K classes, N examples in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, MinLen
from gymnasium import spaces
from numpy.typing import NDArray

from triathlon.networks.errors import SettingError
from triathlon.networks.images import PictureBackbone
from triathlon.training.supervised.classification import Classification, ClassificationConfig
from triathlon.training.supervised.examples import Batch, Examples, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.signals.sources import SequenceData, read_sequences, read_signal
from triathlon.training.supervised.sources import PartsConfig


@dataclass(frozen=True)
class SequenceClassificationConfig(ClassificationConfig):
    """Settings of the classification of signals."""

    kind: Annotated[str, "what a signal in time is"] = "sequence_classification"
    source: Annotated[
        str, MinLen(1), "mnist1d, japanese_vowels, a .ts file, or an .npz file with x [N, T] or [N, T, C] and y [N]"
    ] = "mnist1d"
    parts: PartsConfig = field(default_factory=PartsConfig)
    as_rows: Annotated[bool, "read in time, for a memory; false: seen at once, as a picture of one line"] = True
    patch_size: Annotated[int, Gt(0), "with as_rows: frames that are read together as one row"] = 1
    noise: Annotated[float, Ge(0), "added to what is learned from, in standard deviations of a channel"] = 0.0

    def __post_init__(self) -> None:
        if not self.as_rows and (self.pooling != "last" or self.patch_size != 1):
            raise SettingError(
                "pooling and patch_size are of signals that are read in time; set as_rows: true, or leave them out"
            )


class SequenceClassification(Classification):
    """Signals `[T, C]` of floats, read in time as rows `[P · C]` or seen at once as a picture `[(C,) 1, T]`.

    `facts` has the number of frames and, for each channel, mean and deviation by which signals are standardised.
    """

    Config = SequenceClassificationConfig
    config: SequenceClassificationConfig

    def __init__(self, config: SequenceClassificationConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        data: SequenceData | None = None
        if facts is None:
            data = read_sequences(config.source, config.parts)
            frames = _frames(data.train)
            facts = {
                "classes": data.classes,
                "num_frames": data.train.obs.shape[1],
                "mean": frames.mean(0, dtype=np.float64).tolist(),
                "std": (frames.std(0, dtype=np.float64) + 1e-8).tolist(),
            }
        self.facts = facts
        num_frames, num_channels = facts["num_frames"], len(facts["mean"])
        shape: tuple[int, ...] = (config.patch_size * num_channels,)
        if not config.as_rows:
            shape = (1, num_frames) if num_channels == 1 else (num_channels, 1, num_frames)
        self._shape = shape
        self.space = spaces.Box(-np.inf, np.inf, shape, np.float32)
        if data is not None:
            self.data = Splits(*(self.examples(part) for part in (data.train, data.validation, data.test)))
            self.weigh_classes(data.train.target)

    def examples(self, signals: Examples) -> Examples:
        """Signals `[N, T, C]` as a network sees them: `[N, rows, P · C]`, or `[N, 1, (C,) 1, T]`."""
        num_frames, size = self.facts["num_frames"], self.config.patch_size
        obs = ((signals.obs - self.facts["mean"]) / self.facts["std"]).astype(np.float32)
        if signals.length is not None:
            obs[np.arange(obs.shape[1]) >= signals.length[:, None]] = 0.0
        if not self.config.as_rows:
            obs = obs[:, :num_frames]
            obs = np.pad(obs, [(0, 0), (0, num_frames - obs.shape[1]), (0, 0)])
            return Examples(obs.transpose(0, 2, 1).reshape(len(obs), 1, *self._shape), signals.target)
        obs = np.pad(obs, [(0, 0), (0, -obs.shape[1] % size), (0, 0)])
        length = None if signals.length is None else -(-signals.length // size)
        return Examples(obs.reshape(len(obs), -1, size * obs.shape[2]), signals.target, length)

    def prepare(self, network: Network) -> None:
        """
        Raises:
            SettingError: a backbone takes time for the channels of a signal that is seen at once.
        """
        num_frames, num_channels = self.facts["num_frames"], len(self.facts["mean"])
        for part in network.modules():
            if not self.config.as_rows and isinstance(part, PictureBackbone) and part.read.channels != num_channels:
                raise SettingError(
                    f"backbone.layout: signals of {num_channels} channels and {num_frames} frames would be seen as of "
                    f"{part.read.channels} channels; set it to channels_first"
                )

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        if not self.config.noise:
            return batch
        noise = self.config.noise * rng.standard_normal(batch.obs.shape, np.float32)
        return replace(batch, obs=batch.obs + torch.from_numpy(noise))

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Signals in .npy files or as text, a frame in each line."""
        for file in files:
            signal = read_signal(file, len(self.facts["mean"]))
            batch = self.examples(Examples(signal[None], np.zeros(1, np.int64))).batch(np.arange(1)).to(device)
            yield f"{file}: {self.in_words(network(batch.obs)[0].softmax(-1)[0].cpu().numpy())}"


def _frames(signals: Examples) -> NDArray[Any]:
    """All frames `[n, C]` that are no padding."""
    if signals.length is None:
        return signals.obs.reshape(-1, signals.obs.shape[2])
    frames: NDArray[Any] = signals.obs[np.arange(signals.obs.shape[1]) < signals.length[:, None]]
    return frames


__all__ = ["SequenceClassification", "SequenceClassificationConfig"]
