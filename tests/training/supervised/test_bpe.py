"""Pieces of texts: what is learned, that nothing is lost, and that losses stay comparable."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import Fit
from triathlon.training.supervised.stream import Stream
from triathlon.training.supervised.texts.pieces import UNKNOWN, Pieces, learn_pieces
from triathlon.training.supervised.texts.text_generation import TextGeneration

pytest.importorskip("tokenizers")

LINES = ["low lower lowest\n", "new newer newest\n"] * 20


def test_the_most_frequent_neighbours_are_merged_first() -> None:
    pieces = Pieces(learn_pieces("bpe", ["abab abab ab", "c"], 6)).pieces
    assert pieces == [UNKNOWN, " ", "a", "b", "c", "ab"]


def test_merges_stay_within_words() -> None:
    pieces = Pieces(learn_pieces("bpe", ["the cat. the cat. the cat.\n\n"] * 9, 60)).pieces
    assert " cat" in pieces and "." in pieces and "\n\n" in pieces
    assert not any(" " in piece[1:] or ("." in piece and len(piece) > 1) for piece in pieces)


def test_what_is_learned_is_always_the_same() -> None:
    assert learn_pieces("bpe", LINES, 25) == learn_pieces("bpe", LINES, 25)


def test_pieces_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    facts = learn_pieces("bpe", LINES, 25)
    checkpoint.save(tmp_path / "c.safetensors", {"facts": facts})
    again = Pieces(checkpoint.load(tmp_path / "c.safetensors")["facts"])
    assert again.pieces == Pieces(facts).pieces
    assert again.numbers("newer lowest") == Pieces(facts).numbers("newer lowest")


@pytest.mark.parametrize("kind", ["characters", "bpe"])
@given(text=st.text(st.sampled_from("lowernst \n.éЖ"), max_size=40))
def test_joined_pieces_are_the_text(kind: str, text: str) -> None:
    pieces = PIECES[kind]
    numbers = pieces.numbers(text)
    assert pieces.text(numbers) == "".join(c if c in "lowernst \n" else UNKNOWN for c in text)
    assert pieces.lengths[numbers].sum() == len(text)


PIECES = {"characters": Pieces(learn_pieces("characters", LINES, None)), "bpe": Pieces(learn_pieces("bpe", LINES, 25))}


def test_settings_that_nothing_reads_or_that_do_not_fit_are_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="task: vocabulary_size is 500, but with tokens: characters nothing reads it"):
        from_mapping({"task": {"kind": "text_generation", "vocabulary_size": 500}})
    with pytest.raises(RunError, match=r"task\.vocabulary_size is 5, but the texts have 10 different characters"):
        learn_pieces("bpe", LINES, 5)


def writer(folder: Path) -> Fit:
    path = folder / "book.txt"
    path.write_text("a cat is fine.\nthe dog is finer.\n" * 200, encoding="utf-8")
    mapping = {
        "task": {
            **{"kind": "text_generation", "source": str(path), "tokens": "bpe", "vocabulary_size": 30, "num_rows": 8},
            **{"length": 16, "temperature": 0.0},
        },
        "backbone": {"kind": "gru", "hidden_size": 32, "encoder": {"kind": "tokens", "embedding_size": 16}},
        "fit": {"batch_size": 8, "num_epochs": 6, "learning_rate": 1e-2, "warmup_steps": 5},
        **{"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"},
    }
    return Fit(from_mapping(mapping), folder / "run")


def test_a_writer_in_pieces_is_judged_by_the_character(tmp_path: Path) -> None:
    run = writer(tmp_path)
    task, network, stream = run.task, run.network, run.task.splits.test
    assert isinstance(task, TextGeneration) and isinstance(stream, Stream)
    with torch.no_grad():
        found = task.evaluate(network, stream, 1, torch.device("cpu")).metrics
        tokens = torch.from_numpy(stream.tokens).long()
        logits = network(tokens[:-1, None])[0][:, 0].log_softmax(-1)
    nats = -logits[torch.arange(len(tokens) - 1), tokens[1:]].sum().item()
    num_characters = len(task.pieces.text(tokens[1:].tolist()))
    assert num_characters > 1.5 * len(tokens)
    assert found["loss"] == pytest.approx(nats / num_characters, rel=1e-5)
    assert found["bits_per_character"] == pytest.approx(found["loss"] / math.log(2))
    result = run.train()
    run.close()
    assert result.test is not None and result.test.metrics["loss"] < 0.1  # guessing among 30 pieces: over 1
    with torch.no_grad():
        written = task.write(network, "a cat is", torch.device("cpu"))
    assert written.startswith(" fine.\nthe dog is finer.\n")


def test_pieces_are_learned_from_the_first_part_only(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("abc abd " * 400 + "xyz " * 400, encoding="utf-8")
    task = TextGeneration(
        TextGeneration.Config(source=str(path), tokens="bpe", vocabulary_size=20, num_rows=4)  # type: ignore[arg-type]
    )
    # 4,800 characters: x is seen from 3,200 on, which the first 80 % reach, but of what follows 90 % nothing is learned
    assert "x" in task.facts["bpe"]
    path.write_text("abc abd " * 800 + "xyz " * 100, encoding="utf-8")
    task = TextGeneration(TextGeneration.Config(source=str(path), tokens="bpe", vocabulary_size=20, num_rows=4))
    assert "x" not in task.pieces.pieces
    assert isinstance(task.splits.test, Stream) and np.any(task.splits.test.tokens == 0)
