"""`triathlon plot RUN…`: learning curves of runs in one picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from triathlon.scripts.main import guarded
from triathlon.training.curves import draw_curves, read_curve
from triathlon.training.errors import RunError
from triathlon.training.run_folder import open_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="triathlon plot", description="Draw the learning curves of runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs ('latest': the last one started)")
    text = "what to draw, a TensorBoard tag (default: rollout/ep_rew_mean)"
    parser.add_argument("--tag", default="rollout/ep_rew_mean", metavar="TAG", help=text)
    parser.add_argument("--over", choices=["steps", "time"], default="steps", help="what runs along the picture")
    text = "what to call each run (default: its folder); once a run, in order"
    parser.add_argument("--label", action="append", default=[], metavar="TEXT", help=text)
    text = "a dashed line at a value, such as 'human=9.3'; may be given more than once"
    parser.add_argument("--line", action="append", default=[], metavar="NAME=VALUE", help=text)
    parser.add_argument("--title", metavar="TEXT", help="default: the environment of the first run")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), metavar="FILE", help="default: curves.png")
    options = parser.parse_args(arguments)
    if options.label and len(options.label) != len(options.runs):
        raise RunError(f"--label is given {len(options.label)} times for {len(options.runs)} runs; name all or none")
    folders = [open_run(run) for run in options.runs]
    labels = options.label or [None] * len(folders)
    curves = [
        read_curve(folder.path, options.tag, options.over, label) for folder, label in zip(folders, labels, strict=True)
    ]
    title = options.title or folders[0].experiment().env.id
    draw_curves(curves, options.out, title, options.tag, options.over, [_line(text) for text in options.line])
    print(f"Picture: {options.out}")
    return 0


def _line(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError:
        raise RunError(f"--line is '{text}' but should be a name and a number, such as 'human=9.3'") from None


if __name__ == "__main__":
    sys.exit(guarded(main))
