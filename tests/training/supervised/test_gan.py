"""Generative adversarial networks: who gets which gradient, what is averaged, how made pictures are judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.linalg import sqrtm
from torch.nn import functional as F

from triathlon.networks.errors import SettingError
from triathlon.training import checkpoint
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import SupervisedExperiment, from_mapping
from triathlon.training.supervised.fit import Fit, fit
from triathlon.training.supervised.network import make_network
from triathlon.training.supervised.pictures.adversarial import AdversarialHead, Gan
from triathlon.training.supervised.pictures.decoder import to_obs, to_planes
from triathlon.training.supervised.pictures.image_classification import ImageClassification
from triathlon.training.supervised.pictures.judge import Judge
from triathlon.training.supervised.pictures.sample_measures import classifier_score, coverage, frechet_distance
from triathlon.training.supervised.registry import make_task

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
MLP = {"kind": "mlp", "hidden_sizes": [64], "activation": "relu"}
CPU = torch.device("cpu")


def experiment(num_epochs: int, backbone: Any = MLP, **task: Any) -> SupervisedExperiment:
    how: dict[str, Any] = {
        "batch_size": 64,
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "max_grad_norm": None,
        "momentum": 0.5,
    }
    how |= {"num_epochs": num_epochs, "evaluation_period": 100, "schedule": "constant", "weight_decay": 0.0}
    task = {"kind": "gan", "code_size": 8, "decoder_channels": 16, **task}
    return from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": how})


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows digits."""
    from triathlon.training.run_folder import create_below

    how = {"num_epochs": 12, "batch_size": 64, "learning_rate": 1e-2, "warmup_steps": 10, "evaluation_period": 120}
    task = {"kind": "image_classification", "source": "digits"}
    mapping = {**QUIET, "task": task, "backbone": MLP, "fit": how, "root": str(tmp_path_factory.mktemp("runs"))}
    run = from_mapping(mapping)
    folder = create_below("image_classification", "mlp", run, ["triathlon"])
    fit(run, folder.path)
    return folder.path


def gradients(run: Fit) -> dict[str, torch.Tensor]:
    task, network = run.task, run.network
    batch = task.splits.train.batch(np.arange(16))
    loss, _ = task.loss(network, batch, None, torch.Generator().manual_seed(3))
    network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_one_backward_pass_gives_each_player_its_own_gradient(penalty: float, tmp_path: Path) -> None:
    run = Fit(experiment(1, gradient_penalty=penalty), tmp_path)
    run.close()
    found, network, head = gradients(run), run.network, run.network.head
    assert isinstance(head, AdversarialHead)
    shape = run.task.facts["shape"]
    noise = torch.randn(16, 8, generator=torch.Generator().manual_seed(3))
    planes = to_planes(run.task.splits.train.batch(np.arange(16)).obs).requires_grad_()

    players = {
        "generator": [f"head.generator.{name}" for name, _ in head.generator.named_parameters()],
        "discriminator": [n for n, _ in network.named_parameters() if n.startswith(("backbone.", "head.linear."))],
    }
    assert sorted(found) == sorted(players["generator"] + players["discriminator"])
    parameters = dict(network.named_parameters())
    made = to_obs(head.generator.decode(noise), shape)
    fools = F.softplus(-network(made)[0]).mean()
    expected = torch.autograd.grad(fools, [parameters[name] for name in players["generator"]])
    for name, gradient in zip(players["generator"], expected, strict=True):
        assert torch.allclose(found[name], gradient, atol=1e-7)
    real = network(to_obs(planes, shape))[0]
    tells = F.softplus(-real).mean() + F.softplus(network(made.detach())[0]).mean()
    (slope,) = torch.autograd.grad(real.sum(), planes, create_graph=True)
    tells = tells + penalty / 2 * (slope**2).sum((1, 2, 3)).mean()
    expected = torch.autograd.grad(tells, [parameters[name] for name in players["discriminator"]])
    for name, gradient in zip(players["discriminator"], expected, strict=True):
        assert torch.allclose(found[name], gradient, atol=1e-6)


def test_what_is_tested_is_the_average_of_the_generators_steps(tmp_path: Path) -> None:
    run = Fit(experiment(1, averaging=0.5), tmp_path)
    head = run.network.head
    assert isinstance(head, AdversarialHead)
    expected = head.generator.enter.weight.detach().clone()
    assert torch.equal(head.average.enter.weight, expected)
    for share in (1 / 11, 2 / 12, 3 / 13):
        run._step()
        expected = share * expected + (1 - share) * head.generator.enter.weight.detach()
        assert torch.allclose(head.average.enter.weight, expected, atol=1e-6)
    run.close()


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory, judge: Path
) -> tuple[SupervisedExperiment, Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("gan")
    run = experiment(15, judge=str(judge))
    result = fit(run, folder)
    assert result.test is not None
    return run, folder, result.test.metrics


def test_it_learns_to_make_digits_by_the_judgement_of_a_classifier(
    learned: tuple[SupervisedExperiment, Path, dict[str, float]], tmp_path: Path
) -> None:
    run, _, metrics = learned
    untrained = Fit(run, tmp_path)
    untrained.close()
    with torch.no_grad():
        before = untrained.task.evaluate(untrained.network, untrained.task.splits.test, 64, CPU).metrics
    assert metrics["frechet_distance"] < 0.4 * before["frechet_distance"]
    assert metrics["classifier_score"] > before["classifier_score"] + 0.5
    assert metrics["real_classifier_score"] > 7 and metrics["real_coverage"] == 1.0
    assert metrics["real_frechet_distance"] < metrics["frechet_distance"]
    assert 0 <= metrics["fooled"] <= 1 and metrics["recognised"] > 0.4


def test_a_run_predicts_without_data_or_judge(learned: tuple[SupervisedExperiment, Path, Any], tmp_path: Path) -> None:
    run, folder, _ = learned
    state = checkpoint.load(folder / "checkpoints" / "best.safetensors")
    task = make_task(run.task, state["facts"])
    network = make_network(run, task, CPU).eval()
    network.load_state_dict(state["network"])
    digit = make_task(run.task).splits.test.batch(np.arange(1)).obs[0, 0].numpy()
    for name, picture in (("digit", digit), ("stripes", np.tile(np.array([0, 255], np.uint8), (8, 4)))):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    with torch.no_grad():
        files = [tmp_path / "digit.png", tmp_path / "stripes.png"]
        real, unreal = (float(line.split()[-1]) for line in task.predict(network, files, CPU))
    assert real > unreal


def test_a_run_goes_on_to_the_bit(go_on: Callable[..., dict[str, Any]]) -> None:
    assert go_on(experiment(2), 13)["num_steps"] == 40


def test_pictures_of_colour_and_a_convolution_work_and_samples_are_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(15):
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / "mine" / name / f"{i}.png")
    run = Fit(experiment(1, {"kind": "cnn", "features": 16}, source=str(tmp_path / "mine"), size=9), tmp_path / "run")
    run._step()
    run.close()
    with torch.no_grad():
        found = run.task.evaluate(run.network, run.task.splits.test, 4, CPU)
    assert set(found.metrics) == {"frechet_distance", "real_frechet_distance", "fooled", "recognised"}
    assert found.pictures["samples"].shape == (8 * 65, 8 * 65, 3)
    assert found.pictures["interpolations"].shape == (8 * 65, 10 * 65, 3)


def test_a_judge_sees_what_its_own_run_sees(judge: Path) -> None:
    task = make_task(from_mapping({"task": {"kind": "image_classification", "source": "digits"}}).task)
    assert isinstance(task, ImageClassification)
    batch = task.splits.test.batch(np.arange(359))
    sight = Judge(str(judge), [8, 8]).look([to_planes(batch.obs)[:200], to_planes(batch.obs)[200:]])
    assert sight.features.shape == (359, 64) and sight.probability is not None
    accuracy = (sight.probability.argmax(-1) == batch.target.numpy()).mean()
    assert accuracy == pytest.approx(_score(judge), abs=1e-6)


def _score(folder: Path) -> float:
    run = from_mapping({**QUIET, "task": {"kind": "image_classification", "source": "digits"}, "backbone": MLP})
    task = make_task(run.task)
    network = make_network(run, task, CPU).eval()
    network.load_state_dict(checkpoint.load(folder / "checkpoints" / "best.safetensors")["network"])
    with torch.no_grad():
        return task.evaluate(network, task.splits.test, 64, CPU).metrics["accuracy"]


def test_what_is_wrong_is_one_sentence(judge: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder 'nobody'"):
        make_task(experiment(1, judge="nobody").task)
    with pytest.raises(RunError, match=r"reads pictures of \[8, 8\], but these are of \[9, 9\]"):
        Judge(str(judge), [9, 9])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("task: {kind: autoencoder}")
    with pytest.raises(RunError, match="is a run of autoencoder; a judge is one of image_classification"):
        Judge(str(tmp_path / "other"), [8, 8])
    mapping = {**QUIET, "task": {"kind": "gan"}, "backbone": MLP, "freeze_backbone": True}
    with pytest.raises(SettingError, match="a frozen discriminator cannot be learned against"):
        Fit(from_mapping(mapping), tmp_path / "run")


def test_a_compiled_discriminator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triathlon.training.supervised.network.has_compiler", lambda device: True)
    mapping = {**QUIET, "task": {"kind": "gan"}, "backbone": MLP, "fit": {"compile": True}}
    with pytest.raises(SettingError, match="cannot go through compiled code; set it to false"):
        Fit(from_mapping(mapping), tmp_path)


def test_the_score_is_one_to_the_number_of_classes() -> None:
    assert classifier_score(np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]) == pytest.approx(4)
    assert classifier_score(np.full((9, 4), 0.25)) == pytest.approx(1)
    assert classifier_score(np.eye(4)[[2, 2, 2]]) == pytest.approx(1)
    half = np.array([[0.9, 0.1], [0.1, 0.9]])  # log 2 - H(0.9)
    assert classifier_score(half) == pytest.approx(2 * 0.9**0.9 * 0.1**0.1)


def test_coverage_counts_classes_that_are_more_than_a_slip() -> None:
    assert coverage(np.arange(10), 10) == (1.0, pytest.approx(0))
    assert coverage(np.zeros(50, int), 10) == (0.1, pytest.approx(np.log(10)))
    guess = np.repeat([0, 1, 2], [500, 496, 4])  # the third has less than a tenth of a quarter
    assert coverage(guess, 4)[0] == 0.5


@settings(deadline=None)  # the first call imports much
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_distance_is_that_of_the_textbook(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(40, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)
    b = rng.normal(size=(30, size)) @ rng.normal(size=(size, size))
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    cross = np.trace(sqrtm(first @ second)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_score_and_distance_are_those_of_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore

    class Flat(torch.nn.Module):
        num_features = 5

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().flatten(1)

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 5, 1, 1, generator=generator) * scale + 1 for n, scale in ((60, 1), (50, 2)))
    distance = FrechetInceptionDistance(Flat(), normalize=True, input_img_size=(5, 1, 1))
    distance.update(a, real=True)
    distance.update(b, real=False)
    expected = float(distance.compute())
    assert frechet_distance(a.flatten(1).numpy(), b.flatten(1).numpy()) == pytest.approx(expected, rel=1e-4)
    score = InceptionScore(Flat(), normalize=False, splits=1)
    score.update(a)
    expected = float(score.compute()[0])
    assert classifier_score(a.flatten(1).softmax(-1).numpy()) == pytest.approx(expected, rel=1e-4)


def test_the_distance_of_one_number_is_between_means_and_deviations() -> None:
    a, b = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])
    assert frechet_distance(a, b) == pytest.approx((5 - 1) ** 2 + (8**0.5 - 2**0.5) ** 2)


def test_the_space_of_facts_is_that_of_the_data() -> None:
    assert Gan(Gan.Config(), {"shape": [12, 9, 3]}).space.shape == (12, 9, 3)  # type: ignore[call-arg]
