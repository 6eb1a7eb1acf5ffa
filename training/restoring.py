"""From a checkpoint back to a learner or a policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triathlon.agents.agent import Learner, Policy
from triathlon.agents.registry import make_learner
from triathlon.envs.make import EnvConfig, make_envs
from triathlon.training import checkpoint
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.machine import pick_device, set_threads
from triathlon.training.task import make_task


def load_checkpoint(path: Path, experiment: Experiment, without: Sequence[str] = ()) -> dict[str, Any]:
    """The state in a checkpoint of this experiment's environment, less what is at the paths `without`.

    Raises:
        RunError: no such file, damaged, or a checkpoint of another environment.
    """
    state = checkpoint.load(path, without)
    if state.get("env") != experiment.env.id:
        raise RunError(
            f"{path} is a checkpoint of {state.get('env', 'something that is no agent')}, "
            f"not of {experiment.env.id} (env.id)"
        )
    return state


def refuse_other_num_envs(state: dict[str, Any], num_envs: int, path: Path) -> None:
    """Raises RunError unless the run of this checkpoint had as many environments as the one that goes on with it."""
    if state["num_envs"] != num_envs:
        raise RunError(
            f"env.num_envs is {num_envs} but {path} is of a run with {state['num_envs']}; "
            "a run goes on with as many environments as it had"
        )


def refuse_other_run(
    state: dict[str, Any], path: Path, num_processes: int, num_envs: int, num_groups: int | None
) -> None:
    """Raises RunError where the run of this checkpoint cannot go on with so many processes, environments and groups.

    `num_groups` is None where workers have the environments.
    """
    if (before := state.get("num_processes", 1)) != num_processes:
        raise RunError(
            f"{num_processes} processes learn here, but {path} is of a run with {before}; a run goes on with as many "
            "as it had"
        )
    refuse_other_num_envs(state, num_envs, path)
    if "sides" not in state:
        raise RunError(
            f"{path} was imported, or written by an earlier version: it can be evaluated and watched, but not go on; "
            "start a run from it: triathlon train CONFIG --init-from RUN"
        )
    groups = state["collector"].get("groups")
    if groups is not None and num_groups is not None and len(groups) != num_groups:
        raise RunError(
            f"env.num_groups is {num_groups} but {path} is of a run with {len(groups)}; a run goes on with as many "
            "groups as it had"
        )


def better_best(path: Path, num_steps: int, best_score: float) -> tuple[int, float] | None:
    """Step and score of a best checkpoint from after the step that a run goes on from, if it is better.

    There is one where a run was killed after an evaluation and before the next checkpoint to go on from.
    """
    if not path.is_file():
        return None
    best = checkpoint.load(path, without=("learner",))
    step, score = best["num_steps"], best.get("best_score", -np.inf)
    return (step, score) if step > num_steps and score > best_score else None


def restore_learner(learner: Learner, state: dict[str, Any], path: Path) -> None:
    """Give a learner what a checkpoint holds of it.

    Raises:
        RunError: the checkpoint is of a learner with other settings.
    """
    try:
        learner.load_state_dict(state["learner"])
    except (RuntimeError, LookupError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        problem = lines[1] if len(lines) > 1 else lines[0]
        raise RunError(
            f"{path} does not fit the settings of agent and backbone, which are not those it was saved with: "
            f"{problem if len(problem) <= 160 else problem[:159] + '…'}"
        ) from error


def load_policy(path: Path, experiment: Experiment) -> Policy:
    """The policy of a checkpoint, ready to act on the experiment's device."""
    device = pick_device(experiment.device)
    with closing(make_envs(_without_opponent(experiment.env), 1)) as envs:
        task = make_task(experiment, envs, device, np.random.SeedSequence(experiment.seed))
    learner = make_learner(experiment.agent, experiment.backbone, task)
    set_threads(experiment.num_threads, learner.policy, task)
    # Who only plays needs no experience, which may be most of the file and of the memory.
    restore_learner(learner, load_checkpoint(path, experiment, without=("learner.replay",)), path)
    return learner.policy


def _without_opponent(env: EnvConfig) -> EnvConfig:
    """The same spaces, for which nobody need be installed or started who was trained against."""
    return env if env.board is None else replace(env, board=replace(env.board, opponent=None))
