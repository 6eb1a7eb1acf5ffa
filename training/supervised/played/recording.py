"""What was seen and done in an environment, kept in a folder: arrays (rows.npz) and what they mean (recording.json).

N rows of all episodes, one after another. A row is as in a segment (`docs/architecture.md`): the last observation of an
episode is a row of its own, at which nothing was played.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from triathlon.envs.make import EnvConfig
from triathlon.training import schema
from triathlon.training.atomic_write import write_beside, write_text
from triathlon.training.errors import RunError
from triathlon.training.supervised.examples import Indices
from triathlon.training.supervised.played import space_json

FORMAT, VERSION = "triathlon recording", 1
ARRAYS = ("obs", "action", "reward", "terminated", "truncated", "is_first")


@dataclass(frozen=True)
class Recording:
    """N rows. Actions are as the environment had them: clipped to its box, counted from its `start`."""

    obs: NDArray[Any]  # [N, *obs]
    action: NDArray[Any]  # [N, *action]; means nothing at rows that were not played
    reward: NDArray[np.float32]  # [N]: what that action earned
    terminated: NDArray[np.bool_]  # [N]: the episode ended in a terminal state after that action
    truncated: NDArray[np.bool_]  # [N]: it was cut off there
    is_first: NDArray[np.bool_]  # [N]: the row starts an episode
    observation_space: Space[Any]
    action_space: Space[Any]
    env: EnvConfig | None = None
    """What was played, if it is known."""

    def __len__(self) -> int:
        return len(self.is_first)

    @property
    def played(self) -> NDArray[np.bool_]:
        """`[N]`: the action of this row was played, and the next row is what came of it."""
        return np.append(~self.is_first[1:], False)

    @property
    def num_steps(self) -> int:
        """Rows that were played."""
        return int(self.played.sum())

    def episodes(self) -> list[slice]:
        """The rows of each episode."""
        edges = [*np.flatnonzero(self.is_first).tolist(), len(self)]
        return [slice(start, stop) for start, stop in pairwise(edges)]

    def returns(self) -> list[float]:
        """The undiscounted return of each episode that was played to its end."""
        over = self.terminated | self.truncated
        return [float(self.reward[rows].sum()) for rows in self.episodes() if over[rows].any()]

    def part(self, rows: Indices) -> Recording:
        """Only these rows, which are those of whole episodes."""
        return replace(self, **{name: getattr(self, name)[rows] for name in ARRAYS})

    def save(self, folder: Path, note: str = "") -> None:
        """Write the folder; raises RunError where it cannot be written or holds a recording already."""
        if (folder / "recording.json").exists():
            raise RunError(f"there is a recording in {folder} already; choose another folder")
        returns = self.returns()
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "note": note,
            "env": None if self.env is None else schema.to_mapping(self.env),
            "observation_space": space_json.to_json(self.observation_space),
            "action_space": space_json.to_json(self.action_space),
            "num_steps": self.num_steps,
            "num_episodes": len(returns),
            "mean_return": float(np.mean(returns)) if returns else None,
        }
        with write_beside(folder / "rows.npz") as path:
            np.savez_compressed(path, **{name: getattr(self, name) for name in ARRAYS})
        write_text(folder / "recording.json", json.dumps(facts, indent=2) + "\n")


def read(folder: str | Path) -> Recording:
    """The recording in a folder.

    Raises:
        RunError: there is none, or it is damaged.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / "recording.json").read_text(encoding="utf-8"))
        if facts["format"] != FORMAT or facts["version"] > VERSION:
            raise RunError(f"{folder} is a {facts['format']} of version {facts['version']}, not one of {VERSION}")
        with np.load(folder / "rows.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in ARRAYS}
        found = Recording(
            **arrays,
            observation_space=space_json.from_json(facts["observation_space"]),
            action_space=space_json.from_json(facts["action_space"]),
            env=None if facts["env"] is None else schema.build(EnvConfig, facts["env"], {}),
        )
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{folder} holds no recording that can be read: {error}") from error
    return checked(found, str(folder))


def checked(found: Recording, name: str) -> Recording:
    """The same recording; raises RunError where its arrays do not belong together or to its spaces."""
    lengths = {len(getattr(found, array)) for array in ARRAYS}
    shapes = [
        x.shape[1:] == space.shape
        for x, space in ((found.obs, found.observation_space), (found.action, found.action_space))
    ]
    if len(lengths) != 1 or not all(shapes):
        raise RunError(f"{name}: the arrays of the recording do not fit each other or its spaces")
    if not len(found) or not found.is_first[0] or not found.num_steps:
        raise RunError(f"{name}: nothing was played in the recording")
    return found


__all__ = ["ARRAYS", "Recording", "checked", "read"]
