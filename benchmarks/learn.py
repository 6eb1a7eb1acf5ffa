"""What every configuration reaches: trains each with several seeds, judges it on fresh episodes and prints the table.

    python benchmarks/learn.py                       every row, 3 seeds
    python benchmarks/learn.py --only cartpole       the rows with that in their name
    python benchmarks/learn.py --seeds 1 2           these seeds
    python benchmarks/learn.py --table               no training: the table of what was trained before

Each run has a folder `runs/learn/<row>/<seed>` like any other, so that `triathlon evaluate` and `watch` take it. A
finished one leaves `outcome.json` there and is not trained again: the table can be filled in parts. That file holds a
digest of all settings; where they are others now, the row is trained anew, and `--table` leaves the run out.
The score of a run is the mean return of 100 episodes on seeds never trained on, played without exploration by the
checkpoint that did best in the evaluations during training (which use seeds of their own). Rows `exact-…` are board
games small enough to be solved; their score is the exploitability of that checkpoint's greedy play, 0 being perfect.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from triathlon.training.config import Experiment, load
from triathlon.training.curves import read_curve
from triathlon.training.folder_lock import locked
from triathlon.training.machine import num_cores
from triathlon.training.run_folder import create_below
from triathlon.training.schema import to_mapping

ROOT = Path("runs/learn")
MEMORIES = ("lstm", "gru", "transformer")
# Two or three pictures tell a velocity: a short window learns it sooner than a long one.
SHORT_WINDOW = ("--backbone.memory-length", "8", "--backbone.num-layers", "1", "--total-steps", "500_000")

# Games that are solved exactly: what is changed of tic-tac-toe's configuration, and the steps of the agents that do it.
EXACT: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "tictactoe": ((), {"ppo": 400_000, "dqn": 400_000}),
    "hex3": (("--env.id", "board/hex", "--env.board.parameters", "{board_size: 3}"), {"ppo": 100_000, "dqn": 100_000}),
    "breakthrough53": (
        (
            *("--env.id", "board/breakthrough", "--env.board.parameters", "{rows: 5, columns: 3}"),
            *("--env.board.opening-plies", "10"),
        ),
        {"ppo": 400_000, "dqn": 400_000},
    ),
    "connectfour44": (
        (
            *("--env.id", "board/connect_four", "--env.board.parameters", "{rows: 4, columns: 4, x_in_row: 4}"),
            *("--env.board.opening-plies", "14", "--env.board.random-openings", "0.8"),
            *("--env.board.symmetries", "true"),
            *("--backbone.hidden-sizes", "[512, 512]", "--backbone.activation", "relu", "--env.num-envs", "128"),
            *("--agent.batch-size", "512", "--agent.train-period", "256", "--agent.gradient-steps", "1"),
            *("--agent.buffer-size", "500_000", "--agent.compile", "auto", "--evaluation.period", "500_000"),
        ),
        {"dqn": 5_000_000},
    ),
}

# Rollouts by two actors of Ray; the goal is that of the row without them.
WORKERS = ("--workers.kind", "ray", "--workers.num", "2")

# What these did not reach in the 250,000 steps of the configuration.
LONGER = {"ppo": (), "dqn": ("--total-steps", "500_000")}


@dataclass(frozen=True)
class Goal:
    """One row: a configuration, what is changed of it, and what it should reach. `peer` is what others report."""

    name: str
    config: str
    changes: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    peer: str = ""

    def met_by(self, score: float) -> bool:
        """Whether a score reaches the goal, or stays below it where the row is a control."""
        enough = self.at_least is None or score >= self.at_least
        return enough and (self.at_most is None or score <= self.at_most)


def goals() -> list[Goal]:
    """Every row of the table."""
    zoo = "rl-zoo3 "
    rows = [
        Goal("cartpole-ppo", "cartpole_ppo", at_least=490, peer=zoo + "500 (100 k)"),
        Goal("cartpole-dqn", "cartpole_dqn", at_least=490, peer=zoo + "500 (50 k)"),
        Goal("cartpole-pqn", "cartpole_pqn", at_least=490),
        Goal("acrobot-dqn", "acrobot_dqn", at_least=-80, peer=zoo + "-76.6 (100 k)"),
        Goal("acrobot-ppo", "acrobot_ppo", at_least=-76, peer=zoo + "-73.5 (1 M)"),
        Goal("mountaincar-dqn", "mountaincar_dqn", at_least=-110, peer=zoo + "-100.8 (120 k)"),
        Goal("mountaincar-ppo", "mountaincar_ppo", at_least=-115, peer=zoo + "-110.4 (1 M)"),
        Goal("lunarlander-dqn", "lunarlander_dqn", at_least=154, peer=zoo + "154 ± 79 (100 k)"),
        Goal("lunarlander-ppo", "lunarlander_ppo", at_least=242, peer=zoo + "242 ± 32 (1 M)"),
        Goal("pendulum-ppo", "pendulum_ppo", at_least=-172, peer=zoo + "-172 ± 104 (100 k)"),
        Goal("halfcheetah-ppo", "halfcheetah_ppo", at_least=5000, peer=zoo + "5,819 (1 M)"),
        Goal("bipedalwalker-ppo", "bipedalwalker_ppo", at_least=280, peer=zoo + "288 ± 2 (5 M)"),
    ]
    seen = {"ppo": ("cartpole_ppo", ()), "dqn": ("cartpole_novelocity_dqn", ("--env.hide", "null"))}
    for agent, (config, changes) in seen.items():
        rows += [
            Goal(f"cartpole-{agent}-{kind}", config, (*changes, *more, "--backbone.kind", kind), at_least=475)
            for kind, more in (("lstm", LONGER[agent]), ("gru", ()), ("transformer", ()))
        ]
        rows += [
            Goal(
                f"novelocity-{agent}-{kind}",
                f"cartpole_novelocity_{agent}",
                (*changes, "--backbone.kind", kind),
                at_least=450,
            )
            for kind, changes in (("lstm", ()), ("gru", LONGER[agent]), ("transformer", SHORT_WINDOW))
        ]
        rows.append(
            Goal(f"novelocity-{agent}-mlp", f"cartpole_novelocity_{agent}", ("--backbone.kind", "mlp"), at_most=300)
        )
        rows += [
            Goal(f"cue-{agent}-{kind}", f"cue_recall_{agent}", ("--backbone.kind", kind), at_least=0.95)
            for kind in MEMORIES
        ]
        rows.append(Goal(f"cue-{agent}-mlp", f"cue_recall_{agent}", ("--backbone.kind", "mlp"), at_most=0.65))
        rows.append(Goal(f"pixels-{agent}-cnn", f"cartpole_pixels_{agent}", at_least=200))
        for game, (variant, steps) in EXACT.items():
            if agent in steps:
                changes = (*variant, "--total-steps", str(steps[agent]))
                rows.append(Goal(f"exact-{game}-{agent}", f"tic_tac_toe_{agent}", changes, at_most=0.0))
    rows += [
        Goal("workers-cartpole-ppo", "cartpole_ppo", WORKERS, at_least=490),
        Goal("workers-cartpole-ppo-async", "cartpole_ppo", (*WORKERS, "--workers.mode", "async"), at_least=490),
        Goal("workers-cartpole-dqn", "cartpole_dqn", (*WORKERS, "--workers.envs-per-worker", "1"), at_least=490),
        Goal("workers-novelocity-ppo-lstm", "cartpole_novelocity_ppo", WORKERS, at_least=450),
        Goal("workers-novelocity-dqn-lstm", "cartpole_novelocity_dqn", WORKERS, at_least=450),
    ]
    return rows


def experiment_of(goal: Goal, seed: int) -> Experiment:
    """What is run for one seed of a row."""
    experiment = load(goal.config, [*goal.changes, "--seed", str(seed), "--evaluation.video", "false"])
    return replace(experiment, root=str(ROOT), name=str(seed))


def digest(experiment: Experiment) -> str:
    """16 digits that differ where any setting does, whatever the folder is called."""
    settings = to_mapping(replace(experiment, root="runs", name=None))
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def outcome_of(goal: Goal, seed: int, what_now: str) -> dict[str, Any] | None:
    """What one seed reached before, if it was trained with the settings that the row has now.

    Where it was with others, it is said, with `what_now` becomes of it.
    """
    path = ROOT / goal.name / str(seed) / "outcome.json"
    if not path.is_file():
        return None
    reached: dict[str, Any] = json.loads(path.read_text())
    if reached.get("settings") == digest(experiment_of(goal, seed)):
        return reached
    others = "other settings than the row has now" if "settings" in reached else "settings that nobody wrote down"
    print(f"{path.parent} was trained with {others}: {what_now}.", file=sys.stderr, flush=True)
    return None


def run(goal: Goal, seed: int) -> dict[str, Any]:
    """Train one seed, or read what it reached before."""
    if (before := outcome_of(goal, seed, "it is trained anew")) is not None:
        return before
    from triathlon.training.runner import train

    experiment = experiment_of(goal, seed)
    if (unfinished := ROOT / goal.name / str(seed)).is_dir():
        with locked(unfinished):  # another command may be training there
            shutil.rmtree(unfinished)
    command = ["python", "benchmarks/learn.py", "--only", goal.name, "--seeds", str(seed)]
    made = create_below(goal.name, "", experiment, command)
    folder = made.path
    with locked(folder), made.discarded_if_empty():
        result = train(experiment, folder)
    if result.interrupted:
        sys.exit(130)
    is_exact = experiment.self_play is not None and experiment.self_play.exploitability
    score = read_curve(folder, "eval/exploitability").y.min() if is_exact else np.mean(result.returns)
    reached = {
        "score": float(score),
        "deviation": float(np.std(result.returns)),
        "num_steps": result.num_steps,
        "seconds": result.seconds,
        "settings": digest(experiment),
        "code": json.loads((folder / "git.json").read_text())["triathlon"],  # as it was when the training began
    }
    (folder / "outcome.json").write_text(json.dumps(reached))
    return reached


def row(goal: Goal, outcomes: list[dict[str, Any]]) -> str:
    """One line of the table, in Markdown."""
    scores = [o["score"] for o in outcomes]
    wanted = f"≥ {goal.at_least:g}" if goal.at_least is not None else f"≤ {goal.at_most:g}"
    met = sum(goal.met_by(score) for score in scores)
    listed = ", ".join(f"{s:.4g}" for s in scores)
    steps, seconds = outcomes[0]["num_steps"], np.mean([o["seconds"] for o in outcomes])
    command = shlex.join(["triathlon", "train", goal.config, *goal.changes])
    reached = f"{goal.name} | {np.mean(scores):.4g} | {listed} | {wanted} | {met}/{len(scores)}"
    return f"| {reached} | {goal.peer} | {steps:,.0f} | {seconds:.0f} | `{command}` |"


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="rows with one of these in their name")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--table", action="store_true", help="only print what was trained before")
    options = parser.parse_args()
    chosen = [goal for goal in goals() if any(part in goal.name for part in options.only)]
    if not options.table:
        for goal in chosen:
            for seed in options.seeds:
                reached = run(goal, seed)
                print(f"{goal.name} seed {seed}: {reached['score']:.4g} in {reached['seconds']:.0f} s", flush=True)
    print("| row | mean | seeds | goal | met | others report | steps | seconds | command |")
    print("|---|---|---|---|---|---|---|---|---|")
    for goal in chosen:
        found = [outcome_of(goal, seed, "it is left out") for seed in options.seeds]
        if outcomes := [outcome for outcome in found if outcome is not None]:
            print(row(goal, outcomes))
    print(f"\n{num_cores()} CPU cores.")


if __name__ == "__main__":
    main()
