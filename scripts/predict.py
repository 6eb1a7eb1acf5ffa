"""`triathlon predict RUN FILE…`: what a supervised run makes of a person's own pictures, texts or sounds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from triathlon.scripts.main import guarded
from triathlon.training.run_folder import open_run


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="triathlon predict",
        usage="triathlon predict RUN FILE… [--checkpoint NAME] [--path.to-setting value …]",
        description="Ask a supervised run about your own files.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run ('latest': the last one started)")
    text = "pictures, texts or sounds, as the task reads them"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=text)
    text = "best or last (default: best if there is one)"
    parser.add_argument("--checkpoint", choices=["best", "last"], metavar="NAME", help=text)
    options, settings = parser.parse_known_args(arguments)
    import torch

    from triathlon.training.machine import pick_device
    from triathlon.training.supervised.config import load
    from triathlon.training.supervised.network import load_checkpoint, make_network, restore_network
    from triathlon.training.supervised.registry import make_task

    folder = open_run(options.run)
    experiment, path = load(folder.path / "config.yaml", settings), folder.checkpoint(options.checkpoint)
    device, state = pick_device(experiment.device), load_checkpoint(path, experiment)
    task = make_task(experiment.task, state["facts"])
    network = make_network(experiment, task, device).eval()
    restore_network(network, state, path)
    with torch.no_grad():
        for line in task.predict(network, options.files, device):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
