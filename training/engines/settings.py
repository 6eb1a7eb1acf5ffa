"""What each engine calls our settings, and which of them it has no counterpart for.

A setting without a counterpart may stay at its default, which then says nothing about the run; changed, it is refused.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from triathlon.training import yaml_text
from triathlon.training.config import Experiment
from triathlon.training.errors import RunError
from triathlon.training.schema import to_mapping


@dataclass(frozen=True)
class Missing:
    """There is no counterpart, and why."""

    reason: str


Table: TypeAlias = Mapping[str, str | Missing]

NAMES = {"sb3": "Stable-Baselines3", "rllib": "RLlib"}
PACKAGES = {"sb3": ("stable_baselines3", "sb3"), "rllib": ("ray", "rllib")}

_NO_MEMORY = Missing("its agents have no memory, so nothing is trained on sequences")
_NO_COMPILE = Missing("it does not compile its gradient step")
_NO_GRAPHS = Missing("it does not record CUDA graphs")
_ONE_BY_ONE = Missing("it samples transitions uniformly")

SB3_PPO: Table = {
    "kind": "PPO",
    "learning_rate": "learning_rate",
    "anneal_learning_rate": "learning_rate (a schedule)",
    "adam_eps": "policy_kwargs.optimizer_kwargs.eps",
    "num_steps": "n_steps",
    "num_epochs": "n_epochs",
    "batch_size": "batch_size",
    "gamma": "gamma",
    "gae_lambda": "gae_lambda",
    "clip_coef": "clip_range",
    "anneal_clip": "clip_range (a schedule)",
    "clip_value_coef": Missing("its clip_range_vf takes the clipped error alone, not the larger of the two"),
    "normalize_advantage": "normalize_advantage",
    "ent_coef": "ent_coef",
    "vf_coef": "vf_coef",
    "max_grad_norm": "max_grad_norm",
    "target_kl": "target_kl",
    "segment_length": _NO_MEMORY,
    "share_backbone": "policy_kwargs.share_features_extractor",
    "normalize_obs": Missing("it normalises in the environment (VecNormalize), not in the network"),
    "normalize_reward": Missing("it normalises in the environment (VecNormalize), which its runs here do not have"),
    "compile": _NO_COMPILE,
    "cuda_graphs": _NO_GRAPHS,
    "std": Missing("its Gaussian has a free deviation"),
    "log_std_init": "policy_kwargs.log_std_init",
}

SB3_DQN: Table = {
    "kind": "DQN",
    "learning_rate": "learning_rate",
    "anneal_learning_rate": "learning_rate (a schedule)",
    "adam_eps": "policy_kwargs.optimizer_kwargs.eps",
    "buffer_size": "buffer_size",
    "compress_replay": Missing("its replay keeps pictures as they are"),
    "replay_device": Missing("its replay is in host memory"),
    "learning_starts": "learning_starts",
    "train_period": "train_freq",
    "gradient_steps": "gradient_steps",
    "batch_size": "batch_size",
    "gamma": "gamma",
    "n_step": "n_steps",
    "double": Missing("its DQN chooses and values the next action by the same network"),
    "head.kind": Missing("its DQN learns expected values"),
    "head.dueling": Missing("its DQN has one stream"),
    "head.noisy": Missing("its DQN explores by epsilon only"),
    "head.hidden_size": "policy_kwargs.net_arch",
    "loss": Missing("its DQN has the Huber loss"),
    "target_period": "target_update_interval",
    "tau": Missing("it moves its target every target_update_interval steps, not after every update"),
    "max_grad_norm": "max_grad_norm",
    "initial_epsilon": "exploration_initial_eps",
    "final_epsilon": "exploration_final_eps",
    "exploration_fraction": "exploration_fraction",
    "prioritized": _ONE_BY_ONE,
    "priority_exponent": _ONE_BY_ONE,
    "priority_beta": _ONE_BY_ONE,
    "priority_eta": _ONE_BY_ONE,
    "segment_length": _NO_MEMORY,
    "burn_in": _NO_MEMORY,
    "value_rescale": Missing("its DQN learns returns as they are"),
    "compile": _NO_COMPILE,
    "cuda_graphs": _NO_GRAPHS,
    "normalize_obs": SB3_PPO["normalize_obs"],
    "normalize_reward": SB3_PPO["normalize_reward"],
}

RLLIB_PPO: Table = {
    "kind": "PPOConfig",
    "learning_rate": "lr",
    "anneal_learning_rate": "lr (a schedule)",
    "adam_eps": "configure_optimizers_for_module",
    "num_steps": "rollout_fragment_length",
    "num_epochs": "num_epochs",
    "batch_size": "minibatch_size",
    "gamma": "gamma",
    "gae_lambda": "lambda_",
    "clip_coef": "clip_param",
    "anneal_clip": Missing("its clip_param is one number for the whole run"),
    "clip_value_coef": Missing("its vf_clip_param bounds the loss, not how far a value moves"),
    "normalize_advantage": Missing("it always normalises, over each rollout"),
    "ent_coef": "entropy_coeff",
    "vf_coef": "vf_loss_coeff",
    "max_grad_norm": "grad_clip",
    "target_kl": Missing("its kl_target steers a penalty and stops no epoch"),
    "segment_length": "model_config.max_seq_len",
    "share_backbone": "the RLModule",
    "normalize_obs": Missing("it normalises in a connector, not in the network"),
    "normalize_reward": Missing("it has no running scale of returns"),
    "compile": _NO_COMPILE,
    "cuda_graphs": _NO_GRAPHS,
    "std": "the RLModule",
    "log_std_init": "the RLModule",
}

RLLIB_DQN: Table = {
    "kind": "DQNConfig",
    "learning_rate": "lr",
    "anneal_learning_rate": "lr (a schedule)",
    "adam_eps": "adam_epsilon",
    "buffer_size": "replay_buffer_config.capacity",
    "compress_replay": Missing("its replay keeps pictures as they are"),
    "replay_device": Missing("its replay is in host memory"),
    "learning_starts": "num_steps_sampled_before_learning_starts",
    "train_period": "rollout_fragment_length and training_intensity",
    "gradient_steps": "training_intensity",
    "batch_size": "train_batch_size",
    "gamma": "gamma",
    "n_step": "n_step",
    "double": "double_q",
    "head.kind": Missing("its RLModule here values actions by their expected return"),
    "head.dueling": "the RLModule",
    "head.noisy": Missing("its RLModule here explores by epsilon only"),
    "head.hidden_size": "the RLModule",
    "loss": "td_error_loss_fn",
    "target_period": "target_network_update_freq",
    "tau": "tau",
    "max_grad_norm": "grad_clip",
    "initial_epsilon": "epsilon",
    "final_epsilon": "epsilon",
    "exploration_fraction": "epsilon (a schedule)",
    "prioritized": "replay_buffer_config.type",
    "priority_exponent": "replay_buffer_config.alpha",
    "priority_beta": "replay_buffer_config.beta",
    "priority_eta": Missing("it has no sequences with priorities"),
    "segment_length": "model_config.max_seq_len",
    "burn_in": "burn_in_len",
    "value_rescale": Missing("its DQN learns returns as they are"),
    "compile": _NO_COMPILE,
    "cuda_graphs": _NO_GRAPHS,
    "normalize_obs": RLLIB_PPO["normalize_obs"],
    "normalize_reward": RLLIB_PPO["normalize_reward"],
}

AGENTS: Mapping[str, Mapping[str, Table]] = {
    "sb3": {"ppo": SB3_PPO, "dqn": SB3_DQN},
    "rllib": {"ppo": RLLIB_PPO, "dqn": RLLIB_DQN},
}
# Of the experiment, what does not depend on the engine: the run folder, the evaluation and the networks are ours.
OURS = (
    *("engine", "env", "agent", "backbone", "total_steps", "seed", "device", "precision", "num_threads", "name"),
    *("root", "evaluation", "checkpoint", "logging"),
)


def check(experiment: Experiment) -> None:
    """Refuse what the experiment's engine cannot honour.

    Raises:
        RunError: the engine is not installed, has no such agent, or has no counterpart for a setting that was changed;
            the sentence names it.
    """
    engine, kind = experiment.engine, experiment.agent.kind
    package, extra = PACKAGES[engine]
    if importlib.util.find_spec(package) is None:
        raise RunError(
            f"engine: {engine} needs {NAMES[engine]}, which is not installed: pip install 'triathlon[{extra}]'"
        )
    if kind not in AGENTS[engine]:
        raise RunError(
            f"agent.kind is {kind}, which engine: {engine} does not have; it has {' and '.join(AGENTS[engine])}"
        )
    default = type(experiment)(env=experiment.env, agent=type(experiment.agent)(), total_steps=1)
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if field.name not in OURS and value != getattr(default, field.name):
            _refuse(experiment, field.name, value, Missing("it runs in its own way"))
    for name, value, unset in _changed(experiment.agent, default.agent):
        counterpart = counterpart_of(AGENTS[engine][kind], name)
        if isinstance(counterpart, Missing) and value != unset:
            _refuse(experiment, f"agent.{name}", value, counterpart)
    if experiment.env.board is not None:
        raise RunError(f"env.id is {experiment.env.id}: board games are played by engine: native only")
    if experiment.env.num_groups > 1:
        _refuse(experiment, "env.num_groups", experiment.env.num_groups, Missing("it steps all environments together"))


def without_counterpart(agent: Any, engine: str) -> list[str]:
    """The settings of an agent that were changed and that an engine has no counterpart for."""
    table = AGENTS[engine][agent.kind]
    return [
        f"agent.{name}"
        for name, value, unset in _changed(agent, type(agent)())
        if value != unset and isinstance(counterpart_of(table, name), Missing)
    ]


def counterpart_of(table: Table, name: str) -> str | Missing:
    """The engine's name of `name`, which is a setting or one inside of a setting such as `head.kind`."""
    return table.get(name, Missing("nothing in it does the same"))


def _changed(agent: Any, default: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every setting of an agent: name, value, value by default."""
    for field in dataclasses.fields(agent):
        value, unset, name = getattr(agent, field.name), getattr(default, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _changed(value, unset, f"{name}.")
        else:
            yield name, value, unset


def _refuse(experiment: Experiment, name: str, value: Any, missing: Missing) -> None:
    shown = yaml_text.dump_line(to_mapping(value))
    raise RunError(
        f"{name} is {shown}, which engine: {experiment.engine} has no counterpart for ({NAMES[experiment.engine]}: "
        f"{missing.reason}); leave it at its default or use engine: native"
    )


__all__ = ["AGENTS", "NAMES", "OURS", "Missing", "Table", "check", "counterpart_of", "without_counterpart"]
