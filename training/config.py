"""One experiment: what is played, what learns, for how long, and what is kept of it.

A configuration is a YAML file, changed by `--path.to-key value` on the command line, read into the dataclasses that
stand beside the classes they configure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, MinLen

from triathlon.agents import registry as agents
from triathlon.agents.registry import AgentConfig
from triathlon.envs.errors import EnvError
from triathlon.envs.make import EnvConfig
from triathlon.networks import registry as networks
from triathlon.networks.errors import SettingError, refuse_unread
from triathlon.networks.registry import BackboneConfig
from triathlon.training import schema, yaml_text
from triathlon.training.board.self_play_config import SelfPlayConfig, judged, refuse_groups
from triathlon.training.errors import RunError
from triathlon.training.shipped import shipped as shipped_files
from triathlon.training.workers.config import WorkersConfig

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
KINDS: schema.Kinds = {AgentConfig: agents.config_class, BackboneConfig: networks.config_class}


@dataclass(frozen=True)
class EvaluationConfig:
    """How good the policy is, measured on episodes that it is not trained on."""

    period: Annotated[
        int | None, Gt(0), "environment steps between evaluations, which choose the best checkpoint; null: none"
    ] = None
    num_episodes: Annotated[int, Gt(0), "episodes of each evaluation during training"] = 10
    final_episodes: Annotated[int, Ge(0), "episodes of the evaluation after training; 0: none"] = 100
    num_envs: Annotated[int, Gt(0), "environments that are evaluated side by side"] = 8
    deterministic: Annotated[bool, "play the best action instead of drawing one"] = True
    video: Annotated[bool, "record an episode after training"] = True
    saliency: Annotated[bool, "beside the video, what of the agent's picture its decisions hang on"] = False
    goal: Annotated[
        float | None,
        "training ends once an evaluation's mean return reaches this (or minus the exploitability, where that is "
        "measured); null: all of total_steps are played",
    ] = None

    def __post_init__(self) -> None:
        if self.period is None:
            refuse_unread(self, ("goal",), "evaluation.period is given", place="")
        if not self.video:
            refuse_unread(self, ("saliency",), "evaluation.video is true", place="")

    def is_reached(self, score: float) -> bool:
        """Whether a score of `eval/`, the more the better, is as good as was asked for."""
        return self.goal is not None and score >= self.goal


@dataclass(frozen=True)
class CheckpointConfig:
    """How often the run is saved, to go on from where it was when it is stopped."""

    period: Annotated[int | None, Gt(0), "environment steps between checkpoints; null: a tenth of total_steps"] = None
    replay: Annotated[bool, "save the replay too, so that a resumed run goes on to the bit"] = True


@dataclass(frozen=True)
class LoggingConfig:
    """What is written down while training."""

    period: Annotated[int, Gt(0), "environment steps between two rows of metrics"] = 2_000
    tensorboard: Annotated[bool, "write TensorBoard event files"] = True
    csv: Annotated[bool, "write monitor.csv (one row an episode) and progress.csv (one row a period)"] = True
    histograms: Annotated[bool, "write histograms of actions and values"] = True


@dataclass(frozen=True)
class Experiment:
    """Everything that a run depends on."""

    env: EnvConfig
    agent: AgentConfig
    total_steps: Annotated[int, Gt(0), "environment steps (agent decisions) of the whole training"]
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    engine: Annotated[
        Literal["native", "rllib", "sb3"], "what trains: this project, RLlib or Stable-Baselines3, on the same networks"
    ] = "native"
    init_from: Annotated[str | None, MinLen(1), "a run (of an agent or a task) whose backbone is started from"] = None
    init_partly: Annotated[bool, "with init_from: take the weights that fit and leave those that do not"] = False
    init_head: Annotated[bool, "with init_from: take the policy head too, where it has the same shape"] = True
    freeze_backbone: Annotated[bool, "only the heads learn"] = False
    backbone_scale: Annotated[float, Gt(0), "multiplies the learning rate of the backbone, not of the heads"] = 1.0
    seed: Annotated[int, Ge(0), "all random numbers of the run descend from it"] = 1
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], "where the networks live; auto: CUDA if there is any"] = (
        "auto"
    )
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        "what convolutions and patches compute in; auto: bfloat16 for pictures of 64 x 64, where the hardware can, and "
        "TF32 for all else on a GPU",
    ] = "auto"
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    num_threads: Annotated[int | None, Gt(0), "CPU threads of PyTorch; null: chosen for the network's size"] = None
    name: Annotated[str | None, MinLen(1), "name of the run folder; null: agent, backbone, seed and time"] = None
    root: Annotated[str, MinLen(1), "folder that run folders are made in"] = "runs"
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    self_play: Annotated[SelfPlayConfig | None, "opponents and judges of a board game; null for everything else"] = None
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        self._check_start()
        object.__setattr__(self, "env", self.workers.all_envs(self.env))
        refuse_groups(self.env, self.self_play)
        for setting in ("pool_share", "search_share"):
            if self.workers.num and (share := getattr(self.self_play, setting, 0.0)):
                raise EnvError(
                    f"self_play.{setting} is {share} and workers.num is {self.workers.num}, but only the run's own "
                    "process has opponents and a search; set one of them to 0"
                )
        if self.env.board is not None and self.self_play is None:
            object.__setattr__(self, "self_play", SelfPlayConfig())
        if self.env.board is None and self.self_play is not None:
            raise EnvError(
                f"self_play is read for board games only (ids that begin with board/), not for {self.env.id}"
            )
        if self.env.board is not None and self.env.board.opponent and self.self_play and self.self_play.pool_share:
            raise EnvError(
                f"env.board.opponent is {self.env.board.opponent}, who plays every game, and self_play.pool_share is "
                f"{self.self_play.pool_share}; leave out one of them"
            )

        if self.self_play is not None and self.self_play.search_share:
            self._check_search(self.self_play.search_share)

    def _check_start(self) -> None:
        if self.init_from is None:
            for setting, default in (("init_partly", False), ("init_head", True)):
                if getattr(self, setting) != default:
                    raise SettingError(
                        f"{setting} is {not default}, but nothing reads it without init_from; leave it out"
                    )
        if self.freeze_backbone and self.backbone_scale != 1.0:
            raise SettingError("backbone_scale is not read with freeze_backbone: true; leave one of them out")

    def _check_search(self, share: float) -> None:
        agent = self.agent
        if not agent.learns_from_search:
            raise EnvError(
                f"self_play.search_share is {share}, but agent.kind {agent.kind} learns nothing from a search; leave "
                "it at 0, or use ppo"
            )
        if getattr(agent, "normalize_reward", False):
            raise EnvError(
                f"self_play.search_share is {share}, and a search needs values in what the game pays; set "
                "agent.normalize_reward to false"
            )

    @property
    def judging_env(self) -> EnvConfig:
        """The environments that the agent is evaluated in: the same, but board games are against the judge."""
        return judged(self.env, self.self_play)


def load(config: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a file (a path, or the name of a shipped configuration) changed by command-line arguments.

    Raises:
        RunError: no such file, not YAML, or a setting is unknown, missing, of the wrong type or out of range.
    """
    mapping = read(config)
    if "task" in mapping and "agent" not in mapping:
        path = Path(config)
        command = f"predict {path.parent} FILE…" if path.name == "config.yaml" else f"supervised {config}"
        raise RunError(f"{config} is of a supervised task, without an agent: triathlon {command}")
    return from_mapping(mapping, overrides)


def read(config: str | Path) -> dict[str, Any]:
    """What stands in the file of a configuration; raises RunError where it is not there or not YAML."""
    path = find(config)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"the configuration {path} cannot be read: {error}") from error
    return yaml_text.parse(text, str(path))


def from_mapping(mapping: dict[str, Any], overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a nested mapping changed by command-line arguments; raises RunError as `load` does."""
    experiment: Experiment = schema.build(Experiment, override(mapping, overrides), KINDS)
    # Not a check of `Experiment` itself: the doctor makes one without evaluations of any that is given to it.
    if experiment.self_play is not None and experiment.evaluation.period is None:
        try:
            measures = ("ladder", "exploitability")
            refuse_unread(experiment.self_play, measures, "evaluation.period is given", "self_play.")
        except SettingError as error:
            raise RunError(str(error)) from error
    return experiment


def find(config: str | Path) -> Path:
    """The file of a configuration: a path that exists, or a name such as `cartpole_ppo` from `triathlon.configs`."""
    if Path(config).is_file():
        return Path(config)
    shipped = shipped_files()
    name = Path(config).name.removesuffix(".yaml")
    if name in shipped and str(config) in (name, f"{name}.yaml"):
        return shipped[name]
    near = difflib.get_close_matches(name, shipped, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "triathlon train --help lists those that are shipped"
    raise RunError(f"there is no configuration file '{config}' and no shipped configuration of that name; {hint}")


def dump(experiment: Any) -> str:
    """The experiment as YAML with every setting; `load` gives an equal experiment back."""
    return yaml_text.dump(schema.to_mapping(experiment))


# --- command line ----------------------------------------------------------------------------------------------------


def override(mapping: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """A copy of `mapping` changed by `--path.to-key value` or `--path.to-key=value`; values are YAML, none means true.

    A changed `kind` starts from the defaults of the new kind: of the other keys only those that it has too are kept.
    """
    mapping = _copy(mapping)
    for key, value in sorted(_pairs(arguments), key=lambda pair: pair[0][-1] != "kind"):  # kinds come first
        place = mapping
        for depth, part in enumerate(key[:-1]):
            below = place.get(part)
            if isinstance(below, str):  # `backbone: lstm` is short for `backbone: {kind: lstm}`
                below = place[part] = {"kind": below}
            if below is None:
                below = place[part] = {}
            if not isinstance(below, dict):
                raise RunError(
                    f"--{'.'.join(key)}: {'.'.join(key[: depth + 1])} is {below!r}, which has no settings in it"
                )
            place = below
        if key[-1] == "kind" and place.get("kind", value) != value:
            _switch(mapping, key[:-1], value)
        else:
            place[key[-1]] = value
            if isinstance(place, schema.Switched):
                place.given.add(key[-1])
    return mapping


def _pairs(arguments: Iterable[str]) -> Iterable[tuple[list[str], Any]]:
    """`(["agent", "learning_rate"], 0.001)` for each setting on the command line."""
    waiting = list(arguments)
    while waiting:
        flag, has_value, text = waiting.pop(0).partition("=")
        if not re.fullmatch(r"--[\w.-]+", flag) or "" in flag[2:].split("."):
            raise RunError(f"'{flag}' is not understood; settings are written --path.to-key value")
        if not has_value:
            text = waiting.pop(0) if waiting and not waiting[0].startswith("--") else "true"
        yield flag[2:].replace("-", "_").split("."), yaml_text.parse_spelled(text, flag)


def _switch(mapping: dict[str, Any], path: Sequence[str], kind: Any) -> None:
    """Put a `Switched` mapping of another kind in the place of the mapping at `path`, which is not empty."""
    place = mapping
    for part in path[:-1]:
        place = place[part]
    switched = place[path[-1]] = schema.Switched(place[path[-1]])
    switched["kind"], switched.given = kind, {"kind"}


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value


def help_text(experiment: Any) -> str:
    """Every setting of the experiment with its value and its line of help, grouped by the mapping it stands in."""
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for path, value, text in schema.settings(experiment):
        group, _, _ = path.rpartition(".")
        shown = yaml_text.dump_line(schema.to_mapping(value))
        groups.setdefault(group, []).append((f"--{path.replace('_', '-')}", shown, text))
    width = max(len(flag) for rows in groups.values() for flag, _, _ in rows)
    lines = ["Settings and their values; change one with --path.to-key value:"]
    for group, rows in groups.items():
        lines += ["", f"{group or 'experiment'}:"]
        lines += [f"  {flag:<{width}}  {value:<12}  {text}".rstrip() for flag, value, text in rows]
    return "\n".join(lines)


__all__ = [
    "CheckpointConfig",
    "EvaluationConfig",
    "Experiment",
    "LoggingConfig",
    "dump",
    "find",
    "from_mapping",
    "help_text",
    "load",
    "override",
    "read",
]
