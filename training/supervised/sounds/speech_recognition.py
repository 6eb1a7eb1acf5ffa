"""What is said? T rows in time, B recordings, K tokens with the blank, L tokens of a text, F frames, N in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt, MinLen
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.backbone import State
from triathlon.networks.errors import SettingError
from triathlon.training.errors import RunError
from triathlon.training.supervised.drawing import sheet
from triathlon.training.supervised.examples import Batch, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network, RowHead
from triathlon.training.supervised.sounds.ctc import BLANK, beam_search, ctc_loss, error_rate, greedy, rows_needed
from triathlon.training.supervised.sounds.hearing import Hearing
from triathlon.training.supervised.sounds.sound_files import check_packages, read_sound
from triathlon.training.supervised.sounds.sources import Recordings, read_transcribed
from triathlon.training.supervised.sounds.spectrogram import HearingConfig, spectrogram
from triathlon.training.supervised.sounds.spectrogram_augmentation import SpectrogramAugmentationConfig
from triathlon.training.supervised.sources import PartsConfig
from triathlon.training.supervised.task import Evaluation, Task, TaskConfig

NUM_SHOWN = 8


@dataclass(frozen=True)
class SpeechRecognitionConfig(TaskConfig):
    """Settings of speech recognition."""

    kind: Annotated[str, "what is said"] = "speech_recognition"
    source: Annotated[str, MinLen(1), "spoken_digit_strings, or a table with columns file and text"] = (
        "spoken_digit_strings"
    )
    parts: PartsConfig = field(default_factory=PartsConfig)
    unit: Annotated[Literal["word", "character"], "what a text is written in, one after another"] = "word"
    beam_size: Annotated[int, Gt(0), "beginnings of a text that are kept while it is searched for; 1: greedy"] = 1
    dropout: Annotated[float, Ge(0), Lt(1), "share of the features that the head does not see while it learns"] = 0.0
    hearing: HearingConfig = field(default_factory=HearingConfig)
    augmentation: SpectrogramAugmentationConfig = field(default_factory=SpectrogramAugmentationConfig)

    def __post_init__(self) -> None:
        if self.hearing.frames_per_row is None:
            raise SettingError("hearing.frames_per_row is null, but a text needs a row for each of its tokens")


class SpeechRecognition(Task):
    """Each row says a token or nothing, and what all rows say is the text. `facts["tokens"]` are 1, 2, …"""

    Config = SpeechRecognitionConfig
    reads_in_order = True
    metric = "word_error_rate"
    higher_is_better = False

    def __init__(self, config: SpeechRecognitionConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        self.hearing = Hearing(config.hearing, config.augmentation, None)
        self.space = self.hearing.space
        data = read_transcribed(config.source, config.hearing.sample_rate, config.parts) if facts is None else None
        if data is not None:
            facts = {"tokens": sorted({token for text in data.train[1] for token in self._tokens(text)})}
        assert facts is not None
        self.facts = facts
        self._number = {token: i for i, token in enumerate(facts["tokens"], start=1)}
        if data is not None:
            self.data = Splits(*(self._examples(part) for part in (data.train, data.validation, data.test)))
            self._others = {name: self._examples(part) for name, part in data.others.items()}

    def _tokens(self, text: str) -> list[str]:
        return text.split() if self.config.unit == "word" else list(text)

    def _examples(self, recordings: Recordings) -> Examples:
        """Targets `[N, L]` are padded with blanks."""
        spectrograms = [spectrogram(wave, self.config.hearing) for wave in recordings[0]]
        unknown = sorted({token for text in recordings[1] for token in self._tokens(text)} - set(self._number))
        if unknown:
            raise RunError(f"task.source: these are in no text that is learned from: {', '.join(unknown)}")
        texts = [[self._number[token] for token in self._tokens(text)] for text in recordings[1]]
        for frames, tokens, text in zip(spectrograms, texts, recordings[1], strict=True):
            if self.hearing.num_rows(frames) < rows_needed(tokens):
                raise RunError(
                    f"task.source: a recording of {self.hearing.num_rows(frames)} rows is too short for '{text}'; a "
                    "smaller hearing.frames_per_row or hearing.frame_shift makes more rows"
                )
        target = np.full((len(texts), max(map(len, texts))), BLANK, np.int64)
        for row, tokens in zip(target, texts, strict=True):
            row[: len(tokens)] = tokens
        return self.hearing.examples(spectrograms, target)

    def make_head(self, in_features: int) -> RowHead:
        return RowHead(in_features, len(self._number) + 1, self.config.dropout)

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return self.hearing.augmented(batch, rng)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        assert batch.length is not None
        logits, state = network(batch.obs, state, batch.length, generator)
        return ctc_loss(logits, batch.length, batch.target), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        """With the test part the other recordings too, their measures named after them."""
        found = self._evaluate(network, dataset, batch_size, device)
        if self.data is not None and dataset is self.data.test:
            for name, other in self._others.items():
                found.add(name, self._evaluate(network, other, batch_size, device))
        return found

    def _evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        assert isinstance(dataset, Examples)
        loss, heard = 0.0, []
        for batch in dataset.in_order(batch_size):
            batch = batch.to(device)
            assert batch.length is not None
            logits = network(batch.obs, None, batch.length)[0]
            loss += float(ctc_loss(logits, batch.length, batch.target)) * len(batch.target)
            heard += self.decode(logits, batch.length)
        said = [self.text([int(token) for token in row if token != BLANK]) for row in dataset.target]
        wrong = [i for i in range(len(said)) if said[i] != heard[i]]
        metrics = {
            "loss": loss / len(dataset),
            "word_error_rate": error_rate([text.split() for text in said], [text.split() for text in heard]),
            "character_error_rate": error_rate(said, heard),
            "accuracy": 1 - len(wrong) / len(said),
        }
        chosen = [*wrong, *(i for i in range(len(said)) if said[i] == heard[i])][:NUM_SHOWN]
        captions = [(heard[i] or "(nothing)", said[i] == heard[i]) for i in chosen]
        lines = ["| said | heard |", "|---|---|", *(f"| {said[i]} | {heard[i]} |" for i in chosen)]
        samples = sheet(self.hearing.pictures(dataset, chosen), 1, captions)
        return Evaluation(metrics, {"samples": samples}, {"samples": "\n".join(lines)})

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Sounds of any rate and format that libsndfile reads."""
        check_packages()
        for file in files:
            frames = spectrogram(read_sound(file, self.config.hearing.sample_rate), self.config.hearing)
            batch = self.hearing.examples([frames], np.zeros((1, 1), np.int64)).batch(np.arange(1)).to(device)
            assert batch.length is not None
            yield f"{file}: {self.decode(network(batch.obs, None, batch.length)[0], batch.length)[0]}"

    def decode(self, logits: Tensor, length: Tensor) -> list[str]:
        """The texts that `logits [T, B, K]` say, of which the first `length [B]` rows count."""
        log_probability, texts = logits.float().log_softmax(-1).cpu(), []
        for b, rows in enumerate(length.tolist()):
            own, size = log_probability[:rows, b], self.config.beam_size
            texts.append(self.text(greedy(own) if size == 1 else beam_search(own, size)[0]))
        return texts

    def text(self, tokens: Sequence[int] | NDArray[np.int64]) -> str:
        """The text of tokens 1, 2, …"""
        separator = " " if self.config.unit == "word" else ""
        return separator.join(self.facts["tokens"][token - 1] for token in tokens)


__all__ = ["SpeechRecognition", "SpeechRecognitionConfig"]
