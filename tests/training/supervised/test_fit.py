"""Whole fits: they learn, repeat, go on to the bit, stop early, and say what is wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from triathlon.networks.errors import SettingError
from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import SupervisedExperiment, from_mapping
from triathlon.training.supervised.fit import Fit, FitResult, fit

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
XOR = {"kind": "xor", "num_examples": 64}
MLP = {"kind": "mlp", "hidden_sizes": [8]}
DIGITS = {"kind": "image_classification", "source": "digits"}


def experiment(task: Any, backbone: Any, fit: Any, **others: Any) -> SupervisedExperiment:
    return from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": fit, **others})


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    network: dict[str, torch.Tensor] = checkpoint.load(folder / "checkpoints" / f"{name}.safetensors")["network"]
    return network


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics(result: FitResult) -> dict[str, float]:
    assert result.test is not None
    return result.test.metrics


def test_a_perceptron_fails_at_exclusive_or_and_a_hidden_layer_solves_it(tmp_path: Path) -> None:
    settings = {"num_epochs": 40, "batch_size": 50, "learning_rate": 2e-2, "warmup_steps": 0, "evaluation_period": 80}
    task = {"kind": "xor"}
    perceptron = fit(experiment(task, {"kind": "mlp", "hidden_sizes": []}, settings), tmp_path / "perceptron")
    mlp = fit(experiment(task, MLP, settings), tmp_path / "mlp")
    assert metrics(perceptron)["accuracy"] < 0.8
    assert metrics(mlp)["accuracy"] > 0.97


DIGITS_BACKBONES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": ({"kind": "mlp", "hidden_sizes": [64], "activation": "relu"}, {}),
    "cnn": ({"kind": "cnn", "features": 64}, {}),
    "impala": ({"kind": "impala", "channels": [16], "features": 64}, {}),
    "patches": ({"kind": "patches", "patch_size": 2, "width": 32, "num_layers": 1}, {}),
    "resnet": ({"kind": "resnet", "channels": 16, "num_blocks": 1, "features": 64}, {}),
    "lstm": ({"kind": "lstm", "hidden_size": 32}, {"as_rows": True}),
    "gru": ({"kind": "gru", "hidden_size": 32}, {"as_rows": True}),
    "transformer": ({"kind": "transformer", "width": 32, "num_layers": 1}, {"as_rows": True, "pooling": "mean"}),
}


@pytest.mark.parametrize("name", DIGITS_BACKBONES)
def test_every_backbone_learns_to_read_digits(name: str, tmp_path: Path) -> None:
    backbone, task = DIGITS_BACKBONES[name]
    settings = {"num_epochs": 3, "batch_size": 32, "learning_rate": 4e-3, "warmup_steps": 10, "evaluation_period": 60}
    result = fit(experiment(DIGITS | task, backbone, settings), tmp_path)
    assert metrics(result)["accuracy"] > 0.5  # guessing: 0.1


EVERYTHING = {"label_smoothing": 0.1, "balance_classes": True, "dropout": 0.2, "shift": 1, "flip": True, "erase": 0.5}


def test_a_run_repeats_itself_and_goes_on_to_the_bit(go_on: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings = {"num_epochs": 2, "batch_size": 64, "accumulate": 3, "evaluation_period": 5, "warmup_steps": 3}
    whole = experiment(DIGITS | EVERYTHING, MLP, settings)
    last = go_on(whole, 4)  # in the middle of an epoch, between evaluations
    fit(whole, tmp_path / "again")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "again"))
    assert last["num_steps"] == 2 * (1293 // 64 // 3)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    settings = {"num_epochs": 1, "batch_size": 64}
    for seed in (1, 2):
        fit(experiment(XOR, MLP, settings, seed=seed), tmp_path / str(seed))
    assert not same(weights(tmp_path / "1"), weights(tmp_path / "2"))


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    found = []
    for batch_size, accumulate in ((64, 1), (16, 4)):
        settings = {"batch_size": batch_size, "accumulate": accumulate, "num_epochs": 1, "warmup_steps": 0}
        run = Fit(experiment(XOR, MLP, settings), tmp_path / str(accumulate))
        run._step()
        run.close()
        found.append((float(run._loss), torch.cat([p.flatten() for p in run.network.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)


def test_it_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    settings = {"num_epochs": 100, "batch_size": 64, "learning_rate": 1e-12, "patience": 3}
    result = fit(experiment(XOR, MLP, settings), tmp_path)
    assert result.stopped_early and result.num_steps == 4  # the first is the best so far, then three that are not


def test_all_steps_without_a_new_best_are_no_early_stop(tmp_path: Path) -> None:
    settings = {"num_epochs": 2, "batch_size": 64, "learning_rate": 1e-12, "patience": 1}
    result = fit(experiment(XOR, MLP, settings), tmp_path)  # the first evaluation is the best, the last is not
    assert result.num_steps == 2 and not result.stopped_early


def test_the_best_weights_are_tested_not_the_last(tmp_path: Path) -> None:
    settings = {"num_epochs": 12, "batch_size": 64, "learning_rate": 3e-2, "schedule": "constant", "warmup_steps": 0}
    run = experiment(XOR, MLP, settings)
    result = fit(run, tmp_path)
    again = Fit(run, tmp_path / "again")
    again.network.load_state_dict(weights(tmp_path, "best"))
    with torch.no_grad():
        found = again.task.evaluate(again.network, again.task.splits.test, 64, torch.device("cpu"))
    again.close()
    assert found.metrics == metrics(result)


def test_a_frozen_backbone_does_not_move_and_the_head_does(tmp_path: Path) -> None:
    run = Fit(experiment(XOR, MLP, {"batch_size": 32, "warmup_steps": 0}, freeze_backbone=True), tmp_path)
    before = {name: weight.clone() for name, weight in run.network.state_dict().items()}
    run._step()
    run.close()
    moved = [name for name, weight in run.network.state_dict().items() if not torch.equal(weight, before[name])]
    assert moved == ["head.linear.weight", "head.linear.bias"]


def test_what_is_written_down(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loud = {"logging": {"period": 2}}
    fit(experiment(DIGITS, MLP, {"num_epochs": 1, "batch_size": 256, "evaluation_period": 3}, **loud), tmp_path)
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text().splitlines()))
    assert [int(row["time/total_timesteps"]) for row in rows] == [2, 3, 4, 5, 5]
    assert rows[-1]["test/accuracy"] and rows[0]["train/loss"]
    assert not (tmp_path / "monitor.csv").exists()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"validation/confusion", "validation/samples", "test/confusion", "test/samples"} <= set(
        events.Tags()["images"]
    )
    assert {"train/loss", "train/grad_norm", "validation/accuracy", "test/macro_f1"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": {"kind": "image_clasification"}}, "did you mean 'image_classification'"),
        ({"task": DIGITS | {"source": "digit"}}, "did you mean 'digits'"),
        ({"task": DIGITS | {"size": 32}}, r"task\.size is 32, but it is read for a folder of pictures only"),
        ({"task": DIGITS | {"pooling": "mean"}}, "task: pooling is mean, but a picture that is seen at once"),
        ({"fit": {"accumulate": 99}}, r"fit\.accumulate is 99, but an epoch has 1 batches of 128"),
        ({"fit": {"learningrate": 1}}, "did you mean 'learning_rate'"),
        ({"backbone": {"kind": "gru"}, "fit": {"compile": True}}, "works with backbones without a memory"),
        ({"init_partly": True}, "nothing reads it without init_from"),
        ({"init_from": "nowhere"}, "there is no run folder 'nowhere'"),
    ],
)
def test_what_is_wrong_is_one_sentence(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises((RunError, SettingError), match=sentence):
        Fit(from_mapping({**QUIET, "task": XOR, "backbone": MLP, "fit": {}} | change), tmp_path)


def test_a_loss_that_explodes_is_said(tmp_path: Path) -> None:
    settings = {"learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": None, "weight_decay": 0, "num_epochs": 9}
    logging = {"period": 1, "tensorboard": False, "csv": False}
    run = experiment(DIGITS, MLP | {"activation": "relu"}, settings, logging=logging)
    with pytest.raises(RunError, match=r"loss is (nan|inf) at step \d+; try a smaller fit\.learning_rate"):
        fit(run, tmp_path)


def test_a_loss_that_is_no_number_is_said_by_the_evaluation_too(tmp_path: Path) -> None:
    settings = {"learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": None, "weight_decay": 0, "num_epochs": 9}
    logging = {"period": 10_000, "tensorboard": False, "csv": False}  # nothing is logged between evaluations
    run = experiment(DIGITS, MLP | {"activation": "relu"}, settings, logging=logging)
    with pytest.raises(RunError, match=r"^loss is (nan|inf) at step \d+; try a smaller fit\.learning_rate"):
        fit(run, tmp_path)


def test_a_checkpoint_of_another_network_or_task_is_refused(tmp_path: Path) -> None:
    fit(experiment(XOR, MLP, {"num_epochs": 1}), tmp_path)
    with pytest.raises(RunError, match="does not fit the settings of task and backbone"):
        Fit(experiment(XOR, {"kind": "mlp", "hidden_sizes": [9]}, {"num_epochs": 1}), tmp_path, resume=True)
    with pytest.raises(RunError, match="data of task 'xor' are not those"):
        Fit(experiment(XOR | {"num_examples": 17}, MLP, {"num_epochs": 1}), tmp_path, resume=True)
    with pytest.raises(RunError, match="is a checkpoint of xor, not of image_classification"):
        Fit(experiment(DIGITS, MLP, {"num_epochs": 1}), tmp_path, resume=True)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(RunError, match="there is no checkpoint"):
        Fit(experiment(XOR, MLP, {"num_epochs": 1}), tmp_path, resume=True)


def test_settings_of_the_optimiser_can_change_when_a_run_goes_on(tmp_path: Path) -> None:
    first = {"batch_size": 32, "warmup_steps": 0, "momentum": 0.8, "weight_decay": 0.03, "backbone_scale": 0.5}
    started = Fit(experiment(XOR, MLP, first), tmp_path)
    started._step()
    started._save("last")
    started.close()
    second = {"batch_size": 32, "warmup_steps": 0, "momentum": 0.7, "weight_decay": 0.2, "backbone_scale": 0.1}
    resumed = Fit(experiment(XOR, MLP, second), tmp_path, resume=True)
    groups = resumed.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0, 0.2, 0.0]  # matrices and biases of head, backbone
    assert [group["scale"] for group in groups] == [1.0, 1.0, 0.1, 0.1]
    assert [group["betas"] for group in groups] == [(0.7, 0.999)] * 4
    for before, after in zip(started.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(started.optimizer.state[before]["exp_avg"], resumed.optimizer.state[after]["exp_avg"])
    resumed._step()
    resumed.close()


MEMORIES: dict[str, dict[str, Any]] = {
    "gru": {"kind": "gru", "hidden_size": 8, "encoder": {"kind": "tokens", "embedding_size": 4}},
    "lstm": {"kind": "lstm", "hidden_size": 8, "encoder": {"kind": "tokens", "embedding_size": 4}},
    "transformer": {"kind": "transformer", "width": 8, "num_layers": 1, "memory_length": 8},
}


@pytest.mark.parametrize("name", MEMORIES)
def test_a_run_with_a_memory_goes_on_with_batches_of_another_size(name: str, tmp_path: Path) -> None:
    """What is remembered of columns that are read side by side is dropped where there are more or fewer of them."""
    (tmp_path / "book.txt").write_text("a cat is fine.\n" * 100)
    task = {"kind": "text_generation", "source": str(tmp_path / "book.txt"), "num_rows": 16}
    started = Fit(experiment(task, MEMORIES[name], {"batch_size": 4}), tmp_path / "run")
    started._step()
    started._save("last")
    started.close()
    same = Fit(experiment(task, MEMORIES[name], {"batch_size": 4}), tmp_path / "run", resume=True)
    same.close()
    assert started._state is not None and same._state is not None
    assert all(torch.equal(before, after) for before, after in zip(started._state, same._state, strict=True))
    resumed = Fit(experiment(task, MEMORIES[name], {"batch_size": 3}), tmp_path / "run", resume=True)
    assert resumed._state is None
    resumed._step()
    resumed.close()
    assert resumed._state is not None
    assert {len(memory) for memory in resumed._state} == {3} and resumed.num_steps == 2


@pytest.mark.parametrize("frozen", [False, True])
def test_a_backbone_cannot_be_frozen_or_thawed_when_a_run_goes_on(frozen: bool, tmp_path: Path) -> None:
    fit(experiment(XOR, MLP, {"num_epochs": 1}, freeze_backbone=not frozen), tmp_path)
    with pytest.raises(RunError, match=r"other weights learned when .* was saved; leave freeze_backbone"):
        Fit(experiment(XOR, MLP, {"num_epochs": 1}, freeze_backbone=frozen), tmp_path, resume=True)


def test_a_checkpoint_is_plain(tmp_path: Path) -> None:
    fit(experiment(DIGITS, MLP, {"num_epochs": 1}), tmp_path)
    facts = checkpoint.load(tmp_path / "checkpoints" / "best.safetensors")["facts"]
    assert json.loads(json.dumps(facts)) == {"classes": [str(k) for k in range(10)], "shape": [8, 8]}
