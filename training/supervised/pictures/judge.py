"""Who says what is on a made picture: a classifier that was trained here. N pictures, K classes, D features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from triathlon.training.errors import RunError
from triathlon.training.run_folder import open_run
from triathlon.training.supervised import config
from triathlon.training.supervised.heads import pool
from triathlon.training.supervised.network import load_checkpoint, make_network, restore_network
from triathlon.training.supervised.pictures import sample_measures
from triathlon.training.supervised.pictures.decoder import to_bytes
from triathlon.training.supervised.pictures.image_classification import ImageClassification
from triathlon.training.supervised.registry import make_task

PIXELS = 8  # side that pictures are shrunk to where only their pixels say how alike they are


class Judge:
    """The classifier of a run of `image_classification`; without a run pictures are measured by their pixels alone."""

    def __init__(self, run: str | None, shape: list[int]) -> None:
        """`shape` is that of the pictures to be judged, `[H, W]` or `[H, W, C]`.

        Raises:
            RunError: no such run, one of another task, or one that reads pictures of another shape.
        """
        self._network = None
        if run is None:
            return
        folder = open_run(run)
        experiment = config.load(folder.path / "config.yaml")
        if experiment.task.kind != "image_classification":
            raise RunError(
                f"task.judge: {run} is a run of {experiment.task.kind}; a judge is one of image_classification"
            )
        path = folder.checkpoint()
        state = load_checkpoint(path, experiment)
        task = make_task(experiment.task, state["facts"])
        assert isinstance(task, ImageClassification)
        if task.facts["shape"] != shape:
            raise RunError(f"task.judge: {run} reads pictures of {task.facts['shape']}, but these are of {shape}")
        self._task = task
        self._network = make_network(experiment, task, torch.device("cpu")).eval().requires_grad_(False)
        restore_network(self._network, state, path)

    def look(self, pictures: Iterable[Tensor]) -> Sight:
        """What is seen on pictures that come in batches `[B, C, H, W]` from 0 to 1."""
        features: list[Tensor] = []
        logits: list[Tensor] = []
        for planes in pictures:
            if self._network is None:
                features.append(F.adaptive_avg_pool2d(planes, PIXELS).flatten(1).cpu())
                continue
            obs = self._task.sequences(to_bytes(planes).reshape(-1, *self._task.facts["shape"]))
            self._network.to(planes.device)
            rows = self._network.backbone(torch.from_numpy(obs).transpose(0, 1).to(planes.device))[0]
            features.append(pool(rows, None, self._task.config.pooling).cpu())
            logits.append(self._network.head(rows, None, None).cpu())
        probability = torch.cat(logits).softmax(-1).numpy() if logits else None
        return Sight(torch.cat(features).numpy(), probability)


class Sight:
    """What a judge has seen: features `[N, D]`, and classes `[N, K]` if it knows any."""

    def __init__(self, features: NDArray[Any], probability: NDArray[Any] | None) -> None:
        self.features, self.probability = features, probability

    def measures(self, reference: Sight) -> dict[str, float]:
        """How good the pictures are; the distance is that from `reference`."""
        found = {"frechet_distance": sample_measures.frechet_distance(self.features, reference.features)}
        if self.probability is not None:
            share, divergence = sample_measures.coverage(self.probability.argmax(-1), self.probability.shape[1])
            found |= {
                "classifier_score": sample_measures.classifier_score(self.probability),
                "confidence": float(self.probability.max(-1).mean()),
                "coverage": share,
                "class_divergence": divergence,
            }
        return found


__all__ = ["Judge", "Sight"]
