"""Figures of matplotlib, which not everyone installs: begun where it is there, and written whole or not at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triathlon.networks.errors import nearest
from triathlon.training.atomic_write import write_beside
from triathlon.training.errors import RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def can_draw() -> bool:
    """Is matplotlib installed?"""
    return importlib.util.find_spec("matplotlib") is not None


def require_drawing(out: Path | None = None) -> None:
    """Raises RunError unless matplotlib is installed and writes files like `out`: for who draws after hours only."""
    if not can_draw():
        raise RunError('pictures need matplotlib, which is not installed: pip install "triathlon[plot]"')
    if out is not None:
        from matplotlib.backend_bases import FigureCanvasBase

        if (ending := out.suffix) not in (
            endings := {f".{name}" for name in FigureCanvasBase.get_supported_filetypes()}
        ):
            hint = nearest(ending, endings) if ending else ""
            raise RunError(f"the picture {out} should be named .png, .pdf, .svg or the like{hint}")


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
    """Write a picture in the format that its name says, whole or not at all.

    Raises:
        RunError: matplotlib writes no such file, or it cannot be written there.
    """
    require_drawing(out)
    with write_beside(out) as beside:
        figure.savefig(beside, dpi=120)
