"""What comes next in a text, piece by piece. T rows in time, B columns, V pieces (characters, or learned), n tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt, MinLen
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from triathlon.networks.backbone import State
from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import Batch, Dataset, Splits
from triathlon.training.supervised.heads import Network, RowHead
from triathlon.training.supervised.losses import cross_entropy
from triathlon.training.supervised.stream import Stream
from triathlon.training.supervised.task import Evaluation, Task, TaskConfig
from triathlon.training.supervised.texts.pieces import PieceKind, Pieces, check_vocabulary, learn_pieces
from triathlon.training.supervised.texts.sources import read_long_text, read_text

SHARES = (0.8, 0.1, 0.1)  # of the text, in its order: learned from, choosing, testing


@dataclass(frozen=True)
class TextGenerationConfig(TaskConfig):
    """Settings of text generation."""

    kind: Annotated[str, "what comes next in a text"] = "text_generation"
    source: Annotated[str, MinLen(1), "plays (Shakespeare's), a text file, or a folder of them"] = "plays"
    tokens: PieceKind = "characters"
    vocabulary_size: Annotated[int | None, Gt(1), "with tokens: bpe, how many pieces there are; null: 2,000"] = None
    num_rows: Annotated[int, Gt(0), "tokens that gradients flow through; the memory reaches further back"] = 128
    dropout: Annotated[float, Ge(0), Lt(1), "share of the features that the head does not see while it learns"] = 0.0
    temperature: Annotated[float, Ge(0), "of what is written: 1 as likely as learned, 0 always the likeliest"] = 0.8
    top_k: Annotated[int | None, Gt(0), "write only tokens that are among the k likeliest; null: any"] = None
    length: Annotated[int, Gt(0), "tokens that are written"] = 500
    sample_seed: Annotated[int, Ge(0), "random numbers of what is written descend from it"] = 0

    def __post_init__(self) -> None:
        check_vocabulary(self.tokens, self.vocabulary_size)


class TextGeneration(Task):
    """A text is a sequence of `Discrete` observations, one a token. The facts are those of `learn_pieces`.

    The loss is in nats a character, whatever the tokens are, so that all networks on a text can be compared.
    """

    Config = TextGenerationConfig
    reads_in_order = True
    metric = "loss"
    higher_is_better = False
    carries_state = True

    def __init__(self, config: TextGenerationConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        tokens: list[NDArray[np.int32]] = []
        if facts is None:
            text = read_long_text(config.source)
            edges = [round(len(text) * share) for share in np.cumsum((0.0, *SHARES))]
            parts = [text[a:b] for a, b in pairwise(edges)]
            facts = learn_pieces(config.tokens, parts[:1], config.vocabulary_size)
            pieces = Pieces(facts)
            tokens = [np.array(pieces.numbers(part), np.int32) for part in parts]
            if min(map(len, tokens)) <= config.num_rows:
                raise RunError(
                    f"task.source: {config.source} has {len(text):,} characters; a tenth of them must be more tokens "
                    f"than task.num_rows ({config.num_rows})"
                )
        self.facts = facts
        self.pieces = Pieces(facts)
        self.space = spaces.Discrete(len(self.pieces))
        if tokens:
            self.data = Splits(*(Stream(part, config.num_rows) for part in tokens))

    def make_head(self, in_features: int) -> RowHead:
        return RowHead(in_features, len(self.pieces), self.config.dropout)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        logits, state = network(batch.obs, state, None, generator)
        return cross_entropy(logits, batch.target), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        state: State | None = None
        nats = hits = torch.zeros((), device=device)
        lengths = torch.from_numpy(self.pieces.lengths)
        num_tokens = num_characters = 0
        for batch in dataset.in_order(batch_size):
            num_tokens += batch.target.numel()
            num_characters += int(lengths[batch.target].sum())
            batch = batch.to(device)
            logits, state = network(batch.obs, state)
            nats = nats + cross_entropy(logits, batch.target) * batch.target.numel()
            hits = hits + (logits.argmax(-1) == batch.target).sum()
        loss = float(nats) / num_characters
        metrics = {"loss": loss, "bits_per_character": loss / math.log(2), "accuracy": float(hits) / num_tokens}
        return Evaluation(metrics, texts={"sample": f"```text\n{self.write(network, '', device)}\n```"})

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Text files that are gone on with."""
        for file in files:
            start = read_text(file)
            yield start + self.write(network, start, device)

    def write(self, network: Network, start: str, device: torch.device) -> str:
        """`length` tokens that go on from `start` (from a line break if it is empty)."""
        config = self.config
        generator = torch.Generator(device).manual_seed(config.sample_seed)
        tokens = torch.tensor(self.pieces.numbers(start or "\n"), device=device)
        return self.pieces.text(generate(network, tokens, config.length, config.temperature, config.top_k, generator))


def generate(
    network: Network, start: Tensor, num_tokens: int, temperature: float, top_k: int | None, generator: torch.Generator
) -> list[int]:
    """Tokens that go on from `start [n]`, drawn one by one as an agent acts: a row in, memory kept, a choice out."""
    logits, state = network(start.view(-1, 1))
    tokens: list[int] = []
    while True:
        token = draw(logits[-1, 0], temperature, top_k, generator)
        tokens.append(int(token))
        if len(tokens) == num_tokens:
            return tokens
        logits, state = network(token.view(1, 1), state)


def draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    """A token from `logits [V]`: softmax(logits / temperature) over the k largest; the largest at temperature 0."""
    if temperature == 0.0:
        return logits.argmax()
    if top_k is not None and top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[0]


__all__ = ["TextGeneration", "TextGenerationConfig", "draw", "generate"]
