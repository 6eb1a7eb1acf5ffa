"""Connectionist temporal classification: tokens from a sequence with more rows, without knowing which row says which.

T rows in time, B sequences, K tokens with the blank, which is 0, L tokens of a text.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import groupby, pairwise

from torch import Tensor
from torch.nn import functional as F

BLANK = 0

# Of each beginning of a text: log p(it, the last row is a blank) and log p(it, the last row is its last token).
Beams = dict[tuple[int, ...], tuple[float, float]]


def ctc_loss(logits: Tensor, length: Tensor, target: Tensor) -> Tensor:
    """Mean of -log p(text) / tokens in nats (Graves et al. 2006, "Connectionist Temporal Classification", §4).

    `logits [T, B, K]`, of which the first `length [B]` rows count; `target [B, L]`, padded with blanks after its end.
    """
    sizes = (target != BLANK).sum(1)
    log_probability = logits.float().log_softmax(-1)
    nats = F.ctc_loss(log_probability, target, length, sizes, BLANK, reduction="none")
    return (nats / sizes.clamp(min=1)).mean()


def rows_needed(tokens: Sequence[int]) -> int:
    """The fewest rows that can say a text: one a token, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def collapse(path: Sequence[int]) -> list[int]:
    """What a path of one token a row says: repetitions are one token, and blanks are none."""
    return [token for token, _ in groupby(path) if token != BLANK]


def greedy(log_probability: Tensor) -> list[int]:
    """What the likeliest path through `[T, K]` says (best path decoding, Graves et al. 2006, §3.2)."""
    return collapse(log_probability.argmax(-1).tolist())


def beam_search(log_probability: Tensor, beam_size: int) -> tuple[list[int], float]:
    """The likeliest text of `[T, K]` and its log-probability, over all paths that say it.

    Prefix beam search (Graves 2012, "Sequence Transduction", algorithm of §3; Hannun et al. 2014, "First-Pass Large
    Vocabulary Continuous Speech Recognition", without a language model): the `beam_size` likeliest beginnings are kept
    after each row. It is exact where none had to be dropped; otherwise the log-probability is a lower bound.
    """
    beams: Beams = {(): (0.0, -math.inf)}
    for row in log_probability.double().tolist():
        grown: Beams = {}
        for text, (blank, token) in beams.items():
            both = _log_sum(blank, token)
            _add(grown, text, both + row[BLANK], token + row[text[-1]] if text else -math.inf)
            for k in range(1, len(row)):
                # The same token again is a new one only after a blank.
                _add(grown, (*text, k), -math.inf, (blank if text and text[-1] == k else both) + row[k])
        kept = sorted(grown, key=lambda text: (-_log_sum(*grown[text]), text))[:beam_size]
        beams = {text: grown[text] for text in kept}
    best = max(beams, key=lambda text: _log_sum(*beams[text]))
    return list(best), _log_sum(*beams[best])


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions from one sequence to another (Levenshtein 1966)."""
    before = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b)))
        before = row
    return before[-1]


def error_rate(said: Sequence[Sequence[Hashable]], heard: Sequence[Sequence[Hashable]]) -> float:
    """Edits from what was said to what was heard, per word or character said; over 1 if more is heard than said."""
    edits = sum(edit_distance(a, b) for a, b in zip(said, heard, strict=True))
    return edits / max(1, sum(map(len, said)))


def _add(beams: Beams, text: tuple[int, ...], blank: float, token: float) -> None:
    """Another way to the same beginning."""
    before = beams.get(text, (-math.inf, -math.inf))
    beams[text] = (_log_sum(before[0], blank), _log_sum(before[1], token))


def _log_sum(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    low, high = min(a, b), max(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


__all__ = ["BLANK", "beam_search", "collapse", "ctc_loss", "edit_distance", "error_rate", "greedy", "rows_needed"]
