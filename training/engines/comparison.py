"""Runs of one experiment by several engines, side by side: scores, speeds and learning curves. n rows of a curve."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from triathlon.training.atomic_write import write_text
from triathlon.training.curves import LABELS, Axis, Curve, read_curve
from triathlon.training.errors import RunError
from triathlon.training.figures import count_steps, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAG = "rollout/ep_rew_mean"
NUM_POINTS = 200  # of a drawn curve
CPU = "cpu.json"


@dataclass(frozen=True)
class Compared:
    """The finished runs of one engine, one value a seed."""

    engine: str
    folders: tuple[Path, ...]
    scores: tuple[float, ...]  # mean return of the final episodes
    speeds: tuple[float, ...]  # environment steps a second of training
    cpu_seconds: tuple[float, ...]  # of the whole process, its start and the final episodes with it


def read_runs(engine: str, folders: Sequence[Path]) -> Compared:
    """What the runs of an engine came to.

    Raises:
        RunError: a run is not finished, or wrote no progress.csv.
    """
    scores, speeds, cpu = (tuple(map(read, folders)) for read in (_score, _speed, read_cpu_seconds))
    return Compared(engine, tuple(folders), scores, speeds, cpu)


def read_cpu_seconds(folder: Path) -> float:
    """What the processes of a run took of the CPU, as far as they were started here."""
    path = folder / CPU
    return float(json.loads(path.read_text(encoding="utf-8"))["cpu_seconds"]) if path.is_file() else 0.0


def add_cpu_seconds(folder: Path, seconds: float) -> None:
    """Write down what another process of a run took."""
    total = read_cpu_seconds(folder) + seconds
    write_text(folder / CPU, json.dumps({"cpu_seconds": round(total, 2)}) + "\n")


def is_finished(folder: Path) -> bool:
    """Whether a run was scored, which is the last thing that it does."""
    return (folder / "score.json").is_file()


def _score(folder: Path) -> float:
    if not is_finished(folder):
        raise RunError(f"{folder} is not finished: it has no score.json (evaluation.final_episodes must not be 0)")
    returns = json.loads((folder / "score.json").read_text(encoding="utf-8"))["returns"]
    return fmean(returns)


def _speed(folder: Path) -> float:
    """Environment steps a second of the whole training, as the run last wrote them down."""
    path = folder / "progress.csv"
    if not path.is_file():
        raise RunError(f"{path} is not there: a run writes it while it trains, unless logging.csv is false")
    with path.open(encoding="utf-8", newline="") as file:
        found = [float(row["time/fps"]) for row in csv.DictReader(file) if row.get("time/fps")]
    if not found:
        raise RunError(f"{path} says nothing of the speed: logging.period is longer than the run")
    return found[-1]


def table(runs: Sequence[Compared]) -> str:
    """Engines by row: mean and range of the final scores, and means of steps a second and of CPU time."""
    lines = [f"{'engine':<8} {'score':>9}   {'lowest to highest':<20} {'steps/s':>9} {'CPU s':>8}   seeds"]
    for run in runs:
        spread = f"{min(run.scores):.1f} to {max(run.scores):.1f}"
        speed = f"{fmean(run.speeds):,.0f}"
        cpu = f"{fmean(run.cpu_seconds):,.0f}"
        lines.append(
            f"{run.engine:<8} {fmean(run.scores):>9.1f}   {spread:<20} {speed:>9} {cpu:>8}   {len(run.scores)}"
        )
    return "\n".join(lines)


def write_json(path: Path, runs: Sequence[Compared]) -> None:
    """The numbers of the table, each seed by itself."""
    found = {
        run.engine: {
            "runs": list(map(str, run.folders)),
            "scores": run.scores,
            "steps_per_second": run.speeds,
            "cpu_seconds": run.cpu_seconds,
        }
        for run in runs
    }
    write_text(path, json.dumps(found, indent=2) + "\n")


def band(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`x [n]` where all curves have values, and `[3, n]`: their mean, lowest and highest there."""
    x = np.linspace(max(c.x[0] for c in curves), min(c.x[-1] for c in curves), NUM_POINTS)
    y = np.stack([np.interp(x, c.x, c.y) for c in curves])
    return x, np.stack([y.mean(0), y.min(0), y.max(0)])


def draw(runs: Sequence[Compared], out: Path, title: str) -> None:
    """A picture of the mean return while training: over steps on the left, over time on the right; bands over seeds.

    Raises:
        RunError: matplotlib is not installed, it cannot write such a file, or a run wrote no curve.
    """
    figure = new_figure(11, 4)
    axes: Mapping[Axis, Axes] = dict(zip(("steps", "time"), figure.subplots(1, 2, sharey=True), strict=True))
    for over, plot in axes.items():
        for i, run in enumerate(runs):
            x, (mean, low, high) = band([read_curve(folder, TAG, over) for folder in run.folders])
            label = f"{run.engine} ({fmean(run.speeds):,.0f} steps/s)"
            plot.plot(x, mean, color=f"C{i}", linewidth=1.6, label=label)
            plot.fill_between(x, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
        plot.set(xlabel=LABELS[over])
        plot.grid(color="0.9")
    steps, time = axes.values()
    count_steps(steps)
    steps.set(ylabel=TAG)
    time.legend(frameon=False)
    figure.suptitle(title)
    save_figure(figure, out)


__all__ = ["Compared", "add_cpu_seconds", "band", "draw", "is_finished", "read_runs", "table", "write_json"]
