"""Recordings of others: Minari data sets (Farama Foundation), by the extra `minari`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from triathlon.envs.make import EnvConfig
from triathlon.training.errors import RunError
from triathlon.training.supervised.played.recording import Recording, checked, read
from triathlon.training.supervised.played.space_json import to_json

PREFIX = "minari:"


def read_recording(source: str) -> Recording:
    """The recording that `source` names: `minari:NAME` for a data set of Minari that is here, or a folder of either.

    Raises:
        RunError: there is none, it cannot be read, or its observations are not one array.
    """
    if source.startswith(PREFIX):
        return _read_minari(source.removeprefix(PREFIX))
    folder = Path(source)
    if (folder / "data" / "metadata.json").is_file():
        return _read_minari(folder)
    if not (folder / "recording.json").is_file():
        raise RunError(
            f"there is no recording in '{source}': make one by triathlon record RUN --out {source}, or name a data set "
            f"of Minari ({PREFIX}NAME, or its folder)"
        )
    return read(folder)


def _read_minari(where: str | Path) -> Recording:
    try:
        import minari
    except ModuleNotFoundError as error:
        raise RunError(
            "a data set of Minari needs a package that is not here: pip install 'triathlon[minari]'"
        ) from error
    try:
        dataset = minari.MinariDataset(where / "data") if isinstance(where, Path) else minari.load_dataset(where)
    except (OSError, ValueError, ImportError) as error:
        raise RunError(
            f"the data set {where} of Minari cannot be read: {error}; minari download fetches one"
        ) from error
    to_json(dataset.observation_space), to_json(dataset.action_space)
    spec = dataset.env_spec
    env = None
    if spec is not None:
        env = EnvConfig(id=spec.id, kwargs=dict(spec.kwargs), max_episode_steps=spec.max_episode_steps)
    parts: list[tuple[Any, ...]] = []
    for episode in dataset.iterate_episodes():
        num_steps = len(episode.rewards)
        is_first = np.arange(num_steps + 1) == 0
        action, reward, terminated, truncated = (
            np.concatenate([np.asarray(x), np.zeros_like(np.asarray(x)[:1])])
            for x in (episode.actions, episode.rewards, episode.terminations, episode.truncations)
        )
        parts.append((np.asarray(episode.observations), action, reward, terminated, truncated, is_first))
    if not parts:
        raise RunError(f"the data set {where} of Minari has no episodes")
    obs, action, reward, terminated, truncated, is_first = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    space = dataset.observation_space
    if obs.dtype == np.float64:  # networks compute in float32
        obs = obs.astype(np.float32)
        assert isinstance(space, spaces.Box)
        space = spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), space.shape, np.float32)
    found = Recording(
        obs,
        action,
        reward.astype(np.float32),
        terminated.astype(bool),
        truncated.astype(bool),
        is_first,
        space,
        dataset.action_space,
        env,
    )
    return checked(found, f"the data set {where} of Minari")


__all__ = ["PREFIX", "read_recording"]
