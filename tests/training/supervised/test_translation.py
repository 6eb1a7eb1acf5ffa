"""Translation: pairs and their parts, the decoder, what is learned and how a person's file is translated."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triathlon.scripts import predict
from triathlon.training.config import dump
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import SupervisedExperiment, from_mapping
from triathlon.training.supervised.fit import Fit
from triathlon.training.supervised.texts.attentive_decoder import Translator
from triathlon.training.supervised.texts.keep_apart import families, keys, split_apart
from triathlon.training.supervised.texts.pairs import NOTHING, Pairs
from triathlon.training.supervised.texts.sentence_pairs import SWORD, _descriptions, read_pairs
from triathlon.training.supervised.texts.translation import Translation, bleu

pytest.importorskip("sacrebleu")

CPU = torch.device("cpu")
TOKENS = {"kind": "tokens", "embedding_size": 24}
BACKBONES = {
    "lstm": {"kind": "lstm", "hidden_size": 48, "encoder": TOKENS},
    "gru": {"kind": "gru", "hidden_size": 48, "encoder": TOKENS},
    "transformer": {"kind": "transformer", "width": 48, "memory_length": 12, "gated": False, "encoder": TOKENS},
}


def backwards(folder: Path) -> Path:
    """All words of two to four of four letters, and the same backwards."""
    words = ["".join(letters) for length in (2, 3, 4) for letters in itertools.product("abcd", repeat=length)]
    path = folder / "pairs.tsv"
    path.write_text("\n".join(f"{word}\t{word[::-1]}" for word in words), encoding="utf-8")
    return path


def translator(folder: Path, name: str = "gru", fit: dict[str, Any] | None = None, **task: Any) -> SupervisedExperiment:
    settings = {
        **{"kind": "translation", "source": str(backwards(folder)), "tokens": "characters", "attention_size": 32},
        **{"decoder": BACKBONES[name], "dropout": 0.0, "beam_size": 3, **task},
    }
    fitting = {"num_epochs": 1, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 10, **(fit or {})}
    mapping = {"task": settings, "backbone": BACKBONES[name], "fit": fitting, "num_threads": 1, "device": "cpu"}
    return from_mapping({**mapping, "logging": {"tensorboard": False, "csv": False}})


def untrained(folder: Path, name: str = "gru", **task: Any) -> tuple[Translation, Translator]:
    run = Fit(translator(folder, name, **task), folder / "run")
    run.close()
    assert isinstance(run.task, Translation) and isinstance(run.network, Translator)
    return run.task, run.network


# --- what is learned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "copy"), [("lstm", True), ("gru", False), ("transformer", False)])
def test_a_memory_learns_to_write_backwards(name: str, copy: bool, tmp_path: Path) -> None:
    settings = {"num_epochs": 14, "evaluation_period": 1000, "learning_rate": 1e-2}
    run = Fit(translator(tmp_path, name, settings, copy=copy, label_smoothing=0.05), tmp_path / "run")
    result = run.train()
    run.close()
    assert result.test is not None
    assert result.test.metrics["exact"] > 0.5  # what was read is right for one word in nine
    assert "| sentence | translation | a person's |" in result.test.texts["samples"]
    assert result.test.pictures["attention"].shape[2] == 3


def test_a_file_is_translated_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = translator(tmp_path, beam_size=1)
    (tmp_path / "run").mkdir()
    run = Fit(experiment, tmp_path / "run")
    run._save("last")
    run.close()
    (tmp_path / "run" / "config.yaml").write_text(dump(experiment))
    (tmp_path / "mine.txt").write_text("abcd\n\n  dab\n", encoding="utf-8")
    assert predict.main([str(tmp_path / "run"), str(tmp_path / "mine.txt"), "--task.beam-size", "2"]) == 0
    task = Translation(Translation.Config(beam_size=2), run.task.facts)
    expected = []
    for line in ("abcd", "dab"):
        tokens = torch.tensor(task.numbers(line)).unsqueeze(1)
        with torch.no_grad():
            expected.append(task.translate(run.network, tokens, torch.tensor([len(tokens)]))[0])
    assert capsys.readouterr().out == f"{expected[0]}\n\n{expected[1]}\n"


def test_words_without_a_space_come_back_without_a_sign(tmp_path: Path) -> None:
    task, _ = untrained(tmp_path)
    assert task.text(task.numbers("dab")) == "dab"
    assert 0 not in task.numbers("dab")


def test_what_people_wrote_is_the_measure(tmp_path: Path) -> None:
    """Two characters that were not learned are one token, but not the same."""
    task, network = untrained(tmp_path, beam_size=1)
    with torch.no_grad():
        found = task.evaluate(network, task._pairs([("ab 猫 cd ab dd", "ab 犬 cd ab dd")]), 8, CPU)
    assert found.metrics["bleu_copy"] < 100
    assert "| ab 猫 cd ab dd |" in found.texts["samples"] and found.texts["samples"].endswith("| ab 犬 cd ab dd |")


# --- the decoder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_writing_step_by_step_is_writing_at_once(name: str, tmp_path: Path) -> None:
    task, network = untrained(tmp_path, name, attention_layers=2)
    batch = next(task.splits.train.in_order(5))
    assert batch.length is not None
    before = torch.randint(task.end, (7, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        source = network.look(batch.obs, batch.length)
        whole, _, _ = network.head.write(source, before, None, None)
        state, rows = None, []
        for row in before:
            log_probs, state, _ = network.head.write(source, row.unsqueeze(0), state, None)
            rows.append(log_probs)
    assert torch.allclose(whole, torch.cat(rows), atol=1e-5)
    assert torch.allclose(whole.exp().sum(-1), torch.ones(7, 5), atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_padding_changes_nothing(name: str, tmp_path: Path) -> None:
    task, network = untrained(tmp_path, name)
    tokens, length = torch.tensor([[1, 2, 3, 6], [4, 6, 0, 0], [5, 2, 6, 0]]).T, torch.tensor([4, 2, 3])
    before = torch.tensor([[task.end, 1, 2]]).T
    with torch.no_grad():
        together, _, weight = network.head.write(network.look(tokens, length), before.expand(3, 3), None, None)
        for column, rows in enumerate(length.tolist()):
            alone = network.look(tokens[:rows, column : column + 1], length[column : column + 1])
            expected, _, _ = network.head.write(alone, before, None, None)
            assert torch.allclose(together[:, column], expected[:, 0], atol=1e-5)
            assert (weight[column, :, rows:] == 0).all()
    assert task.translate(network, tokens, length)[1] == task.translate(network, tokens[:2, 1:2], length[1:2])[0]


def test_a_token_of_the_source_can_be_copied(tmp_path: Path) -> None:
    _, network = untrained(tmp_path, copy=True)
    assert network.head.copy is not None
    with torch.no_grad():
        network.head.copy.weight.zero_()
        network.head.copy.bias.fill_(20.0)  # copy always
        source = network.look(torch.tensor([[3], [5], [3]]), torch.tensor([3]))
        log_probs, _, weight = network.head.write(source, torch.tensor([[1]]), None, None)
    expected = torch.zeros(log_probs.shape[2])
    expected[3], expected[5] = weight[0, 0, 0] + weight[0, 0, 2], weight[0, 0, 1]
    assert torch.allclose(log_probs[0, 0].exp(), expected, atol=1e-5)


def test_the_loss_counts_tokens_that_are_there(tmp_path: Path) -> None:
    task, network = untrained(tmp_path, label_smoothing=0.0)
    pairs = Pairs([[1, 2, 6], [3, 6]], [[2, 1, 4, 6], [3, 6]], [("ab", "badc"), ("c", "c")])
    with torch.no_grad():
        loss = task.loss(network, pairs.batch(np.arange(2)), None, None)[0].item()
        alone = [task.loss(network, pairs.batch(np.array([i])), None, None)[0].item() for i in range(2)]
        found = task.evaluate(network, pairs, 2, CPU).metrics
    assert loss == pytest.approx((4 * alone[0] + 2 * alone[1]) / 6, rel=1e-5)
    assert found["loss"] == pytest.approx(loss, rel=1e-5)


def test_bleu_is_sacrebleus() -> None:
    assert bleu(["the cat sat on the mat"], ["the cat sat on the mat"]) == pytest.approx(100.0)
    # 1-grams 5/6, 2-grams 3/5, 3-grams 2/4, 4-grams 1/3: (5/6 * 3/5 * 2/4 * 1/3) ** (1/4)
    assert bleu(["the cat sat on a mat"], ["the cat sat on the mat"]) == pytest.approx(53.7285, abs=1e-3)


# --- batches and parts ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 9))
def test_an_epoch_has_every_pair_once_at_most(lengths: list[int], size: int, seed: int) -> None:
    pairs = Pairs([[i] * n for i, n in enumerate(lengths)], [[i] for i in range(len(lengths))])
    order = pairs.order(size, np.random.default_rng(seed))
    size = min(size, len(lengths))
    assert all(len(batch) == size for batch in order) and len(order) == len(lengths) // size
    assert len(np.unique(np.concatenate(order))) == len(order) * size
    batch = pairs.batch(order[0])
    assert batch.length is not None and batch.length.tolist() == [lengths[i] for i in order[0]]
    assert batch.obs.shape == (max(lengths[i] for i in order[0]), size)


def test_what_is_after_the_end_of_a_target_is_marked() -> None:
    batch = Pairs([[1], [2, 3]], [[4, 5, 6], [7]]).batch(np.array([1, 0]))
    assert batch.target.T.tolist() == [[7, NOTHING, NOTHING], [4, 5, 6]]
    assert batch.obs.T.tolist() == [[2, 3], [1, 0]]


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Simple tool for X11", "simple TOOL for X12!", True),  # case, digits and signs
        ("library for Ogg files", "library for Vorbis files", True),  # one word changed
        ("library for Ogg files", "library for some Ogg files", True),  # one word more
        ("kit for sound mixing - development files", "kit for sound mixing (documentation)", True),
        ("kit for sound mixing: all its files", "kit for sound mixing: what is common", True),
        ("reader of the 10:30 sound mail", "reader of the 10:30 news page", False),  # a time has no tail
        ("library for Ogg files", "tool for Vorbis files", False),
        ("web server", "web browser", False),  # too short to say
    ],
)
def test_what_counts_as_nearly_the_same(one: str, other: str, near: bool) -> None:
    assert bool(set(keys(one)) & set(keys(other))) is near


def test_families_are_chained_and_count_translations_too() -> None:
    pairs = [
        ("tool for red files", "x"),
        ("tool for blue files", "y"),
        ("a dog", "der Hund da"),
        ("hound", "Der Hund da"),
    ]
    assert sorted(map(sorted, families(pairs))) == [[0, 1], [2, 3]]


def test_no_family_is_in_two_parts() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}" for a in "bcdfghjk" for b in "aeiou"])
    pairs = [(" ".join(rng.choice(words, 5)), f"{i} {''.join(rng.choice(words, 6))}") for i in range(300)]
    pairs += [(f"{one} more", other) for one, other in pairs[:150]]
    parts = split_apart(pairs, (0.1, 0.2))
    assert [len(part) for part in parts[1:]] == [45, 90]
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    where = {one: number for number, part in enumerate(parts) for one, _ in part}
    assert all(where[one] == where[f"{one} more"] for one, _ in pairs[:150])
    assert parts == split_apart(pairs, (0.1, 0.2))


# --- sources ----------------------------------------------------------------------------------------------------------


def test_two_files_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n two  three\n\none\n")
    (tmp_path / "b").write_text("uno\ndue tre\n\nun\n")
    assert read_pairs(str(tmp_path / "a"), str(tmp_path / "b")) == [("one", "un"), ("two three", "due tre")]


def test_what_is_no_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="did you mean 'sword'"):
        read_pairs("swrd", None)
    with pytest.raises(RunError, match="wants a language other than en, as in package_descriptions:it"):
        read_pairs("package_descriptions", None)
    (tmp_path / "a").write_text("one\tuno\ntwo\n")
    (tmp_path / "b").write_text("x\n")
    with pytest.raises(RunError, match="line 2 has 0 tabs"):
        read_pairs(str(tmp_path / "a"), None)
    with pytest.raises(RunError, match=r"task\.target: .*b has 1 lines and .*a has 2"):
        read_pairs(str(tmp_path / "a"), str(tmp_path / "b"))
    (tmp_path / "a").write_text("one\tuno\n")
    with pytest.raises(RunError, match="too few different pairs of at most 48 tokens"):
        Translation(Translation.Config(source=str(tmp_path / "a"), tokens="characters"))


def test_package_descriptions_are_joined_by_their_checksum(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no descriptions of packages in .*apt-get -o Acquire::Languages=it update"):
        list(_descriptions("it", tmp_path))
    (tmp_path / "deb_dists_x_main_binary-amd64_Packages").write_text(
        "Package: a\nDescription: a game\n and more\nDescription-md5: 11\n\n"
        "Package: b\nDescription: a tool\nDescription-md5: 22\n"
    )
    with pytest.raises(RunError, match="no translations into 'it'"):
        list(_descriptions("it", tmp_path))
    (tmp_path / "deb_dists_x_main_i18n_Translation-it").write_text(
        "Package: b\nDescription-md5: 22\nDescription-it: uno strumento\n Altro.\n\n"
        "Package: c\nDescription-md5: 33\nDescription-it: nessuno\n"
    )
    assert list(_descriptions("it", tmp_path)) == [("a tool", "uno strumento")]


@pytest.mark.external
def test_verses_are_aligned() -> None:
    pytest.importorskip("pysword")
    if not (SWORD / "mods.d").is_dir():
        pytest.skip("no texts of SWORD")
    pairs = dict(read_pairs("sword", None))
    assert len(pairs) > 30_000
    assert pairs["God said, “Let there be light,” and there was light."] == "Y dijo Dios: Sea la luz: y fué la luz."
    assert pairs["Jesus wept."] == "Y lloró Jesús."
