"""Tuple observations as Dict observations, so that all that follows knows one kind of composite. B environments."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorObservationWrapper
from gymnasium.vector.utils import batch_space


class NamedVectorParts(VectorObservationWrapper):
    """The parts of every Tuple in an observation get their places as keys: `(a, b)` becomes `{"0": a, "1": b}`."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.single_observation_space = _named_space(env.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def observations(self, observations: Any) -> Any:
        return named_parts(observations)


def without_tuples(envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
    """The same environments, with Dicts in place of Tuples where there are any."""
    return NamedVectorParts(envs) if _has_tuple(envs.single_observation_space) else envs


def _has_tuple(space: spaces.Space[Any]) -> bool:
    """Whether a space is a Tuple, or has one somewhere inside."""
    if isinstance(space, spaces.Dict):
        return any(_has_tuple(part) for part in space.values())
    return isinstance(space, spaces.Tuple)


def _named_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _named_space(part) for key, part in space.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Dict({str(i): _named_space(part) for i, part in enumerate(space)})
    return space


def named_parts(obs: Any) -> Any:
    """An observation with a Dict in place of every Tuple."""
    if isinstance(obs, dict):
        return {key: named_parts(part) for key, part in obs.items()}
    if isinstance(obs, tuple):
        return {str(i): named_parts(part) for i, part in enumerate(obs)}
    return obs
