"""`triathlon watch RUN`: see a trained agent play, in a window or as a film."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from triathlon.agents.agent import Policy
from triathlon.envs.make import EnvConfig, make_env, make_envs
from triathlon.envs.screen import has_screen
from triathlon.envs.tuples import without_tuples
from triathlon.scripts.board_run import looking_ahead
from triathlon.scripts.evaluate import add_playing_options, check_playing_options, plays_best
from triathlon.scripts.main import guarded
from triathlon.training import video
from triathlon.training.errors import RunError
from triathlon.training.evaluate import Evaluation, evaluate, film
from triathlon.training.restoring import load_policy
from triathlon.training.saliency import film_saliency


def main(arguments: Sequence[str] | None = None) -> int:
    """Show or film as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="triathlon watch", description="See a trained agent play.")
    add_playing_options(parser, num_episodes=1)
    parser.add_argument("--out", type=Path, metavar="FILE", help="film it into this .mp4 or .gif; default: a window")
    text = "beside the film, what of the agent's picture its decisions hang on: the action red, the value blue"
    parser.add_argument("--saliency", action="store_true", help=text)
    options = parser.parse_args(arguments)
    folder, checkpoint, seed = check_playing_options(options)
    if options.out is None and not has_screen():
        raise RunError("there is no screen to open a window on; film it with --out film.mp4")
    if options.saliency and (options.out is None or options.search):
        raise RunError("--saliency is shown beside a film of the bare policy: give --out film.mp4, and no --search")

    experiment = folder.experiment()
    policy = load_policy(checkpoint, experiment)
    play = _show if options.out is None else _film
    played = play(policy, experiment.judging_env, seed, options, plays_best(options, experiment))
    if options.out is not None:
        print(f"Video:  {options.out}")
    print(f"Return: {', '.join(f'{value:.1f}' for value in played.returns)}")
    return 0


def _show(policy: Policy, env: EnvConfig, seed: int, options: argparse.Namespace, best: bool) -> Evaluation:
    """Play whole episodes in a window, at the speed that the environment asks for."""
    envs = without_tuples(SyncVectorEnv([lambda: make_env(env, "human")], autoreset_mode=AutoresetMode.NEXT_STEP))
    try:
        actor = looking_ahead(policy, envs, options, np.random.default_rng(seed))
        return evaluate(actor, envs, options.episodes, seed, best)
    finally:
        envs.close()


def _film(policy: Policy, env: EnvConfig, seed: int, options: argparse.Namespace, best: bool) -> Evaluation:
    envs = make_envs(env, 1, render=True)
    try:
        with video.record(options.out, video.frames_per_second(envs.metadata)) as recording:
            if options.saliency:
                return film_saliency(policy, envs, recording.add, seed, options.episodes, best)
            actor = looking_ahead(policy, envs, options, np.random.default_rng(seed))
            return film(actor, envs, recording.add, seed, options.episodes, best)
    finally:
        envs.close()


if __name__ == "__main__":
    sys.exit(guarded(main))
