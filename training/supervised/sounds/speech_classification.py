"""Which word is said, or who speaks? T rows in time, B recordings, K classes, F frames, N recordings in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import MinLen
from numpy.typing import NDArray

from triathlon.networks.errors import SettingError
from triathlon.training.errors import RunError
from triathlon.training.supervised.classification import Classification, ClassificationConfig
from triathlon.training.supervised.drawing import sheet
from triathlon.training.supervised.examples import Batch, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.sounds.hearing import Hearing
from triathlon.training.supervised.sounds.sound_files import check_packages, read_sound
from triathlon.training.supervised.sounds.sources import Recordings, read_labelled
from triathlon.training.supervised.sounds.spectrogram import HearingConfig, spectrogram
from triathlon.training.supervised.sounds.spectrogram_augmentation import SpectrogramAugmentationConfig
from triathlon.training.supervised.sources import PartsConfig
from triathlon.training.supervised.task import Evaluation


@dataclass(frozen=True)
class SpeechClassificationConfig(ClassificationConfig):
    """Settings of speech classification."""

    kind: Annotated[str, "which word is said, or who speaks"] = "speech_classification"
    source: Annotated[
        str, MinLen(1), "spoken_digits, spoken_voices (who speaks), or a folder with one of sounds for each class"
    ] = "spoken_digits"
    parts: PartsConfig = field(default_factory=PartsConfig)
    hearing: HearingConfig = field(default_factory=HearingConfig)
    augmentation: SpectrogramAugmentationConfig = field(default_factory=SpectrogramAugmentationConfig)

    def __post_init__(self) -> None:
        if self.pooling != "last" and self.hearing.frames_per_row is None:
            raise SettingError(
                f"pooling is {self.pooling}, but a recording that is heard at once is one row; set "
                "hearing.frames_per_row, or leave it out"
            )


class SpeechClassification(Classification):
    """A recording is a sequence of frames' spectra, or a picture of them."""

    Config = SpeechClassificationConfig
    reads_in_order = True
    config: SpeechClassificationConfig

    def __init__(self, config: SpeechClassificationConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        parts = []
        if facts is None:
            data = read_labelled(config.source, config.hearing.sample_rate, config.parts)
            parts = [
                (self._heard(part), part[1]) for part in (data.train, data.validation, data.test, *data.others.values())
            ]
            longest = max(len(frames) for frames in parts[0][0])
            whole = config.hearing.frames_per_row is None
            facts = {"classes": list(dict.fromkeys(data.train[1])), "num_frames": longest if whole else None}
        self.facts = facts
        self.hearing = Hearing(config.hearing, config.augmentation, facts["num_frames"])
        self.space = self.hearing.space
        if parts:
            train, validation, test, *others = (self._examples(*part) for part in parts)
            self.data, self._others = Splits(train, validation, test), dict(zip(data.others, others, strict=True))
            self.weigh_classes(train.target)

    def _heard(self, recordings: Recordings) -> list[NDArray[np.float32]]:
        return [spectrogram(wave, self.config.hearing) for wave in recordings[0]]

    def _examples(self, spectrograms: Sequence[NDArray[np.float32]], labels: Sequence[str]) -> Examples:
        unknown = set(labels) - set(self.classes)
        if unknown:
            raise RunError(f"task.source: the training part lacks the classes {', '.join(sorted(unknown))}")
        return self.hearing.examples(spectrograms, np.array([self.classes.index(name) for name in labels], np.int64))

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return self.hearing.augmented(batch, rng)

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        """As every classification; with the test part the other recordings too, their measures named after them."""
        found = super().evaluate(network, dataset, batch_size, device)
        if self.data is not None and dataset is self.data.test:
            for name, other in self._others.items():
                found.add(name, super().evaluate(network, other, batch_size, device))
        return found

    def show(
        self, found: Evaluation, network: Network, dataset: Dataset, probability: NDArray[Any], device: torch.device
    ) -> None:
        assert isinstance(dataset, Examples)
        chosen = self.sample_indices(probability, dataset.target, 16)
        guess, target = probability.argmax(-1), dataset.target
        captions = [(self.classes[guess[i]], bool(guess[i] == target[i])) for i in chosen]
        found.pictures["samples"] = sheet(self.hearing.pictures(dataset, chosen), 4, captions)

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Sounds of any rate and format that libsndfile reads."""
        check_packages()
        for file in files:
            frames = spectrogram(read_sound(file, self.config.hearing.sample_rate), self.config.hearing)
            batch = self.hearing.examples([frames], np.zeros(1, np.int64)).batch(np.arange(1)).to(device)
            logits = network(batch.obs, None, batch.length)[0]
            yield f"{file}: {self.in_words(logits.softmax(-1)[0].cpu().numpy())}"


__all__ = ["SpeechClassification", "SpeechClassificationConfig"]
