"""What is a text about, or does its writer like it? T tokens in time, B texts, K classes, N texts in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt, MinLen
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from triathlon.networks.errors import SettingError, refuse_unread
from triathlon.training.supervised.classification import Classification, ClassificationConfig
from triathlon.training.supervised.examples import Batch, Dataset, Examples, Splits
from triathlon.training.supervised.heads import Network, Pooling
from triathlon.training.supervised.sources import PartsConfig
from triathlon.training.supervised.task import Evaluation
from triathlon.training.supervised.texts.sources import read_text, read_texts
from triathlon.training.supervised.texts.words import (
    UNKNOWN,
    LeftOut,
    Vocabulary,
    log_count_ratios,
    pad,
    split_words,
)


@dataclass(frozen=True)
class TextClassificationConfig(ClassificationConfig):
    """Settings of text classification."""

    kind: Annotated[str, "what a text is about, or whether its writer likes it"] = "text_classification"
    source: Annotated[
        str,
        MinLen(1),
        "rotten_tomatoes, imdb, r8, r52, 20newsgroups, a table with columns text and label, or a folder with one "
        "for each class",
    ] = "rotten_tomatoes"
    parts: PartsConfig = field(default_factory=PartsConfig)
    vocabulary_size: Annotated[int, Gt(0), "words that are told apart, the most frequent ones"] = 20_000
    min_count: Annotated[int, Gt(0), "rarer words are not told apart"] = 2
    max_length: Annotated[int, Gt(0), "words of a text that are read"] = 256
    left_out: Annotated[LeftOut, "what is not read of longer texts: their end, or their middle"] = "end"
    word_dropout: Annotated[float, Ge(0), Lt(1), "share of words made unknown while they are learned from"] = 0.0
    embedding_std: Annotated[float, Gt(0), "standard deviation of the words' vectors at the start"] = 0.1
    word_start: Annotated[
        Literal["noise", "counts"],
        "what words' vectors start from: noise, or in it one feature a class, how much more frequent the word is there",
    ] = "noise"
    words_learn: Annotated[bool, "words' vectors learn; false: they stay as they start"] = True
    pooling: Pooling = "mean"


class TextClassification(Classification):
    """A text is a sequence of `Discrete` observations, one a word. `facts["words"]` are those told apart."""

    Config = TextClassificationConfig
    reads_in_order = True
    config: TextClassificationConfig

    def __init__(self, config: TextClassificationConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        if facts is None:
            data = read_texts(config.source, config.parts)
            words = [[split_words(text) for text in part[0]] for part in (data.train, data.validation, data.test)]
            vocabulary = Vocabulary.of(words[0], config.vocabulary_size, config.min_count)
            facts = {"classes": data.classes, "words": vocabulary.words}
            targets = (data.train[1], data.validation[1], data.test[1])
            numbered = [[vocabulary.numbers(text) for text in part] for part in words]
            self.data = Splits(*(self._pad(n, t) for n, t in zip(numbered, targets, strict=True)))
            self._texts = {id(self.data.validation): data.validation[0], id(self.data.test): data.test[0]}
        self.vocabulary = Vocabulary(facts["words"])
        self.facts = facts
        if self.data is not None:
            self.weigh_classes(data.train[1])
        self.space = spaces.Discrete(len(self.vocabulary))

    def prepare(self, network: Network) -> None:
        """Small vectors: what a rare word says must not be the noise that torch draws from N(0, 1) for it.

        Raises:
            SettingError: the backbone has no words' vectors to which these settings apply, or none with a feature for
                each class.
        """
        tables = [module for module in network.modules() if isinstance(module, nn.Embedding)]
        if not tables:
            unread = ("embedding_std", "word_start", "words_learn")
            refuse_unread(self.config, unread, "the backbone has words' vectors (kind: tokens)", "task.")
        for table in tables:
            table.weight.mul_(self.config.embedding_std)
            if not self.config.words_learn:  # else they learn if the backbone does
                table.weight.requires_grad_(False)
        if self.config.word_start == "counts":
            num_classes = len(self.classes)
            if tables[0].embedding_dim < num_classes:
                raise SettingError(
                    f"task.word_start: counts needs words' vectors of at least {num_classes} features, one for each "
                    f"class, and these have {tables[0].embedding_dim} (embedding_size); set it to noise"
                )
            if self.data is not None:  # else trained weights take their place
                assert isinstance(self.data.train, Examples)
                ratios = log_count_ratios(self.data.train, num_classes, len(self.vocabulary))
                tables[0].weight[:, :num_classes] = torch.from_numpy(ratios).float()
        super().prepare(network)

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        if not self.config.word_dropout:
            return batch
        lost = torch.from_numpy(rng.random(batch.obs.shape) < self.config.word_dropout)
        return replace(batch, obs=batch.obs.masked_fill(lost, UNKNOWN))

    def show(
        self, found: Evaluation, network: Network, dataset: Dataset, probability: NDArray[Any], device: torch.device
    ) -> None:
        assert isinstance(dataset, Examples)
        texts = self._texts[id(dataset)]
        lines = ["| text | is | taken for |", "|---|---|---|"]
        for i in self.sample_indices(probability, dataset.target, 16):
            start = " ".join(texts[i][:200].replace("|", "/").split())
            lines.append(f"| {start} | {self.classes[dataset.target[i]]} | {self.in_words(probability[i], 2)} |")
        found.texts["samples"] = "\n".join(lines)

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Text files, each one text."""
        for file in files:
            tokens = self.vocabulary.numbers(split_words(read_text(file)))
            batch = self._pad([tokens], np.zeros(1, np.int64)).batch(np.arange(1)).to(device)
            logits = network(batch.obs, None, batch.length)[0]
            yield f"{file}: {self.in_words(logits.softmax(-1)[0].cpu().numpy())}"

    def _pad(self, texts: Sequence[Sequence[int]], target: NDArray[np.int64]) -> Examples:
        return pad(texts, self.config.max_length, target, self.config.left_out)


__all__ = ["TextClassification", "TextClassificationConfig"]
