"""Figures of matplotlib, which not everyone installs: begun where it is there, and written whole or not at all."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triathlon.training.errors import RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def can_draw() -> bool:
    """Is matplotlib installed?"""
    return importlib.util.find_spec("matplotlib") is not None


def require_drawing() -> None:
    """Raises RunError unless matplotlib is installed: for whoever would draw only after hours."""
    if not can_draw():
        raise RunError('pictures need matplotlib, which is not installed: pip install "triathlon[plot]"')


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, without a window; raises RunError unless matplotlib is installed."""
    require_drawing()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def count_steps(axes: Any) -> None:
    """Write the numbers of the x axis as 20 k or 3 M."""
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def save_figure(figure: Figure, out: Path) -> None:
    """Write a picture in the format that its name says, beside an older one until it is whole.

    Raises:
        RunError: matplotlib cannot write such a file, or not there.
    """
    beside = out.with_name(f".{out.stem}.unfinished{out.suffix}")
    try:
        figure.savefig(beside, dpi=120)
        beside.replace(out)
    except (ValueError, OSError) as error:
        with contextlib.suppress(OSError):  # a folder that cannot be written to has nothing to remove
            beside.unlink()
        raise RunError(f"{out} cannot be written: {error}") from error
