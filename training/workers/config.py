"""Settings of rollout workers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from triathlon.envs.make import EnvConfig
from triathlon.networks.errors import SettingError


@dataclass(frozen=True)
class WorkersConfig:
    """Who plays the environments: this process (num: 0), or workers that send what they saw to it."""

    kind: Annotated[
        Literal["local", "process", "ray"],
        "local: in this process, one after another, to compare with; process: a process each on this machine; ray: an "
        "actor each on a Ray cluster",
    ] = "local"
    num: Annotated[int, Ge(0), "workers; 0: none, the run's own process plays"] = 0
    envs_per_worker: Annotated[
        int | None,
        Gt(0),
        "environments of each worker, num times as many in all, whatever env.num_envs says; null: its share",
    ] = None
    mode: Annotated[
        Literal["sync", "async"],
        "sync: workers play with the newest weights, then the learner learns; async: they play on while it learns",
    ] = "sync"
    rows: Annotated[
        int | None, Gt(0), "agents with a replay: rows that a worker plays between two looks at the weights; null: 16"
    ] = None
    min_ready: Annotated[
        int | None, Gt(0), "async: workers whose rows make a rollout (agents without a replay); null: half of them"
    ] = None
    max_lag: Annotated[
        int, Gt(0), "async: rollouts that may be learned from before a slow worker is waited for (without a replay)"
    ] = 4
    start_seconds: Annotated[float, Gt(0), "process, ray: how long a worker may take to start"] = 180.0
    hang_seconds: Annotated[
        float, Gt(0), "process, ray: how long a worker may take to answer before it is taken for hung"
    ] = 120.0
    max_restarts: Annotated[int, Ge(0), "workers that may be replaced in an hour before the run gives up"] = 20
    backoff_seconds: Annotated[
        float,
        Ge(0),
        "wait before a lost worker is replaced; doubled (up to half a minute) while that does not help",
    ] = 0.5
    address: Annotated[
        str | None, MinLen(1), "ray: address of the cluster; null: RAY_ADDRESS, else one is started on this machine"
    ] = None
    cpus_per_worker: Annotated[float, Gt(0), "ray: processors that the cluster sets aside for each worker"] = 1.0

    def __post_init__(self) -> None:
        if self.num == 0:
            self._refuse({f.name for f in fields(self)} - {"num"}, "num, the number of workers, is above 0")
        if self.kind != "ray":
            self._refuse({"address", "cpus_per_worker"}, "kind is ray")
        if self.mode == "sync":
            self._refuse({"min_ready", "max_lag"}, "mode is async")
        if self.kind == "local":
            self._refuse({"mode", "start_seconds", "hang_seconds"}, "kind is process or ray")
        if self.min_ready is not None and self.min_ready > self.num:
            raise SettingError(f"min_ready is {self.min_ready}, but there are {self.num} workers (num)")

    def _refuse(self, names: set[str], unless: str) -> None:
        """Raises SettingError if one of these was changed although nothing reads it."""
        for field in fields(self):
            if field.name in names and (value := getattr(self, field.name)) != field.default:
                raise SettingError(f"{field.name} is {value}, but nothing reads it unless {unless}")

    def all_envs(self, env: EnvConfig) -> EnvConfig:
        """The environments of the whole run, `num_envs` of them in all.

        Raises:
            SettingError: they cannot be shared out evenly.
            EnvError: a worker cannot have its part of them.
        """
        if not self.num:
            return env
        if self.envs_per_worker is not None:
            env = replace(env, num_envs=self.num * self.envs_per_worker)
        elif env.num_envs % self.num:
            raise SettingError(
                f"env.num_envs is {env.num_envs}, which workers.num {self.num} workers cannot share evenly; set "
                "workers.envs_per_worker, or env.num_envs to a multiple"
            )
        self.envs_of_one(env)
        return env

    def envs_of_one(self, env: EnvConfig) -> EnvConfig:
        """What one worker plays of the environments of the whole run.

        Workers side by side step Atari games with the processors that each has, instead of all that there are.
        """
        atari = env.atari
        if atari is not None and not atari.num_threads and self.kind != "local":
            atari = replace(atari, num_threads=max(1, int(self.cpus_per_worker)))
        return replace(env, num_envs=env.num_envs // self.num, atari=atari)


__all__ = ["WorkersConfig"]
