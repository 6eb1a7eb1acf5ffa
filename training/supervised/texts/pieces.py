"""A text as a sequence of pieces: its characters, or byte-pair pieces that are learned. V pieces, n pieces of a text.

The pieces of a text, joined, are the text again, but for characters that were not learned: each of them is one UNKNOWN.
So what a network loses on a text can be given for each character, whatever the pieces are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from triathlon.networks.errors import SettingError
from triathlon.training.errors import RunError

UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # piece 0
DEFAULT_SIZE = 2_000
PieceKind: TypeAlias = Annotated[Literal["characters", "bpe"], "what a text is cut into: characters, or learned pieces"]
# Merges stay within a word and the space before it, a run of signs, or a run of white space.
_WORDS = r" ?\w+| ?[^\w\s]+|\s+"


def check_vocabulary(kind: str, size: int | None) -> None:
    """
    Raises:
        SettingError: a vocabulary size was given that nothing reads.
    """
    if kind == "characters" and size is not None:
        raise SettingError(
            f"vocabulary_size is {size}, but with tokens: characters nothing reads it; set tokens: bpe, or leave it out"
        )


def learn_pieces(kind: str, texts: Iterable[str], size: int | None) -> dict[str, str]:
    """The facts that `Pieces` is made of, found in texts to learn from; plain strings.

    `bpe` merges the most frequent pair of neighbouring pieces until there are `size` (Sennrich, Haddow & Birch 2016,
    "Neural Machine Translation of Rare Words with Subword Units", §3.2).

    Raises:
        RunError: the package tokenizers is missing, or the texts have more characters than `size`.
    """
    if kind == "characters":
        return {"characters": "".join(sorted(set("".join(texts)) - {UNKNOWN}))}
    tokenizers, size = _package(), DEFAULT_SIZE if size is None else size
    texts = list(texts)
    num_characters = len(set("".join(texts)))
    if num_characters >= size:
        raise RunError(
            f"task.vocabulary_size is {size}, but the texts have {num_characters} different characters; make it larger"
        )
    words = tokenizers.Regex(_WORDS)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(words, "isolated")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=[UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return {"bpe": tokenizer.to_str()}


class Pieces:
    """Cuts texts into numbered pieces and joins them again; made from the facts of `learn_pieces`."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._cut: Callable[[str], list[int]]
        if "bpe" in facts:
            tokenizer = _package().Tokenizer.from_str(facts["bpe"])
            number = tokenizer.get_vocab()
            self.pieces = sorted(number, key=number.__getitem__)
            self._cut = lambda text: list(tokenizer.encode(text).ids)
        else:
            self.pieces = [UNKNOWN, *facts["characters"]]
            numbers = {character: i for i, character in enumerate(self.pieces)}
            self._cut = lambda text: [numbers.get(character, 0) for character in text]

    def __len__(self) -> int:
        """V, the piece for what is unknown included."""
        return len(self.pieces)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`[V]`: the characters of each piece."""
        return np.array([len(piece) for piece in self.pieces], np.int64)

    def numbers(self, text: str) -> list[int]:
        """The pieces `[n]` of a text, by number."""
        return self._cut(text)

    def text(self, numbers: Sequence[int]) -> str:
        """The inverse of `numbers`."""
        return "".join(self.pieces[number] for number in numbers)


def _package() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise RunError("task.tokens: bpe needs the package tokenizers: pip install 'triathlon[supervised]'") from error
    return tokenizers


__all__ = ["UNKNOWN", "PieceKind", "Pieces", "check_vocabulary", "learn_pieces"]
