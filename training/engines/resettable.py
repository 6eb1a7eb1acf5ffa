"""Vector environments whose columns can be reset one by one, as Stable-Baselines3 does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from triathlon.envs.atari import AtariEnvs
from triathlon.envs.make import EnvConfig, make_envs
from triathlon.envs.vector import NumpyVectorEnv
from triathlon.training.errors import RunError


def make_resettable(config: EnvConfig) -> VectorEnv[Any, Any, Any]:
    """The environments of `config`, of a sort whose columns can be reset one by one (`options={"reset_mask": …}`).

    Gymnasium's own vector entry points cannot: these are stepped one after another instead.

    Raises:
        EnvError, RunError: they cannot be made, or only by an entry point that cannot do that.
    """
    envs = make_envs(config)
    if _is_resettable(envs):
        return envs
    envs.close()
    if config.vectorization == "vector_entry_point":
        raise RunError(
            f"env.vectorization is vector_entry_point, and {config.id} made so cannot reset one environment alone, "
            "which Stable-Baselines3 needs; set it to sync"
        )
    return make_envs(replace(config, vectorization="sync"))


def _is_resettable(envs: VectorEnv[Any, Any, Any]) -> bool:
    layer: Any = envs
    while layer is not None:
        if isinstance(layer, SyncVectorEnv | AsyncVectorEnv | NumpyVectorEnv | AtariEnvs):
            return True
        layer = getattr(layer, "env", None)
    return False


__all__ = ["make_resettable"]
