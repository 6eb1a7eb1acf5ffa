"""What a replay takes of the machine's memory: said before a run starts, which is refused if it cannot fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from gymnasium.vector.utils import create_empty_array

from triathlon.agents.agent import Learner
from triathlon.agents.device_rows import fits
from triathlon.agents.picture_store import has_pictures
from triathlon.agents.registry import Task
from triathlon.agents.replay import Replay
from triathlon.agents.segment import Segment
from triathlon.networks.backbone import Obs
from triathlon.training.errors import RunError

SHARE_TO_FILL = 0.9  # of the free memory, for the size that a refusal proposes
CGROUPS = Path("/sys/fs/cgroup")


def announce_replay(learner: Learner, task: Task, stream: TextIO | None = None) -> None:
    """Say in one line how much memory the learner's replay will take when full; without a replay, nothing.

    Raises:
        RunError: so much memory is not free.
    """
    replay = getattr(learner, "replay", None)
    if isinstance(replay, Replay):
        line = replay_line(replay, example(learner, task), task, available_bytes())
        print(line, file=sys.stderr if stream is None else stream, flush=True)


def replay_line(replay: Replay, like: Segment, task: Task, available: int | None) -> str:
    """What is said of a replay of rows like these on a machine with so much free memory (`None`: nobody knows).

    Raises:
        RunError: the replay cannot fit.
    """
    expected, most, device, of_pictures = replay.expected_nbytes(like)
    takes = f"about {in_words(expected)} when full, at most {in_words(most)}" if replay.compress else in_words(most)
    if device is not None:
        if not fits(of_pictures, device):
            raise RunError(
                f"agent.replay_device is gpu, but {replay.capacity} transitions have pictures of "
                f"{in_words(of_pictures)}, more than the GPU has free; set it to auto, or agent.buffer_size lower"
            )
        copied = " (and once more in host memory while a checkpoint is written or read)"
        where = f"pictures of {in_words(of_pictures)} on the {device.type} device{copied}"
        takes = f"{where}, in host memory {in_words(expected)}"
    if available is None:
        return f"Replay: {replay.capacity:,} transitions, {takes}{'' if replay.compress else ' when full'}"
    if expected > available:
        size = _rounded_down(replay.capacity * SHARE_TO_FILL * available / expected)
        change = f"set agent.buffer_size to {size} or less"
        if not replay.compress and has_pictures(task.observation_space):
            change += ", or agent.compress_replay: true, which takes about a seventh for a typical Atari game"
        raise RunError(
            f"agent.buffer_size is {replay.capacity}, and so many transitions take {takes}, but {in_words(available)} "
            f"of memory are free: {change}"
        )
    when = "" if replay.compress else " when full"
    return f"Replay: {replay.capacity:,} transitions, {takes}{when} ({in_words(available)} available)"


def example(learner: Learner, task: Task) -> Segment:
    """A segment shaped as those that the learner will be given (masks of actions left out), with one stored state."""
    num_rows = learner.num_rows + 1

    def rows(batch: Any) -> Obs:
        if isinstance(batch, dict):
            return {key: rows(value) for key, value in batch.items()}
        tensor = torch.from_numpy(np.asarray(batch)).expand(num_rows, *np.shape(batch))
        return tensor.float() if tensor.dtype == torch.float64 else tensor  # as the collector hands it on

    flags = torch.zeros(num_rows, task.num_envs, dtype=torch.bool)
    return Segment(
        obs=rows(create_empty_array(task.observation_space, task.num_envs)),
        action=torch.zeros(num_rows, task.num_envs, dtype=torch.int64),
        reward=torch.zeros(num_rows, task.num_envs),
        terminated=flags,
        is_first=flags,
        state=tuple(s.unsqueeze(0) for s in learner.policy.initial_state(task.num_envs)),
        state_period=learner.state_period,
    )


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = CGROUPS) -> int | None:
    """Memory that this process can still take: what is free on the machine and in its control group (a container)."""
    free = [_meminfo(proc / "meminfo"), *_left_in_cgroups(proc / "self" / "cgroup", cgroups)]
    known = [size for size in free if size is not None]
    return max(0, min(known)) if known else None


def _meminfo(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return sizes[0] if sizes else None


def _left_in_cgroups(membership: Path, root: Path) -> list[int | None]:
    """What the limit of each group around this process leaves, of version 2 or 1; pages that only cache files count."""
    try:
        lines = membership.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    left = []
    for line in lines:  # "0::/group" in version 2, "9:memory:/group" in version 1
        _, controllers, name = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / controllers
            files = (
                ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            )
            group = top / name.lstrip("/")
            # A container may see its own group as the root, under whatever name it has outside.
            for folder in {top, group, *(parent for parent in group.parents if top in parent.parents)}:
                left.append(_left(folder, *files))
    return left


def _left(folder: Path, limit_file: str, usage_file: str) -> int | None:
    limit, usage = (_number(folder / name) for name in (limit_file, usage_file))
    if limit is None or usage is None:
        return None
    try:
        statistics = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        statistics = []
    caches = {line.split()[0]: int(line.split()[1]) for line in statistics if "inactive_file" in line}
    return limit - usage + caches.get("total_inactive_file", caches.get("inactive_file", 0))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" is no limit


def in_words(num_bytes: int) -> str:
    """`7.1 GB`, `26 MB`: powers of ten."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


def _rounded_down(number: float) -> int:
    """Two digits, the rest zeros."""
    digits = str(int(number))
    return int(digits[:2] + "0" * len(digits[2:]))


__all__ = ["announce_replay", "available_bytes", "example", "in_words", "replay_line"]
