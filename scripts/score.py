"""What the commands say about how good an agent is, and write down so that it can be checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triathlon.training.atomic_write import write_text
from triathlon.training.statistics import Summary, summarize


def summary(scores: Sequence[float]) -> Summary:
    """Mean, interquartile mean and their intervals: for the same scores always the same."""
    return summarize(scores, np.random.default_rng(0))


def write_score(
    path: Path, returns: Sequence[float], checkpoint: Path, seed: int, deterministic: bool, search: str | None = None
) -> None:
    """Write the returns of episodes, their summary and how they were played as JSON; raises RunError if it cannot."""
    found = summary(returns)
    content = {
        "checkpoint": checkpoint.name,
        "seed": seed,
        "deterministic": deterministic,
        **({} if search is None else {"search": search}),
        "mean": found.mean,
        "mean_interval": found.mean_interval,
        "iqm": found.iqm,
        "iqm_interval": found.iqm_interval,
        "returns": list(returns),
    }
    write_text(path, json.dumps(content) + "\n")
