"""From texts to numbers and back: words that occur often, or characters. V entries, N texts, L tokens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from triathlon.training.supervised.examples import Examples

LeftOut: TypeAlias = Literal["end", "middle"]

PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Words in lower case, and signs one by one; line breaks of web pages are spaces."""
    return _WORD.findall(text.replace("<br />", " ").lower())


class Vocabulary:
    """The entries of a language and their numbers; 0 is padding and 1 stands for everything else."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._number = {word: i for i, word in enumerate(self.words, start=2)}

    @staticmethod
    def of(texts: Iterable[Sequence[str]], size: int, min_count: int = 2) -> Vocabulary:
        """The words that occur in at least `min_count` places, at most `size` of them, the most frequent first."""
        counts = Counter(word for words in texts for word in words)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return Vocabulary([word for word, count in ranked[:size] if count >= min_count])

    def __len__(self) -> int:
        """V, padding and unknown included."""
        return len(self.words) + 2

    def numbers(self, words: Sequence[str]) -> list[int]:
        """The number of each word."""
        return [self._number.get(word, UNKNOWN) for word in words]


def shorten(tokens: Sequence[int], max_length: int, left_out: LeftOut) -> Sequence[int]:
    """At most `max_length` tokens: the first ones, or the first and the last half of what is allowed."""
    surplus = len(tokens) - max_length
    if surplus <= 0:
        return tokens
    start = max_length if left_out == "end" else max_length - max_length // 2
    return [*tokens[:start], *tokens[start + surplus :]]


def pad(
    texts: Sequence[Sequence[int]], max_length: int, target: NDArray[np.int64], left_out: LeftOut = "end"
) -> Examples:
    """Examples of token sequences, shortened and padded to the longest; an empty one is one unknown."""
    cut = [list(shorten(tokens, max_length, left_out)) or [UNKNOWN] for tokens in texts]
    length = np.array([len(tokens) for tokens in cut], np.int64)
    obs = np.full((len(cut), length.max()), PADDING, np.int32)
    for row, tokens in zip(obs, cut, strict=True):
        row[: len(tokens)] = tokens
    return Examples(obs, target, length)


def log_count_ratios(texts: Examples, num_classes: int, num_words: int) -> NDArray[np.float64]:
    """`[V, K]`: the logarithm of how much likelier each word is in texts of a class than in those of the others.

    A word counts once a text, and each has one count to start with (Wang & Manning 2012, "Baselines and Bigrams", §2);
    as a start for vectors of words: Li et al. 2016, "Weighted Neural Bag-of-n-grams Model". Padding and the unknown: 0.
    """
    assert texts.length is not None
    counts = np.ones((num_classes, num_words))
    for words, length, label in zip(texts.obs, texts.length, texts.target, strict=True):
        counts[label, np.unique(words[:length])] += 1
    others = counts.sum(0) - counts - (num_classes - 2)  # of the others together, from one on
    ratios: NDArray[np.float64] = np.log(counts / counts.sum(1, keepdims=True)) - np.log(
        others / others.sum(1, keepdims=True)
    )
    ratios[:, [PADDING, UNKNOWN]] = 0.0
    return ratios.T


__all__ = ["PADDING", "UNKNOWN", "LeftOut", "Vocabulary", "log_count_ratios", "pad", "shorten", "split_words"]
