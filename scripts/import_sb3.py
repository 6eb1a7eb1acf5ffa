"""`triathlon import-sb3 MODEL.zip --env.id ID`: a model of Stable-Baselines3 as a run, without opening a pickle."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from triathlon.agents.registry import make_learner
from triathlon.envs.make import make_envs
from triathlon.scripts.main import guarded
from triathlon.training import checkpoint, config
from triathlon.training.engines.sb3_zip import SB3Zip, fill_network, read_zip
from triathlon.training.errors import RunError
from triathlon.training.machine import pick_device
from triathlon.training.run_folder import create
from triathlon.training.task import make_task


def main(arguments: Sequence[str] | None = None) -> int:
    """Import as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="triathlon import-sb3",
        usage="triathlon import-sb3 MODEL.zip --env.id ID [--path.to-setting value …]",
        description="Make a run folder of a PPO or DQN that Stable-Baselines3 saved, to evaluate and watch. Only the "
        "weights and plain numbers of the zip are read. It does not say which environment it was trained in: give it.",
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.zip", help="what model.save() wrote")
    options, settings = parser.parse_known_args(arguments)
    found = read_zip(options.model)
    mapping: dict[str, Any] = found.configuration() | {"total_steps": max(1, found.num_timesteps)}
    experiment = config.from_mapping(mapping, settings)
    folder = create(experiment, ["triathlon", "import-sb3", *arguments])
    try:
        print(f"Imported into {folder.path}", flush=True)
        _import(found, experiment, folder.path)
    except BaseException:
        folder.discard()
        raise
    print(f"Score it: triathlon evaluate {folder.path}")
    return 0


def _import(found: SB3Zip, experiment: config.Experiment, folder: Path) -> None:
    """Write the checkpoint of a learner with the weights of the zip, once it was found to do the same."""
    with closing(make_envs(experiment.env, 1)) as envs:
        seed = np.random.SeedSequence(experiment.seed)
        task = make_task(experiment, envs, pick_device("cpu"), seed)
    learner: Any = make_learner(experiment.agent, experiment.backbone, task)
    fill_network(learner.network, found.weights, found.path)
    if hasattr(learner, "target"):
        learner.target.load_state_dict(learner.network.state_dict())
    if importlib.util.find_spec("stable_baselines3") is None:
        print("Not compared with Stable-Baselines3, which is not installed: pip install 'triathlon[sb3]'")
    else:
        from triathlon.training.engines.sb3_model import parity

        result = parity(found, experiment, learner.policy, task)
        print(f"Compared with Stable-Baselines3: {result}")
        if not result.holds:
            raise RunError(f"{found.path} was not imported: our network does not do what Stable-Baselines3's does")
    state = {
        "learner": learner.state_dict(with_experience=False),
        "num_steps": found.num_timesteps,
        "env": experiment.env.id,
        "num_envs": experiment.env.num_envs,
    }
    checkpoint.save(folder / "checkpoints" / "last.safetensors", state)


if __name__ == "__main__":
    sys.exit(guarded(main))
