"""What a run wrote down while it trained, read back and drawn. n rows of a curve."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from triathlon.envs.lookup import nearest
from triathlon.training.errors import RunError
from triathlon.training.figures import count_steps, new_figure, save_figure

Axis: TypeAlias = Literal["steps", "time"]
COLUMNS = {"steps": "time/total_timesteps", "time": "time/time_elapsed"}
LABELS = {"steps": "environment steps", "time": "minutes of training"}


@dataclass(frozen=True, slots=True)
class Curve:
    """Values `y [n]` of a tag at `x [n]`, environment steps or minutes."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def read_curve(folder: Path, tag: str, axis: Axis = "steps", label: str | None = None) -> Curve:
    """The values of `tag` in a run's `progress.csv`.

    Values written between two rows of metrics (evaluations) have the time of the row before.

    Raises:
        RunError: the run wrote no such file, a damaged one, or nothing under that tag.
    """
    path = folder / "progress.csv"
    if not path.is_file():
        raise RunError(f"{path} is not there: a run writes it while it trains, unless logging.csv is false")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return _curve(rows, folder, tag, axis, label)
    except RunError:
        raise
    except (ValueError, csv.Error) as error:  # no text, or no numbers
        raise RunError(f"{path} is damaged: {str(error)[:100]!r}") from error


def _curve(rows: Sequence[dict[str, str]], folder: Path, tag: str, axis: Axis, label: str | None) -> Curve:
    tags = [name for name in (rows[0] if rows else ()) if name not in COLUMNS.values()]
    if tag not in tags:
        known = nearest(tag, tags) or f"; it wrote {', '.join(tags)}"
        raise RunError(f"{folder} wrote nothing under '{tag}'{known}")
    if COLUMNS[axis] not in rows[0]:
        raise RunError(f"{folder} has written no {axis} yet, which comes with its first metrics; use --over steps")
    x, y, last = [], [], 0.0
    for row in rows:
        last = float(row[COLUMNS[axis]] or last)
        if row[tag]:
            x.append(last / 60.0 if axis == "time" else last)
            y.append(float(row[tag]))
    return Curve(label or folder.name, np.array(x), np.array(y))


def draw_curves(
    curves: Sequence[Curve],
    out: Path,
    title: str,
    tag: str,
    axis: Axis = "steps",
    references: Sequence[tuple[str, float]] = (),
) -> None:
    """A picture of the curves, with named values as dashed lines.

    Raises:
        RunError: matplotlib is not installed, or it cannot write such a file.
    """
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for curve in curves:
        axes.plot(curve.x, curve.y, label=curve.label, linewidth=1.4)
    for name, value in references:
        axes.axhline(value, color="0.5", linestyle="--", linewidth=1)
        axes.annotate(
            name, (1, value), (-4, -3), ("axes fraction", "data"), "offset points", ha="right", va="top", color="0.4"
        )
    axes.set(title=title, xlabel=LABELS[axis], ylabel=tag)
    if axis == "steps":
        count_steps(axes)
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    save_figure(figure, out)


__all__ = ["Curve", "draw_curves", "read_curve"]
