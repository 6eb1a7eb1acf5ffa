"""The folder of a run: all that is needed to repeat it, go on with it, score it and watch it.

runs/<env>/<agent>-<backbone>-seed<seed>-<time>/
    config.yaml     every setting          versions.json   what it runs on, and what it ran on before
    command.txt     how it was started     git.json        the state of the code, now and before
    checkpoints/    last, best             monitor.csv, progress.csv, TensorBoard's event files
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from triathlon.networks.errors import nearest
from triathlon.training import config as experiments
from triathlon.training import gpus
from triathlon.training.atomic_write import write_text
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.folder_lock import locked

LATEST = "latest"
SIMULATORS = ("ale-py", "mujoco", "box2d", "open-spiel", "minatar", "ray")


class Named(Protocol):
    """An experiment of any sort."""

    @property
    def root(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, and the folders that were made to put it in."""

    path: Path
    made: tuple[Path, ...] = field(default=(), compare=False)  # the innermost first

    def experiment(self, overrides: Sequence[str] = ()) -> Experiment:
        """The experiment of this run, changed by command-line arguments; raises RunError if it cannot be read."""
        return experiments.load(self.path / "config.yaml", overrides)

    def write_experiment(self, experiment: Named, command: Sequence[str]) -> None:
        """Write down what is run, how it was started, on what and by which code.

        An earlier command stays in its line; earlier versions and commits stay where they were others.
        """
        write_text(self.path / "config.yaml", experiments.dump(experiment))
        history = self.path / "command.txt"
        earlier = history.read_text(encoding="utf-8") if history.is_file() else ""
        write_text(history, earlier + shlex.join(command) + "\n")
        _write_latest(self.path / "versions.json", versions())
        _write_latest(self.path / "git.json", {"triathlon": git_state(Path(__file__)), "here": git_state(Path.cwd())})

    def checkpoint(self, name: str | None = None) -> Path:
        """The checkpoint `"best"` or `"last"`; by default the best if there is one, else the last.

        Raises:
            RunError: this run has no such checkpoint.
        """
        names = [name] if name else ["best", "last"]
        for candidate in names:
            path = self.path / "checkpoints" / f"{candidate}.safetensors"
            if path.is_file():
                return path
        there = sorted(path.stem for path in self.path.glob("checkpoints/*.safetensors")) or ["none yet"]
        raise RunError(f"{self.path} has no checkpoint '{' or '.join(names)}'; there is {', '.join(there)}")

    def is_empty(self) -> bool:
        """Whether nothing was learnt and written down yet: no checkpoint, no finished episode, no row of metrics."""
        headers = {"monitor.csv": 2, "progress.csv": 1}
        tables = [(self.path / name, lines) for name, lines in headers.items() if (self.path / name).is_file()]
        rows = any(len(table.read_text(encoding="utf-8").splitlines()) > lines for table, lines in tables)
        return not rows and not any(self.path.glob("checkpoints/*.safetensors"))

    def refuse_change(self, before: Named, now: Named) -> None:
        """Raises RunError if a run that goes on was given what it can only begin with."""
        for key in ("seed", "name", "root"):
            if (new := getattr(now, key)) != (old := getattr(before, key)):
                raise RunError(f"{key} is {new!r}, but {self.path} goes on with the {key} that it began with, {old!r}")

    @contextmanager
    def discarded_if_empty(self) -> Iterator[None]:
        """Inside, an error before anything was learnt leaves no folder behind: for whoever has just made it.

        A run that goes on may be one that another process trains, or have lost its checkpoint and nothing else.
        """
        try:
            yield
        except BaseException:
            if self.is_empty():
                self.discard()
            raise

    def discard(self) -> None:
        """Remove the folder of a run that did not start, and the folders that were made for it alone."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self.made:
            try:
                parent.rmdir()
            except OSError:  # other runs are in it
                return


def begun(experiment: Experiment) -> RunFolder | None:
    """The folder of the experiment's name if it has a checkpoint to go on from.

    A folder without one is of a run that was killed before it had learnt anything; `discard` it to begin anew.

    Raises:
        RunError: the experiment has no name, so nothing says which run would be gone on with.
    """
    folder = _named(experiment)
    return folder if (folder.path / "checkpoints" / "last.safetensors").is_file() else None


def discard_unbegun(experiment: Experiment) -> None:
    """Remove the folder of the experiment's name if it is that of a run without a checkpoint to go on from.

    Raises:
        RunError: another command trains there and has not come to a checkpoint yet.
    """
    folder = _named(experiment)
    if (folder.path / "config.yaml").is_file() and begun(experiment) is None:
        with locked(folder.path):
            folder.discard()


def _named(experiment: Experiment) -> RunFolder:
    if experiment.name is None:
        raise RunError("--resume auto goes on with the run of that name: give --name")
    return RunFolder(Path(experiment.root) / file_name(experiment.env.id) / file_name(experiment.name))


def create(experiment: Experiment, command: Sequence[str] = ()) -> RunFolder:
    """Make the folder of a new run and write down what is run, on what, and by which code.

    Raises:
        RunError: the folder cannot be made, or `name` is taken.
    """
    engine = "" if experiment.engine == "native" else f"-{experiment.engine}"
    kinds = f"{experiment.agent.kind}-{experiment.backbone.kind}{engine}"
    return create_below(experiment.env.id, kinds, experiment, command)


def create_below(group: str, kinds: str, experiment: Named, command: Sequence[str]) -> RunFolder:
    """The same for anything that is run: in the folder `group`, called after its `kinds` if it has no name."""
    parent = Path(experiment.root) / file_name(group)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = file_name(experiment.name or f"{kinds}-seed{experiment.seed}-{stamp}")
    path, number = parent / name, 1
    made = missing_parents(path)
    while True:
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError as error:
            if experiment.name and path.is_dir():
                raise RunError(f"name: there is a run {path} already; choose another, or --resume {path}") from error
            if not parent.is_dir():
                raise RunError(f"root: {path} cannot be made: {error.filename} is a file") from error
            number += 1  # two runs started in the same second
            path = parent / f"{name}-{number}"
        except OSError as error:
            raise RunError(f"root: the run folder {path} cannot be made: {error.strerror or error}") from error
    folder = RunFolder(path, made)
    try:
        folder.write_experiment(experiment, command)
    except BaseException:
        folder.discard()
        raise
    return folder


def missing_parents(path: Path) -> tuple[Path, ...]:
    """The folders that have to be made before `path` can be, the innermost first."""
    return tuple(folder for folder in path.parents if not folder.exists())


def open_run(run: str | Path, root: str | Path = "runs") -> RunFolder:
    """The folder of an earlier run; `latest` is the one below `root` that was started or resumed last.

    Both write its config.yaml, whose time counts.

    Raises:
        RunError: there is no such folder, or it is not the folder of a run.
    """
    if str(run) == LATEST:
        started = sorted(Path(root).glob("*/*/config.yaml"), key=lambda path: path.stat().st_mtime_ns)
        if not started:
            raise RunError(f"there is no run below {Path(root).resolve()}, so none is the latest")
        return RunFolder(started[-1].parent)
    path = Path(run)
    if not path.is_dir():
        siblings = [str(other) for other in path.parent.glob("*") if other.is_dir()]
        raise RunError(
            f"there is no run folder '{run}'{nearest(str(path), siblings)}; '{LATEST}' is the last one started"
        )
    if not (path / "config.yaml").is_file():
        inside = sorted(path.glob("**/config.yaml"))[:1]
        hint = f"; {inside[0].parent} is one" if inside else ""
        raise RunError(f"{run} is not the folder of a run: it has no config.yaml{hint}")
    return RunFolder(path)


def versions() -> dict[str, Any]:
    """What a run depends on besides its settings."""
    found = {"python": platform.python_version()}
    for package in ("triathlon", "torch", "gymnasium", "numpy", *SIMULATORS):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found | {"platform": platform.platform(), "cpu": _cpu(), "gpus": gpus.installed()}


def _write_latest(path: Path, now: dict[str, Any]) -> None:
    """Write a record; what stood there goes under `before` if it was another."""
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
        before = then.pop("before", [])
    except (OSError, ValueError, AttributeError):  # it is the first, or was damaged
        then, before = now, []
    before += [then] if then != now else []
    write_text(path, json.dumps(now | ({"before": before} if before else {}), indent=2) + "\n")


def git_state(path: Path) -> dict[str, Any] | None:
    """The commit of the repository that a folder, or a file of it, is in, and whether anything differs from it.

    None where there is no repository, or none that has the file: a package may lie in somebody's own.
    """
    folder, is_known = (path, []) if path.is_dir() else (path.parent, [["ls-files", "--error-unmatch", path.name]])
    try:
        *_, commit, changes = (
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout
            for command in (*is_known, ["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}


def _cpu() -> str:
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        names = []
    return f"{len(names)} x {names[0]}" if names else platform.processor() or platform.machine()


def file_name(text: str) -> str:
    """`text` as the name of a file or folder."""
    return re.sub(r"[^\w.+-]+", "-", text).strip(".-") or "run"
