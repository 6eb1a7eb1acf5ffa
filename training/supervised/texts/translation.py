"""From one language to another. T tokens of a sentence, S of its translation, B sentences, V tokens, W features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt, MinLen
from gymnasium import spaces
from torch import Tensor, nn

from triathlon.networks.backbone import Backbone, State
from triathlon.networks.recurrent import LSTMConfig
from triathlon.networks.registry import BackboneConfig
from triathlon.networks.transformer import Transformer
from triathlon.training.errors import RunError
from triathlon.training.supervised.drawing import attention_picture
from triathlon.training.supervised.examples import Batch, Dataset, Splits
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.losses import cross_entropy
from triathlon.training.supervised.task import Evaluation, Task, TaskConfig
from triathlon.training.supervised.texts.attentive_decoder import AttentiveDecoder, Source, Translator
from triathlon.training.supervised.texts.beam_search import beam_search
from triathlon.training.supervised.texts.keep_apart import Pair, split_apart
from triathlon.training.supervised.texts.pairs import NOTHING, Pairs
from triathlon.training.supervised.texts.pieces import PieceKind, Pieces, check_vocabulary, learn_pieces
from triathlon.training.supervised.texts.sentence_pairs import read_pairs
from triathlon.training.supervised.texts.sources import read_text

SHARES = (0.02, 0.05)  # of all pairs: choosing, testing
NUM_SHOWN = 16


@dataclass(frozen=True)
class TranslationConfig(TaskConfig):
    """Settings of translation."""

    kind: Annotated[str, "from one language to another"] = "translation"
    source: Annotated[
        str,
        MinLen(1),
        "package_descriptions:LANGUAGE, sword, a file with a sentence, a tab and its translation in each line, or one "
        "with a sentence in each line",
    ] = "package_descriptions:it"
    target: Annotated[str | None, MinLen(1), "file with the translation of each line of source; null: it has both"] = (
        None
    )
    tokens: PieceKind = "bpe"
    vocabulary_size: Annotated[int | None, Gt(1), "with tokens: bpe, how many pieces there are; null: 2,000"] = None
    max_length: Annotated[int, Gt(1), "pairs with more tokens, the end included, are left out"] = 48
    decoder: Annotated[BackboneConfig, "what reads the translation as it is written"] = field(
        default_factory=lambda: LSTMConfig(hidden_size=256)
    )
    attention_size: Annotated[int, Gt(0), "features of the attention of the decoder to the source"] = 256
    attention_layers: Annotated[int, Gt(0), "times that the decoder looks at the source before it writes a token"] = 1
    attention_heads: Annotated[int, Gt(0), "attention heads; must divide attention_size"] = 4
    copy: Annotated[bool, "tokens of the source can be copied, as names are"] = True
    dropout: Annotated[float, Ge(0), Lt(1), "share of the features that the decoder does not see while it learns"] = 0.1
    label_smoothing: Annotated[float, Ge(0), Lt(1), "share of each target that is spread over all tokens"] = 0.1
    beam_size: Annotated[int, Gt(0), "translations that are followed up side by side; 1: greedy"] = 4
    length_alpha: Annotated[float, Ge(0), "how much longer translations are preferred; 0: not at all"] = 0.6

    def __post_init__(self) -> None:
        check_vocabulary(self.tokens, self.vocabulary_size)


class Translation(Task):
    """A sentence is a sequence of `Discrete` observations, in tokens that both languages share. The facts are those of
    `learn_pieces`. One more token starts a translation and ends a sentence.
    """

    Config = TranslationConfig
    reads_in_order = True
    metric = "bleu"

    def __init__(self, config: TranslationConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        parts: list[list[Pair]] = []
        if facts is None:
            _sacrebleu()
            parts = split_apart(read_pairs(config.source, config.target), SHARES)
            facts = learn_pieces(
                config.tokens, (f" {text}" for pair in parts[0] for text in pair), config.vocabulary_size
            )
        self.facts = facts
        self.pieces = Pieces(facts)
        self.end = len(self.pieces)
        self.space = spaces.Discrete(self.end + 1)
        if parts:
            self.data = Splits(*(self._pairs(part) for part in parts))

    def numbers(self, text: str) -> list[int]:
        """The tokens of a sentence, and its end. A space before it makes its first word one as any other."""
        return [*self.pieces.numbers(f" {text}"), self.end]

    def text(self, tokens: Sequence[int]) -> str:
        """The inverse of `numbers`, with or without the end."""
        return self.pieces.text([token for token in tokens if token != self.end]).strip()

    def _pairs(self, part: Sequence[Pair]) -> Pairs:
        numbered = ((pair, [self.numbers(text) for text in pair]) for pair in part)
        kept = [(pair, sides) for pair, sides in numbered if max(map(len, sides)) <= self.config.max_length]
        if not kept:
            raise RunError(
                f"task.source: {self.config.source} has too few different pairs of at most {self.config.max_length} "
                "tokens (task.max_length) to learn from and to test on"
            )
        sources, targets = ([sides[i] for _, sides in kept] for i in range(2))
        return Pairs(sources, targets, [pair for pair, _ in kept])

    def make_network(self, backbone: Backbone) -> Translator:
        config = self.config
        head = AttentiveDecoder(
            backbone.out_features,
            self.end + 1,
            config.decoder,
            config.attention_size,
            config.attention_layers,
            config.attention_heads,
            config.copy,
            config.dropout,
        )
        return Translator(backbone, head)

    def prepare(self, network: Network) -> None:
        """Vectors of length 1, as gates want them, not N(0, 1) as torch draws them. Those that a transformer reads stay
        as they are: its layers add about as much to each feature, and shorter ones would be lost in it.
        """
        transformers = [module for module in network.modules() if isinstance(module, Transformer)]
        as_drawn = {id(module) for transformer in transformers for module in transformer.modules()}
        for module in network.modules():
            if isinstance(module, nn.Embedding) and id(module) not in as_drawn:
                module.weight.mul_(module.embedding_dim**-0.5)
        super().prepare(network)

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        log_probs, _ = self._forced(network, batch, generator)
        return cross_entropy(log_probs, batch.target, self.config.label_smoothing, valid=batch.target != NOTHING), ()

    def _forced(self, network: Network, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[S, B, V]` of each token after the right ones before it, and where was looked."""
        assert isinstance(network, Translator)
        assert batch.length is not None
        source = network.look(batch.obs, batch.length, generator)
        start = torch.full_like(batch.target[:1], self.end)
        before = torch.cat([start, batch.target[:-1].clamp_min(0)])
        log_probs, _, weight = network.head.write(source, before, None, generator)
        return log_probs, weight

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        assert isinstance(dataset, Pairs)
        nats, num_tokens = 0.0, 0
        found: list[str] = []
        picture = None
        for batch in dataset.in_order(batch_size):
            batch = batch.to(device)
            log_probs, weight = self._forced(network, batch, None)
            valid = batch.target != NOTHING
            nats += float(cross_entropy(log_probs, batch.target, valid=valid)) * int(valid.sum())
            num_tokens += int(valid.sum())
            found.extend(self.translate(network, batch.obs, batch.length))
            if picture is None and num_tokens >= 0.5 * sum(map(len, dataset.targets)):  # of a sentence of middle length
                picture = self._attention(batch, weight)
        # What people wrote, not what their tokens say: characters that were not learned are all one token.
        sources, targets = zip(*(dataset.texts[i] for i in dataset.by_length()), strict=True)
        metrics = {
            "loss": nats / num_tokens,
            "bleu": bleu(found, targets),
            "bleu_copy": bleu(sources, targets),
            "exact": sum(a == b for a, b in zip(found, targets, strict=True)) / len(found),
        }
        lines = ["| sentence | translation | a person's |", "|---|---|---|"]
        for i in range(0, len(found), max(1, len(found) // NUM_SHOWN)):
            row = (text.replace("|", "/") for text in (sources[i], found[i], targets[i]))
            lines.append(f"| {' | '.join(row)} |")
        return Evaluation(metrics, {} if picture is None else {"attention": picture}, {"samples": "\n".join(lines)})

    def _attention(self, batch: Batch, weight: Tensor) -> Any:
        """Where the decoder looked while it wrote the first sentence of a batch."""
        assert batch.length is not None
        source = batch.obs[: int(batch.length[0]), 0].tolist()
        target = [token for token in batch.target[:, 0].tolist() if token != NOTHING]
        names = [
            ["END" if token == self.end else self.pieces.text([token]) for token in side] for side in (target, source)
        ]
        return attention_picture(weight[0, : len(target), : len(source)].cpu().numpy(), *names)

    def translate(self, network: Network, tokens: Tensor, length: Tensor | None) -> list[str]:
        """The translations of `tokens [T, B]`, of which `length [B]` are each sentence's own."""
        assert isinstance(network, Translator)
        assert length is not None
        config, size = self.config, tokens.shape[1]
        source = network.look(tokens, length).repeat(config.beam_size)
        state = network.head.backbone.initial_state(size)
        found = beam_search(
            lambda last, before: _write(network.head, source, last, before),
            state,
            self.end,
            self.end,
            size,
            config.beam_size,
            2 * length + 8,
            config.length_alpha,
        )
        return [self.text(one.tokens) for one in found]

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Text files, translated line by line."""
        for file in files:
            for line in read_text(file).splitlines():
                tokens = torch.tensor(self.numbers(" ".join(line.split())), device=device).unsqueeze(1)
                length = torch.tensor([len(tokens)], device=device)
                yield self.translate(network, tokens, length)[0] if line.strip() else ""


def _write(decoder: AttentiveDecoder, source: Source, last: Tensor, state: State) -> tuple[Tensor, State]:
    """A step of a search: tokens `[B · K]` to log-probabilities `[B · K, V]`."""
    log_probs, state, _ = decoder.write(source, last.unsqueeze(0), state, None)
    return log_probs[0], state


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU from 0 to 100 (Papineni et al. 2002), as sacrebleu (Post 2018) computes it by default: 13a tokens,
    case kept, exponential smoothing.
    """
    return float(_sacrebleu().corpus_bleu(list(translations), [list(references)]).score)


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise RunError("translation is judged by the package sacrebleu: pip install 'triathlon[supervised]'") from error
    return sacrebleu


__all__ = ["Translation", "TranslationConfig", "bleu"]
