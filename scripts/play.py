"""What the commands do with a trained agent: score it and film it. T frames, H height, W width."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.make import make_envs
from triathlon.training import video
from triathlon.training.atomic_write import write_text
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.evaluate import Evaluation, evaluate
from triathlon.training.runner import load_policy
from triathlon.training.statistics import Summary, summarize

SCORE_SEED = 2_000_000_011  # episodes of neither the training nor the evaluations within it


def score(experiment: Experiment, checkpoint: Path, num_episodes: int, seed: int, deterministic: bool) -> Evaluation:
    """Play whole episodes with the policy of a checkpoint.

    Raises:
        RunError: the checkpoint does not belong to this experiment, or is damaged.
    """
    policy = load_policy(checkpoint, experiment)
    envs = make_envs(experiment.env, min(experiment.evaluation.num_envs, num_episodes))
    try:
        return evaluate(policy, envs, num_episodes, seed, deterministic)
    finally:
        envs.close()


def film(
    experiment: Experiment, checkpoint: Path, out: Path, num_episodes: int, seed: int, deterministic: bool = True
) -> tuple[Evaluation, NDArray[np.uint8], float]:
    """Film whole episodes into `out`; also gives them as small frames `[T, H, W, 3]` and their frames a second.

    Raises:
        RunError: the environment cannot be drawn, or the file cannot be written.
    """
    policy = load_policy(checkpoint, experiment)
    envs = make_envs(experiment.env, 1, render=True)
    try:
        fps = video.frames_per_second(envs.metadata)
        small = video.Thumbnails(fps)
        with video.record(out, fps) as large:

            def take(active: NDArray[np.bool_]) -> None:
                frames = envs.render()
                if frames is None or frames[0] is None:
                    raise RunError(f"{experiment.env.id} cannot be drawn as a picture, so it cannot be filmed")
                frame = np.asarray(frames[0], np.uint8)
                large.add(frame)
                small.add(frame)

            played = evaluate(policy, envs, num_episodes, seed, deterministic, on_step=take)
        return played, small.frames, small.fps
    finally:
        envs.close()


def summary(scores: Sequence[float], seed: int) -> Summary:
    """Mean, interquartile mean and their intervals, the same for the same scores."""
    return summarize(scores, np.random.default_rng(seed))


def write_scores(path: Path, played: Evaluation, checkpoint: Path, seed: int, deterministic: bool) -> Summary:
    """Write down what was scored and how, in JSON; returns the summary."""
    found = summary(played.returns, seed)
    content = {
        "checkpoint": checkpoint.name,
        "seed": seed,
        "deterministic": deterministic,
        "mean": found.mean,
        "mean_interval": found.mean_interval,
        "iqm": found.iqm,
        "iqm_interval": found.iqm_interval,
        "returns": played.returns,
        "lengths": played.lengths,
    }
    write_text(path, json.dumps(content) + "\n")
    return found
