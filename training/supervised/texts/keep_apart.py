"""Parts of a set of sentence pairs of which none has what is nearly in another. N pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from triathlon.training.supervised.examples import SPLIT_SEED

Pair = tuple[str, str]  # a sentence and its translation

_WORD = re.compile(r"[^\W\d_]+")
_TAIL = re.compile(r"(?:\s+[-–—(\[]|\s*:\s).*")  # a colon has no space before it, and one after it
FEWEST_WORDS = 3  # what is shorter says too little to tell a family by
LARGEST, LARGEST_SHARE = 8, 0.01  # pairs, share of a part: larger families are learned from, so that no part is of one


def keys(text: str) -> Iterator[tuple[str, ...]]:
    """What texts that are nearly the same share, without case, digits and signs.

    Texts share a key if they differ in one word at most (put in, left out or changed; of three words or more), or in
    what comes after a dash, colon or bracket (`kit for X - documentation`, `kit for X (common files)`).
    """
    words = tuple(_WORD.findall(text.lower()))
    yield words or (text,)
    if len(words) >= FEWEST_WORDS:
        for i in range(len(words)):
            yield words[:i] + words[i + 1 :]
    head = tuple(_WORD.findall(_TAIL.sub("", text.lower())))
    if len(head) >= FEWEST_WORDS:
        yield head


def families(pairs: Sequence[Pair]) -> list[list[int]]:
    """Indices of pairs, those together of which the sentences or the translations are nearly the same."""
    parent = list(range(len(pairs)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for side in (0, 1):
        first: dict[tuple[str, ...], int] = {}
        for i, pair in enumerate(pairs):
            for key in keys(pair[side]):
                parent[find(i)] = find(first.setdefault(key, i))
    found: dict[int, list[int]] = {}
    for i in range(len(pairs)):
        found.setdefault(find(i), []).append(i)
    return list(found.values())


def split_apart(pairs: Sequence[Pair], shares: Sequence[float]) -> list[list[Pair]]:
    """The pairs to learn from, then a part for each share of all pairs; a family is in one part only.

    Families are drawn by a seed that is always the same.
    """
    together = families(pairs)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(together))
    parts: list[list[Pair]] = [[] for _ in shares]
    rest: list[Pair] = []
    sizes = [max(1, round(share * len(pairs))) for share in shares]
    for place in order:
        members = [pairs[i] for i in together[place]]
        for part, size in zip(parts, sizes, strict=True):
            if len(members) <= max(LARGEST, LARGEST_SHARE * size) and len(part) + len(members) <= size:
                part.extend(members)
                break
        else:
            rest.extend(members)
    return [rest, *parts]


__all__ = ["Pair", "families", "keys", "split_apart"]
