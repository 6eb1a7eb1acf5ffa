"""The likeliest sequence, looked for along several beams. B sentences, K beams, V tokens, L tokens of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from triathlon.networks.backbone import State

# Tokens [B · K] and the memory before them, to log-probabilities of what comes next [B · K, V] and the memory after.
Step = Callable[[Tensor, State], tuple[Tensor, State]]


@dataclass(frozen=True)
class Found:
    """What a search ends with, for one sentence."""

    tokens: list[int]  # the end included, unless the sequence was cut off
    score: float  # log-probability over the length penalty


def length_penalty(length: Tensor | int, alpha: float) -> Tensor:
    """((5 + length) / 6) ** alpha (Wu et al. 2016, "Google's Neural Machine Translation System", eq. 14)."""
    return ((5 + torch.as_tensor(length, dtype=torch.float32)) / 6) ** alpha


def beam_search(
    step: Step, state: State, start: int, end: int, batch_size: int, beam_size: int, max_length: Tensor, alpha: float
) -> list[Found]:
    """For each of B sentences the sequence with the highest log-probability over its length penalty.

    At every step the likeliest ways on are kept. One that ends is set aside, and there is a beam less to go on with
    (Graves 2012, "Sequence Transduction", §2.6), so a beam of 1 takes the likeliest token each time. Beams that cannot
    get better than what was set aside are given up; that changes no result.

    Args:
        state: the memory at the start, tensors `[B, ...]`; a search reads and moves it as an agent does.
        max_length: `[B]`, tokens after which a sequence is cut off.
    """
    device, num_beams = (state[0].device if state else torch.device("cpu")), beam_size
    state = tuple(s.repeat_interleave(num_beams, 0) for s in state)
    column = torch.arange(batch_size, device=device).unsqueeze(1)  # [B, 1]
    score = torch.full((batch_size, num_beams), -torch.inf, device=device)
    score[:, 0] = 0.0  # all beams start alike: one is enough
    tokens = torch.full((batch_size * num_beams,), start, dtype=torch.long, device=device)
    written = torch.zeros((batch_size, num_beams, 0), dtype=torch.long, device=device)
    free = torch.full((batch_size, 1), num_beams, device=device)  # beams that have not ended
    best = torch.full((batch_size,), -torch.inf, device=device)
    sequences: list[list[int]] = [[] for _ in range(batch_size)]
    most, last_penalty = max_length.unsqueeze(1), length_penalty(max_length.unsqueeze(1), alpha)
    for length in range(1, int(max_length.max()) + 1):
        log_probs, state = step(tokens, state)
        ways = score.unsqueeze(2) + log_probs.view(batch_size, num_beams, -1)  # [B, K, V]
        score, place = ways.flatten(1).topk(num_beams)  # [B, K], the best first
        parent, token = place // ways.shape[2], place % ways.shape[2]
        score = score.masked_fill(torch.arange(num_beams, device=device) >= free, -torch.inf)
        written = torch.cat([written[column, parent], token.unsqueeze(2)], 2)
        ends = (token == end) & score.isfinite()
        done = ends | ((most == length) & score.isfinite())
        normalised = (score / length_penalty(length, alpha).to(device)).masked_fill(~done, -torch.inf)
        top, which = normalised.max(1)
        for i in (top > best).nonzero().flatten().tolist():
            sequences[i] = written[i, which[i]].tolist()
        best = torch.maximum(best, top)
        free = free - ends.sum(1, keepdim=True)
        # A sequence gets no likelier, and its penalty no greater than that of the longest.
        score = score.masked_fill(done | (score / last_penalty <= best.unsqueeze(1)), -torch.inf)
        if not score.isfinite().any():
            break
        origin = (column * num_beams + parent).flatten()
        state = tuple(s[origin] for s in state)
        tokens = token.flatten()
    return [Found(sequence, value) for sequence, value in zip(sequences, best.tolist(), strict=True)]


__all__ = ["Found", "Step", "beam_search", "length_penalty"]
