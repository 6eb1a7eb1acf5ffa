"""The configurations that come with Triathlon. Importing this costs nothing: `--help` does not wait for PyTorch."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path


def shipped() -> dict[str, Path]:
    """Each configuration's file by its name, in the order of names."""
    folder = Path(str(importlib.resources.files("triathlon.configs")))
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"), key=lambda path: path.stem)}


def catalogue(supervised: bool = False) -> str:
    """A line for each of agents, or of supervised tasks: its name, and the first sentence of its file."""
    files = {name: path for name, path in shipped().items() if (path.parent.name == "supervised") is supervised}
    width = max(map(len, files), default=0)
    firsts = {name: path.read_text(encoding="utf-8").partition("\n")[0] for name, path in files.items()}
    sentences = {name: re.split(r"(?<!et al)\. ", line.removeprefix("#").strip())[0] for name, line in firsts.items()}
    return "\n".join(f"  {name:<{width}}  {sentence.rstrip('.')}" for name, sentence in sentences.items())
