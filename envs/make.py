"""From a name to environments: any Gymnasium id, one of ours, or a class in the user's own file.

B environments step together. Every vector environment made here follows `AutoresetMode.NEXT_STEP`: the last observation
of an episode is returned as it is, the action after it is ignored, and that step returns the first observation of the
next episode with reward 0. `docs/architecture.md` says why.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias, get_args

import gymnasium as gym
from annotated_types import Ge
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from triathlon.envs.atari import NAMESPACE as ATARI
from triathlon.envs.atari import AtariConfig, make_atari
from triathlon.envs.board.config import BoardConfig
from triathlon.envs.board.games import NAMESPACE as BOARD
from triathlon.envs.board.vector import make_board
from triathlon.envs.control import HideParts, HideVectorParts, hidden_parts
from triathlon.envs.errors import EnvError
from triathlon.envs.guard import GuardedEnv, GuardedVectorEnv, explain, failure
from triathlon.envs.lookup import find, load, missing_extra, nearest
from triathlon.envs.screen import prepare_drawing
from triathlon.envs.spaces import check_envs
from triathlon.envs.tuples import without_tuples
from triathlon.envs.vector import SingleEnv

Vectorization: TypeAlias = Literal["auto", "vector_entry_point", "sync", "process"]


@dataclass(frozen=True)
class EnvConfig:
    """Which environment, how many of it, and what is changed about it."""

    id: Annotated[str, "a Gymnasium id, one of ours (triathlon/CueRecall-v0), or module:Class of your own file"]
    num_envs: Annotated[int, Ge(1), "environments stepped together (B)"] = 8
    num_groups: Annotated[
        int, Ge(1), "groups that take turns: one steps in a thread while the actions of another are computed"
    ] = 1
    vectorization: Annotated[
        Vectorization,
        "auto: the environment's own vector entry point if it has one, else sync; sync: one after another in this "
        "process; process: one process each",
    ] = "auto"
    kwargs: Annotated[dict[str, Any], "arguments for the environment"] = field(default_factory=dict)
    max_episode_steps: Annotated[int | None, Ge(1), "time limit in steps; null: the environment's own"] = None
    hide: Annotated[
        tuple[int, ...] | Literal["velocities"] | None, "parts of a vector observation that the agent does not see"
    ] = None
    wrappers: Annotated[tuple[str, ...], "module:Class of each gymnasium.Wrapper, innermost first"] = ()
    atari: Annotated[AtariConfig | None, "the protocol of an Atari game; null for everything else"] = None
    board: Annotated[BoardConfig | None, "the variant of a board game, its openings and opponent; else null"] = None

    def __post_init__(self) -> None:
        if self.num_groups > max(self.num_envs, 1):
            raise EnvError(
                f"num_groups is {self.num_groups}, but there are only {self.num_envs} environments (num_envs)"
            )
        for namespace, games, name, protocol in (
            (ATARI, "Atari games", "atari", AtariConfig),
            (BOARD, "board games", "board", BoardConfig),
        ):
            if self.id.startswith(f"{namespace}/"):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, protocol())  # what is played is recorded, defaults too
                self._refuse_unread(games, f"env.{name} has {', '.join(field.name for field in fields(protocol))}")
            elif getattr(self, name) is not None:
                raise EnvError(
                    f"env.{name} is read for {games} only (ids that begin with {namespace}/), not for {self.id}"
                )

    def _refuse_unread(self, games: str, instead: str) -> None:
        """Raises EnvError if a setting was changed that games with a protocol of their own do not read."""
        changed = {
            "vectorization": self.vectorization != "auto",
            "kwargs": bool(self.kwargs),
            "max_episode_steps": self.max_episode_steps is not None,
            "hide": self.hide is not None,
            "wrappers": bool(self.wrappers),
        }
        for setting, is_changed in changed.items():
            if is_changed:
                raise EnvError(f"{self.id}: env.{setting} is not read for {games}; {instead}")


def make_env(config: EnvConfig, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """One environment, for watching and rendering. It does not reset itself.

    Raises:
        EnvError: the environment cannot be made; the message says what to change.
    """
    if config.atari is not None or config.board is not None:
        raise EnvError(f"{config.id} plays without a window; film it with --out film.mp4")
    prepare_drawing(render_mode)
    env = _make_single(config, render_mode)
    if config.hide is not None:
        env = HideParts(env, hidden_parts(config.hide, config.id, env.observation_space))
    check_envs(env, config.id)
    return GuardedEnv(env, config.id)


def make_groups(config: EnvConfig) -> list[VectorEnv[Any, Any, Any]]:
    """`config.num_envs` environments in `config.num_groups` groups of (nearly) equal size; errors as in `make_envs`."""
    bounds = [config.num_envs * group // config.num_groups for group in range(config.num_groups + 1)]
    groups: list[VectorEnv[Any, Any, Any]] = []
    try:
        for start, stop in pairwise(bounds):
            groups.append(make_envs(config, stop - start))
    except BaseException:
        for group in groups:
            group.close()
        raise
    return groups


def make_envs(config: EnvConfig, num_envs: int | None = None, render: bool = False) -> VectorEnv[Any, Any, Any]:
    """`num_envs` (by default `config.num_envs`) environments that step together under `AutoresetMode.NEXT_STEP`.

    `reset(seed=s)` gives every environment its own stream. A Tuple observation comes as a Dict with keys "0", "1", ….
    With `render`, `envs.render()` gives one RGB array each.

    Raises:
        EnvError: the environment cannot be made; the message says what to change.
    """
    num_envs = config.num_envs if num_envs is None else num_envs
    if num_envs < 1:
        raise EnvError(f"num_envs must be at least 1, found {num_envs}")
    if config.vectorization not in get_args(Vectorization):
        raise EnvError(
            f"vectorization must be one of {', '.join(get_args(Vectorization))}, found {config.vectorization!r}"
        )
    if config.atari is not None or config.board is not None:
        return _make_games(config, num_envs, render)
    render_mode = "rgb_array" if render else None
    prepare_drawing(render_mode)
    found: VectorEnv[Any, Any, Any] | str = "sync or process was asked for"
    if config.vectorization in ("auto", "vector_entry_point"):
        found = _make_from_entry_point(config, num_envs, render_mode)
    if isinstance(found, str) and config.vectorization == "vector_entry_point":
        raise EnvError(f"{config.id} cannot be made by its vector entry point: {found}; set vectorization to sync")
    if isinstance(found, str) and find(config.id).entry_point is None:
        raise EnvError(f"{config.id} exists as a vector environment only, which cannot serve: {found}")
    if isinstance(found, str):
        single = partial(_make_single, config, render_mode)
        vectorizer = AsyncVectorEnv if config.vectorization == "process" else SyncVectorEnv
        with explain(config.id, "be made"):
            found = vectorizer([single] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)
    envs: VectorEnv[Any, Any, Any] = GuardedVectorEnv(found, config.id)
    if config.hide is not None:
        envs = HideVectorParts(envs, hidden_parts(config.hide, config.id, envs.single_observation_space))
    check_envs(envs, config.id)
    return without_tuples(envs)


def _make_games(config: EnvConfig, num_envs: int, render: bool) -> VectorEnv[Any, Any, Any]:
    games: VectorEnv[Any, Any, Any]
    if config.board is not None:
        games = make_board(config.id.removeprefix(f"{BOARD}/"), num_envs, config.board)
    else:
        assert config.atari is not None
        spec = find(config.id)
        with _explain_making(config):
            games = make_atari(spec, num_envs, config.atari, render)
    return GuardedVectorEnv(games, config.id)


def _make_single(config: EnvConfig, render_mode: str | None) -> gym.Env[Any, Any]:
    spec = _usable_spec(config, render_mode)
    if spec.entry_point is None:
        raise EnvError(f"{config.id} exists as a vector environment only and cannot be made as a single one")
    wrappers = [_wrapper(name) for name in config.wrappers]
    arguments = dict(config.kwargs) | ({} if render_mode is None else {"render_mode": render_mode})
    with _explain_making(config):
        creator = _creator(spec.entry_point)
    modes = getattr(creator, "metadata", {}).get("render_modes")
    # Gymnasium itself shows in a window what is drawn as an array.
    if render_mode is not None and modes is not None and not {render_mode, "rgb_array"} & set(modes):
        raise EnvError(f"{config.id} cannot be drawn as {render_mode}; its render modes are {list(modes)}")
    limit = config.max_episode_steps
    if limit is not None and isinstance(creator, partial) and creator.func is SingleEnv:
        # Ours end episodes themselves: a limit around them could only be lower, and none of their checks would see it.
        spec = replace(spec, kwargs=spec.kwargs | {"max_episode_steps": limit})
    # Gymnasium's own checker costs a tenth of a step and warns where we give errors.
    with _explain_making(config):
        env = gym.make(spec, max_episode_steps=limit, disable_env_checker=True, **arguments)
    for name, wrapper in zip(config.wrappers, wrappers, strict=True):
        with explain(config.id, f"be wrapped in {name}"):
            env = wrapper(env)
        if not isinstance(env, gym.Env):
            raise EnvError(f"wrapper {name} must give a gymnasium.Env, found {type(env).__name__}")
    return env


def _make_from_entry_point(config: EnvConfig, num_envs: int, render_mode: str | None) -> VectorEnv[Any, Any, Any] | str:
    """The environment's own vector version, or why it cannot serve."""
    spec = _usable_spec(config, render_mode)
    if spec.vector_entry_point is None:
        return "it has no vector entry point"
    if config.wrappers or spec.additional_wrappers:
        return "wrappers apply to single environments"
    with _explain_making(config):
        creator = _creator(spec.vector_entry_point)
    arguments = spec.kwargs | config.kwargs | ({} if render_mode is None else {"render_mode": render_mode})
    limit = config.max_episode_steps or spec.max_episode_steps
    parameters = inspect.signature(creator).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if limit is not None and "max_episode_steps" not in parameters and not open_ended:
        return f"it takes no max_episode_steps, so the time limit of {limit} would not hold"
    if limit is not None:
        arguments["max_episode_steps"] = limit
    if unknown := [name for name in arguments if name not in parameters and not open_ended]:
        return f"it takes no {', '.join(unknown)}"
    if "autoreset_mode" in parameters:
        arguments["autoreset_mode"] = AutoresetMode.NEXT_STEP
    with _explain_making(config):
        envs: VectorEnv[Any, Any, Any] = creator(num_envs=num_envs, **arguments)
    if envs.metadata.get("autoreset_mode") != AutoresetMode.NEXT_STEP:
        envs.close()
        return f"its autoreset mode is {envs.metadata.get('autoreset_mode')}, not AutoresetMode.NEXT_STEP"
    if envs.spec is None:
        envs.spec = spec
    return envs


def _usable_spec(config: EnvConfig, render_mode: str | None) -> EnvSpec:
    spec = find(config.id)
    if (sentence := missing_extra(spec, render=render_mode is not None)) is not None:
        raise EnvError(sentence)
    for name in ("render_mode", "num_envs", "max_episode_steps"):
        if name in config.kwargs:
            raise EnvError(f"{config.id}: kwargs must not hold {name}; it is set outside kwargs")
    return spec


def _creator(entry_point: Any) -> Any:
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def _wrapper(name: str) -> Any:
    found = load(name)
    if not callable(found):
        raise EnvError(f"wrapper {name} must be a gymnasium.Wrapper, found {found!r}")
    return found


@contextmanager
def _explain_making(config: EnvConfig) -> Iterator[None]:
    try:
        yield
    except EnvError:
        raise
    except gym.error.DependencyNotInstalled as error:
        raise EnvError(f"{config.id} needs a package that is not installed: {error}") from error
    except ImportError as error:
        raise EnvError(f"{config.id} cannot be imported: {error}") from error
    except Exception as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if isinstance(error, TypeError) and unknown is not None and unknown[1] in config.kwargs:
            raise EnvError(
                f"{config.id} takes no argument {unknown[1]!r}{_nearest_argument(config, unknown[1])}"
            ) from error
        raise EnvError(failure(config.id, "be made", error)) from error


def _nearest_argument(config: EnvConfig, argument: str) -> str:
    spec = find(config.id)
    known: list[str] = []
    for creator in (spec.entry_point, spec.vector_entry_point):
        if creator is not None:
            known += inspect.signature(_creator(creator)).parameters
    return nearest(argument, known)
