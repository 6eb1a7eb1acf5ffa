"""The setting `agent.normalize_obs`, of every agent."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from triathlon.networks.errors import SettingError
from triathlon.networks.normalization import ObsNorm, RunningNorm


def make_obs_norm(space: gym.Space[Any], normalize_obs: bool) -> ObsNorm | None:
    """What normalises observations, if they are to be.

    Raises:
        SettingError: there is nothing in this space that it would normalise.
    """
    if not normalize_obs:
        return None
    norm = ObsNorm(space)
    if not any(isinstance(part, RunningNorm) for part in norm.modules()):
        raise SettingError(
            f"agent.normalize_obs is true, but it is for vectors, and observations are {space}; set it to false"
        )
    return norm
