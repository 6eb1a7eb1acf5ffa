"""`triathlon export-sb3 RUN MODEL.zip`: the policy of a run as a zip that Stable-Baselines3 loads."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from triathlon.envs.make import make_envs
from triathlon.scripts.main import guarded
from triathlon.training.atomic_write import write_beside
from triathlon.training.engines.sb3_zip import read_zip
from triathlon.training.errors import RunError
from triathlon.training.machine import pick_device
from triathlon.training.restoring import load_checkpoint, load_policy
from triathlon.training.run_folder import open_run
from triathlon.training.task import make_task


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="triathlon export-sb3",
        description="Write the policy of a run for Stable-Baselines3: PPO or DQN, with an mlp or Nature's cnn.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder of a run ('latest': the last one started)")
    parser.add_argument("model", type=Path, metavar="MODEL.zip", help="the file to write")
    parser.add_argument("--checkpoint", choices=["best", "last"], help="default: the best if there is one")
    options = parser.parse_args(arguments)
    if options.model.suffix != ".zip":
        raise RunError(f"{options.model} should end in .zip, where Stable-Baselines3 looks for it")
    if importlib.util.find_spec("stable_baselines3") is None:
        raise RunError("Stable-Baselines3, which writes the zip, is not installed: pip install 'triathlon[sb3]'")
    from triathlon.training.engines.sb3_model import export, left_out, parity

    folder = open_run(options.run)
    experiment, path = replace(folder.experiment(), device="cpu"), folder.checkpoint(options.checkpoint)
    if experiment.agent.kind not in ("ppo", "dqn"):
        raise RunError(f"agent.kind is {experiment.agent.kind}, which Stable-Baselines3 does not have; ppo and dqn go")
    policy = load_policy(path, experiment)
    with closing(make_envs(experiment.env, 1)) as envs:
        task = make_task(experiment, envs, pick_device("cpu"), np.random.SeedSequence(experiment.seed))
    if options.model.is_dir():
        raise RunError(f"{options.model} is a folder, not a file to write")
    with write_beside(options.model) as temporary:
        export(experiment, policy, task, load_checkpoint(path, experiment)["num_steps"], temporary)
        result = parity(read_zip(temporary), experiment, policy, task)
        print(f"Compared with Stable-Baselines3: {result}")
        if not result.holds:
            raise RunError(f"{options.model} was not kept: Stable-Baselines3's network does not do what ours does")
    if names := left_out(experiment.agent):
        print(f"Not in it, so that Stable-Baselines3 trains on without: {', '.join(names)}")
    print(f"Written: {options.model} ({path.stem} checkpoint of {folder.path})")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
