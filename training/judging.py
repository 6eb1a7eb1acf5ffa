"""How good a trained agent is: the episodes that judge it, and a film of one."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from triathlon.agents.agent import Learner, Policy
from triathlon.envs.atari_scores import human_normalized
from triathlon.envs.make import make_envs
from triathlon.training import video
from triathlon.training.bottleneck import Bottleneck
from triathlon.training.config import Experiment
from triathlon.training.env_group import Episode
from triathlon.training.evaluate import JUDGING_SEED, Evaluation, evaluate, film
from triathlon.training.logger import Logger
from triathlon.training.restoring import load_checkpoint, restore_learner
from triathlon.training.saliency import Saliency, film_saliency
from triathlon.training.schema import to_mapping

JUDGING_ENVS = 20  # side by side; with the seed, they are what a score repeats with


@dataclass(slots=True)
class Result:
    """How a run ended: environment steps and seconds of training, and the checkpoint to use."""

    num_steps: int
    seconds: float
    checkpoint: Path
    interrupted: bool
    bottleneck: Bottleneck  # where the time of this process went, the final episodes and the video left out
    returns: list[float] = field(default_factory=list)  # of the episodes that judge the trained policy
    video: Path | None = None
    no_video: str | None = None  # why there is none, if one was asked for


def scores(tag: str, normalized_tag: str, returns: Sequence[float], env_id: str) -> dict[str, float]:
    """The mean return, and beside it the human-normalised one where that is known (Atari)."""
    mean = float(np.mean(returns))
    normalized = human_normalized(env_id, mean)
    return {tag: mean} | ({} if normalized is None else {normalized_tag: normalized})


def rollout_scores(episodes: Collection[Episode], env_id: str) -> dict[str, float]:
    """What is logged of the training episodes that ended last; nothing if none has."""
    if not episodes:
        return {}
    returns = [episode.episode_return for episode in episodes]
    length = float(np.mean([episode.length for episode in episodes]))
    return scores("rollout/ep_rew_mean", "rollout/human_normalized", returns, env_id) | {"rollout/ep_len_mean": length}


def evaluation_scores(played: Evaluation, env_id: str) -> dict[str, float]:
    """What is logged of an evaluation while training."""
    length = {"eval/mean_ep_length": float(np.mean(played.lengths))}
    return scores("eval/mean_reward", "eval/human_normalized", played.returns, env_id) | length


def judged_by(experiment: Experiment) -> dict[str, Any]:
    """What a score says something about: scores by others cannot be compared with it."""
    env = to_mapping(experiment.judging_env)
    for name in ("num_envs", "num_groups", "vectorization"):
        env.pop(name)
    return {"env": env, "exactly": experiment.self_play is not None and experiment.self_play.exploitability}


def check_film(experiment: Experiment, policy: Policy, space: Space[Any]) -> None:
    """Raises RunError before a run if its film was to show what a policy that sees no pictures looks at."""
    if experiment.evaluation.saliency:
        Saliency(policy, space)


def judge(
    result: Result, experiment: Experiment, folder: Path, learner: Learner, logger: Logger, can_draw: bool
) -> None:
    """Play the final episodes and the video with the best policy (the last one, if none was evaluated before).

    `can_draw` says whether the environment has pictures of itself to film.
    """
    config = experiment.evaluation
    best = folder / "checkpoints" / "best.safetensors"
    if best.exists():
        result.checkpoint = best
        restore_learner(learner, load_checkpoint(best, experiment), best)
    metrics: dict[str, float] = {}
    if config.final_episodes:
        sys.stderr.write(f"Playing {config.final_episodes} fresh episodes for the score.\n")
        with closing(make_envs(experiment.judging_env, min(config.final_episodes, JUDGING_ENVS))) as envs:
            played = evaluate(learner.policy, envs, config.final_episodes, JUDGING_SEED, config.deterministic)
        result.returns = played.returns
        metrics = scores("eval/final_mean_reward", "eval/final_human_normalized", played.returns, experiment.env.id)
        logger.scalars(metrics, result.num_steps)
    logger.hparams(to_mapping(experiment), metrics, result.num_steps)
    if config.video and can_draw:
        _film(result, experiment, folder, learner, logger)
    elif config.video:
        result.no_video = f"{experiment.env.id} cannot draw itself (it has no render mode rgb_array)"


def _film(result: Result, experiment: Experiment, folder: Path, learner: Learner, logger: Logger) -> None:
    """One episode as an mp4 in the run folder and as an animation in TensorBoard, or the reason why there is none.

    Whatever goes wrong here, and Ctrl-C too, costs the film only: the score is more.
    """
    path = folder / "videos" / "final.mp4"
    try:
        with closing(make_envs(experiment.judging_env, 1, render=True)) as envs:
            fps = video.frames_per_second(envs.metadata)
            small = video.Thumbnails(fps)
            with video.record(path, fps) as large:

                def add_frame(frame: NDArray[np.uint8]) -> None:
                    large.add(frame)
                    small.add(frame)

                deterministic = experiment.evaluation.deterministic
                play = film_saliency if experiment.evaluation.saliency else film
                play(learner.policy, envs, add_frame, JUDGING_SEED, deterministic=deterministic)
        result.video = path
        logger.video("eval/video", small.frames, small.fps, result.num_steps)
    except KeyboardInterrupt:
        result.no_video = "stopped"
    except Exception as error:
        result.no_video = " ".join(str(error).split()) or type(error).__name__
