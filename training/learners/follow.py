"""What a process does that learns along with the first one, and writes nothing.

B environments of all processes.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from triathlon.agents.ranks import Ranks
from triathlon.agents.registry import make_learner
from triathlon.training.board.sides import make_sides
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.machine import allow_tf32, pick_device, set_threads, start_with_one_thread
from triathlon.training.restoring import load_checkpoint, restore_learner
from triathlon.training.start_agent import start_agent
from triathlon.training.stopping import stoppable
from triathlon.training.task import make_task
from triathlon.training.workers.make import make_collector, make_run_envs


def part_of(experiment: Experiment, ranks: Ranks) -> Experiment:
    """The experiment as one of the processes plays it: with its part of the B environments.

    Raises:
        SettingError: they cannot be shared evenly.
        RunError: what trains, or who plays, cannot be several processes.
    """
    if ranks.size == 1:
        return experiment
    if experiment.engine != "native":
        raise RunError(f"engine is {experiment.engine}, but only engine: native learns in several processes")
    if experiment.workers.num:
        raise RunError(
            f"workers.num is {experiment.workers.num}, but each of several learning processes plays its own "
            "environments; set it to 0, or learn in one process"
        )
    return replace(
        experiment, env=replace(experiment.env, num_envs=ranks.share(experiment.env.num_envs, "env.num_envs"))
    )


def follow(experiment: Experiment, ranks: Ranks, resumed: Path | None = None) -> None:
    """Learn along until the first process' run ends; `resumed` is the folder of the run, if it goes on.

    A run that goes on begins new episodes here, with the replay and the opponents of the first process: only its part
    is in checkpoints.
    """
    mine = part_of(experiment, ranks)
    env_seed, learner_seed, _ = np.random.SeedSequence(experiment.seed).spawn(3)
    device = pick_device(experiment.device)
    allow_tf32(experiment.precision, device)
    with ExitStack() as made, stoppable(patient=True) as wish:
        envs = make_run_envs(mine)
        for group in envs:
            made.callback(group.close)
        start_with_one_thread()
        task = make_task(mine, envs[0], device, learner_seed, ranks)
        learner = make_learner(experiment.agent, experiment.backbone, task)
        set_threads(experiment.num_threads, learner.policy, task)
        start_agent(learner, experiment, resumed is not None)
        num_steps, opponents = 0, None
        if resumed is not None:
            path = resumed / "checkpoints" / "last.safetensors"
            state = load_checkpoint(path, experiment)
            restore_learner(learner, state, path)
            num_steps, opponents = state["num_steps"], state.get("sides")
        seeds = np.random.SeedSequence([*ranks.seed(env_seed).generate_state(2), num_steps]).generate_state(2)
        sides = make_sides(mine, envs, learner.policy, int(seeds[1]))  # other opponents and searches than elsewhere
        made.callback(sides.close)
        if opponents is not None:
            sides.load_state_dict(opponents, draws=False)
        collector = make_collector(mine, envs, learner, int(seeds[0] >> 1), sides.advise, _say)
        made.callback(collector.close)
        while num_steps < experiment.total_steps and not ranks.any(wish.to_stop):
            sides.before_rollout(num_steps)
            segment = collector.collect(learner.num_rows)
            learner.update(segment)
            collector.take_episodes()
            num_steps += ranks.total(segment.num_steps)


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


__all__ = ["follow", "part_of"]
