"""Variational autoencoders: the bound, its two parts, and that a run goes on to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from triathlon.training import checkpoint
from triathlon.training.supervised.config import SupervisedExperiment, from_mapping
from triathlon.training.supervised.fit import Fit, fit
from triathlon.training.supervised.losses import kl_to_standard_normal
from triathlon.training.supervised.network import make_network
from triathlon.training.supervised.pictures.decoder import VariationalHead, between, to_bytes, to_obs, to_planes
from triathlon.training.supervised.registry import make_task

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
MLP = {"kind": "mlp", "hidden_sizes": [64], "activation": "relu"}
CPU = torch.device("cpu")


def experiment(task: dict[str, Any], num_epochs: int, **others: Any) -> SupervisedExperiment:
    settings = {"batch_size": 64, "learning_rate": 5e-3, "warmup_steps": 10, "max_grad_norm": 100}
    settings |= {"num_epochs": num_epochs, "evaluation_period": 50}
    task = {"kind": "vae", "code_size": 6, "decoder_channels": 16, **task}
    return from_mapping({**QUIET, "task": task, "backbone": MLP, "fit": settings, **others})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    network: dict[str, torch.Tensor] = checkpoint.load(folder / "checkpoints" / "last.safetensors")["network"]
    return network


def test_the_divergence_is_that_of_normal_distributions() -> None:
    mean, log_variance = torch.tensor([[0.0, 0.0], [1.0, -2.0]]), torch.tensor([[0.0, 0.0], [0.3, -0.7]])
    there = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    expected = torch.distributions.kl_divergence(there, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    assert torch.allclose(kl_to_standard_normal(mean, log_variance), expected)
    assert kl_to_standard_normal(mean, log_variance)[0] == 0


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[SupervisedExperiment, Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("vae")
    run = experiment({"kl_warmup_steps": 40}, 12)
    result = fit(run, folder)
    assert result.test is not None
    return run, folder, result.test.metrics


def test_it_learns_more_than_the_mean_picture(learned: tuple[Any, Path, dict[str, float]]) -> None:
    metrics = learned[2]
    task = make_task(learned[0].task)
    pixels = task.splits.train.obs / 255  # type: ignore[attr-defined]
    mean = np.clip(pixels.mean((0, 1)), 1e-3, 1 - 1e-3)
    test = task.splits.test.obs[:, 0] / 255  # type: ignore[attr-defined]
    without_a_code = -(test * np.log(mean) + (1 - test) * np.log(1 - mean)).sum((1, 2)).mean()
    assert metrics["elbo"] == pytest.approx(-metrics["reconstruction"] - metrics["kl"], rel=1e-5)
    assert -metrics["elbo"] < without_a_code - 0.5
    assert metrics["kl"] > 1 and metrics["active_units"] >= 3


def test_what_is_drawn_is_seen_in_tensorboards_pictures_and_in_a_file(
    learned: tuple[Any, Path, Any], tmp_path: Path
) -> None:
    run, folder, _ = learned
    state = checkpoint.load(folder / "checkpoints" / "best.safetensors")
    task = make_task(run.task, state["facts"])
    network = make_network(run, task, CPU).eval()
    network.load_state_dict(state["network"])
    data = make_task(run.task).splits
    with torch.no_grad():
        pictures = task.evaluate(network, data.test, 64, CPU).pictures
        again = task.evaluate(network, data.test, 64, CPU).pictures
    # pictures of 8 x 8 are shown eight times as large, two pixels apart
    assert pictures["reconstructions"].shape == (2 * 66, 12 * 66, 3)
    assert pictures["samples"].shape == (8 * 66, 8 * 66, 3)
    assert pictures["interpolations"].shape == (8 * 66, 10 * 66, 3)
    assert all(np.array_equal(pictures[name], again[name]) for name in pictures)
    Image.fromarray(data.test.batch(np.arange(1)).obs[0, 0].numpy()).save(tmp_path / "mine.png")
    with torch.no_grad():
        (line,) = task.predict(network, [tmp_path / "mine.png"], CPU)
    assert line.startswith(f"{tmp_path}/mine.png: elbo -") and line.endswith("mine.made-again.png")
    made = np.asarray(Image.open(tmp_path / "mine.made-again.png"), np.float32)
    wanted = data.test.batch(np.arange(1)).obs[0, 0].numpy()
    assert made.shape == (8, 8) and np.abs(made - wanted).mean() < 45


def test_a_class_that_was_not_learned_is_told_by_the_bound(tmp_path: Path) -> None:
    result = fit(experiment({"held_out": "9"}, 10), tmp_path)
    assert result.test is not None
    assert result.test.metrics["auroc"] > 0.6 and result.test.metrics["elbo_held_out"] < result.test.metrics["elbo"]


def test_the_cost_of_codes_rises_and_is_kept_with_the_weights(tmp_path: Path) -> None:
    run = Fit(experiment({"kl_warmup_steps": 3, "beta": 2.0}, 1), tmp_path)
    head = run.network.head
    assert isinstance(head, VariationalHead)
    found = [float(head.beta)]
    for _ in range(5):
        run._step()
        found.append(float(head.beta))
    run.close()
    assert found == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    run._save("last")
    assert weights(tmp_path)["head.beta"] == 2.0


def test_a_run_goes_on_to_the_bit(go_on: Callable[..., dict[str, Any]]) -> None:
    go_on(experiment({"kl_warmup_steps": 30}, 2), 13)


def test_colours_and_odd_sides_come_through(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(15):
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / name / f"{i}.png")
    run = from_mapping({**QUIET, "task": {"kind": "vae", "source": str(tmp_path), "size": 9}})
    made = make_task(run.task)
    network = make_network(run, made, CPU)
    with torch.no_grad():
        found = made.evaluate(network, made.splits.test, 4, CPU)
    assert found.pictures["interpolations"].shape == (2 * 65, 10 * 65, 3)


def test_planes_and_observations_are_each_others_inverse() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ([5, 7], [5, 7, 3]):
        obs = torch.randint(0, 256, (1, 4, *shape), generator=generator, dtype=torch.uint8)
        planes = to_planes(obs)
        assert planes.shape == (4, shape[2] if len(shape) == 3 else 1, 5, 7)
        assert torch.equal(to_obs(planes, shape).round().to(torch.uint8), obs)
        assert np.array_equal(to_bytes(planes).reshape(4, *shape), obs[0].numpy())


def test_codes_between_two_lie_on_a_line_from_one_to_the_other() -> None:
    first, last = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[4.0, 2.0], [1.0, -1.0]])
    assert between(first, last, 3).tolist() == [[0, 0], [2, 1], [4, 2], [1, 1], [1, 0], [1, -1]]
