"""The average of the weights: how it follows them, that it is what is tested, and that it goes on to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from triathlon.networks.errors import SettingError
from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import SupervisedExperiment, from_mapping
from triathlon.training.supervised.fit import Fit, fit

XOR = {"kind": "xor", "num_examples": 64}
FIT = {"batch_size": 32, "learning_rate": 3e-2, "warmup_steps": 0, "num_epochs": 6, "evaluation_period": 5}


def experiment(averaging: float | None, task: Any = XOR, **others: Any) -> SupervisedExperiment:
    quiet = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
    fitting = {**FIT, "averaging": averaging, **others}
    return from_mapping({**quiet, "task": task, "backbone": {"kind": "mlp", "hidden_sizes": [8]}, "fit": fitting})


def loaded(folder: Path, name: str) -> dict[str, Any]:
    return checkpoint.load(folder / "checkpoints" / f"{name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_average_keeps_its_share_of_itself_and_less_at_first(tmp_path: Path) -> None:
    run = Fit(experiment(0.2), tmp_path)
    expected = {name: weight.detach().clone() for name, weight in run.network.named_parameters()}
    for share in (1 / 11, 2 / 12, 0.2, 0.2):
        run._step()
        for name, weight in run.network.named_parameters():
            expected[name] = share * expected[name] + (1 - share) * weight.detach()
        for name, mean in run.judged.named_parameters():
            assert torch.allclose(mean, expected[name], atol=1e-6)
            assert not torch.equal(mean, run.network.get_parameter(name)) and not mean.requires_grad
    run.close()


def test_the_average_is_what_is_measured_and_kept_as_the_best(tmp_path: Path) -> None:
    run = experiment(0.9, evaluation_period=12)  # evaluated once, after the last step
    result = fit(run, tmp_path)
    best, last = loaded(tmp_path, "best"), loaded(tmp_path, "last")
    assert same(best["network"], last["average"])
    assert not same(best["network"], last["network"])
    again = Fit(experiment(None), tmp_path / "again")
    found = []
    for weights in (best["network"], last["network"]):
        again.network.load_state_dict(weights)
        with torch.no_grad():
            found.append(again.task.evaluate(again.network, again.task.splits.test, 32, torch.device("cpu")).metrics)
    again.close()
    assert result.test is not None
    assert result.test.metrics == found[0] != found[1]


def test_an_average_goes_on_to_the_bit(go_on: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    last = go_on(experiment(0.9), 4)  # before the first evaluation
    assert same(last["average"], loaded(tmp_path / "whole", "last")["average"])
    assert not same(last["average"], last["network"])


def test_averaging_can_begin_and_end_where_a_run_goes_on(tmp_path: Path) -> None:
    fit(experiment(None, num_epochs=2), tmp_path)
    begun = Fit(experiment(0.9), tmp_path, resume=True)
    assert same(dict(begun.judged.state_dict()), loaded(tmp_path, "last")["network"])
    begun._step()
    assert not same(dict(begun.judged.state_dict()), dict(begun.network.state_dict()))
    begun._save("last")
    begun.close()
    ended = Fit(experiment(None), tmp_path, resume=True)
    assert ended.judged is ended.network
    assert same(dict(ended.network.state_dict()), loaded(tmp_path, "last")["network"])
    ended.close()


def test_what_a_task_keeps_of_its_steps_is_not_averaged(tmp_path: Path) -> None:
    vae = {"kind": "vae", "source": "digits", "kl_warmup_steps": 3, "code_size": 2, "decoder_channels": 4}
    run = Fit(experiment(0.9, vae), tmp_path)
    for beta in (0.5, 0.75):  # the cost of the next step's codes
        run._step()
        assert run.judged.get_buffer("head.beta").item() == beta
    run.close()


def test_a_task_that_averages_by_itself_is_not_averaged_again(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"fit\.averaging: task 'gan' averages by itself \(task\.averaging\)"):
        Fit(experiment(0.9, {"kind": "gan", "source": "digits"}), tmp_path)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_is_between_none_and_all(share: float) -> None:
    with pytest.raises(RunError, match=r"averaging"):
        experiment(share)
