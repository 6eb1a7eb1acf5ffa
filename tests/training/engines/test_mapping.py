"""Each of our settings reaches the engine under the engine's own name: every one at a value that is no default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from triathlon.training.config import from_mapping
from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.recorder import Recorder
from triathlon.training.engines.resettable import make_resettable
from triathlon.training.engines.settings import AGENTS, Missing, check

PPO: dict[str, Any] = {
    **{"learning_rate": 0.003, "adam_eps": 1e-3, "num_steps": 24, "num_epochs": 3, "batch_size": 18, "gamma": 0.91},
    **{"gae_lambda": 0.82, "clip_coef": 0.31, "ent_coef": 0.013, "vf_coef": 0.7, "max_grad_norm": 0.6},
}
DQN: dict[str, Any] = {
    **{"learning_rate": 0.003, "adam_eps": 1e-3, "buffer_size": 330, "learning_starts": 51, "train_period": 9},
    **{"gradient_steps": 2, "batch_size": 17, "gamma": 0.91, "n_step": 3, "target_period": 210, "max_grad_norm": 0.6},
    **{"initial_epsilon": 0.8, "final_epsilon": 0.07, "exploration_fraction": 0.3},
}
SB3 = {
    "ppo": PPO
    | {"normalize_advantage": False, "target_kl": 0.04, "share_backbone": True, "log_std_init": -0.7}
    | {"anneal_learning_rate": True, "anneal_clip": True},
    "dqn": DQN | {"anneal_learning_rate": True, "head": {"hidden_size": 11}},
}
RLLIB = {
    "ppo": PPO
    | {"anneal_learning_rate": True, "share_backbone": True, "segment_length": 6, "std": "state", "log_std_init": -0.7},
    "dqn": DQN
    | {"anneal_learning_rate": True, "head": {"dueling": True, "hidden_size": 11}, "loss": "mse", "double": True}
    | {"prioritized": True, "priority_exponent": 0.71, "priority_beta": 0.37},
}
# What stands for each setting in a model of SB3.
IN_SB3: dict[str, dict[str, tuple[Callable[[Any], Any], Any]]] = {
    "ppo": {
        "kind": (lambda m: type(m).__name__, "PPO"),
        "learning_rate": (lambda m: m.lr_schedule(1.0), 0.003),
        "anneal_learning_rate": (lambda m: m.lr_schedule(0.25), 0.00075),
        "adam_eps": (lambda m: m.policy.optimizer.defaults["eps"], 1e-3),
        "num_steps": (lambda m: (m.n_steps, m.rollout_buffer.buffer_size), (24, 24)),
        "num_epochs": (lambda m: m.n_epochs, 3),
        "batch_size": (lambda m: m.batch_size, 18),  # of 72 rows: as many as 4 minibatches have
        "gamma": (lambda m: (m.gamma, m.rollout_buffer.gamma), (0.91, 0.91)),
        "gae_lambda": (lambda m: m.rollout_buffer.gae_lambda, 0.82),
        "clip_coef": (lambda m: m.clip_range(1.0), 0.31),
        "anneal_clip": (lambda m: m.clip_range(0.5), 0.155),
        "normalize_advantage": (lambda m: m.normalize_advantage, False),
        "ent_coef": (lambda m: m.ent_coef, 0.013),
        "vf_coef": (lambda m: m.vf_coef, 0.7),
        "max_grad_norm": (lambda m: m.max_grad_norm, 0.6),
        "target_kl": (lambda m: m.target_kl, 0.04),
        "share_backbone": (lambda m: m.policy.pi_features_extractor is m.policy.vf_features_extractor, True),
        "log_std_init": (lambda m: m.policy.log_std.item(), -0.7),
    },
    "dqn": {
        "kind": (lambda m: type(m).__name__, "DQN"),
        "learning_rate": (lambda m: m.lr_schedule(1.0), 0.003),
        "anneal_learning_rate": (lambda m: m.lr_schedule(0.25), 0.00075),
        "adam_eps": (lambda m: m.policy.optimizer.defaults["eps"], 1e-3),
        "buffer_size": (lambda m: (m.buffer_size, m.replay_buffer.buffer_size), (330, 110)),  # rows of 3 environments
        "learning_starts": (lambda m: m.learning_starts, 51),
        "train_period": (lambda m: (m.train_freq.frequency, m.train_freq.unit.value), (3, "step")),
        "gradient_steps": (lambda m: m.gradient_steps, 2),
        "batch_size": (lambda m: m.batch_size, 17),
        "gamma": (lambda m: (m.gamma, m.replay_buffer.gamma), (0.91, 0.91)),
        "n_step": (lambda m: m.replay_buffer.n_steps, 3),
        "head.hidden_size": (lambda m: m.policy.net_arch, [11]),
        "target_period": (lambda m: (m.target_update_interval, m.tau), (210, 1.0)),
        "max_grad_norm": (lambda m: m.max_grad_norm, 0.6),
        "initial_epsilon": (lambda m: m.exploration_schedule(1.0), 0.8),
        "final_epsilon": (lambda m: m.exploration_schedule(0.5), 0.07),
        "exploration_fraction": (lambda m: m.exploration_schedule(0.85), (0.8 + 0.07) / 2),
    },
}


def network(config: Any) -> Any:
    return config.rl_module_spec.model_config["network"]


# And in a configuration of RLlib.
IN_RLLIB: dict[str, dict[str, tuple[Callable[[Any], Any], Any]]] = {
    "ppo": {
        "kind": (lambda c: type(c).__name__, "PPOConfig"),
        "learning_rate": (lambda c: c.lr[0], [0, 0.003]),
        "anneal_learning_rate": (lambda c: c.lr[1], [4000, 0.0]),
        "adam_eps": (lambda c: c.learner_config_dict["adam_eps"], 1e-3),
        "num_steps": (lambda c: (c.rollout_fragment_length, c.train_batch_size_per_learner), (24, 72)),
        "num_epochs": (lambda c: c.num_epochs, 3),
        "batch_size": (lambda c: c.minibatch_size, 18),
        "gamma": (lambda c: c.gamma, 0.91),
        "gae_lambda": (lambda c: c.lambda_, 0.82),
        "clip_coef": (lambda c: (c.clip_param, c.vf_clip_param), (0.31, float("inf"))),
        "ent_coef": (lambda c: c.entropy_coeff, 0.013),
        "vf_coef": (lambda c: c.vf_loss_coeff, 0.7),
        "max_grad_norm": (lambda c: (c.grad_clip, c.grad_clip_by), (0.6, "global_norm")),
        "segment_length": (lambda c: c.rl_module_spec.model_config["max_seq_len"], 6),
        "share_backbone": (lambda c: network(c).critic, None),
        "std": (lambda c: network(c).policy_head.log_std, None),
        "log_std_init": (lambda c: network(c).policy_head.log_std_linear.bias.item(), -0.7),
    },
    "dqn": {
        "kind": (lambda c: type(c).__name__, "DQNConfig"),
        "learning_rate": (lambda c: c.lr[0], [0, 0.003]),
        "anneal_learning_rate": (lambda c: c.lr[1], [4000, 0.0]),
        "adam_eps": (lambda c: c.learner_config_dict["adam_eps"], 1e-3),
        "buffer_size": (lambda c: c.replay_buffer_config["capacity"], 330),
        "learning_starts": (lambda c: c.num_steps_sampled_before_learning_starts, 51),
        "train_period": (lambda c: c.rollout_fragment_length, 3),
        "gradient_steps": (lambda c: c.training_intensity * 9 / 17, 2),  # rows trained a row played
        "batch_size": (lambda c: c.train_batch_size, 17),
        "gamma": (lambda c: c.gamma, 0.91),
        "n_step": (lambda c: c.n_step, 3),
        "double": (lambda c: (c.double_q, c.rl_module_spec.model_config["double_q"]), (True, True)),
        "head.dueling": (lambda c: (c.dueling, network(c).head.value is not None), (True, True)),
        "head.hidden_size": (lambda c: network(c).head.advantage[0].out_features, 11),
        "loss": (lambda c: c.td_error_loss_fn, "mse"),
        "target_period": (lambda c: c.target_network_update_freq, 210),
        "tau": (lambda c: c.tau, 1.0),
        "max_grad_norm": (lambda c: (c.grad_clip, c.grad_clip_by), (0.6, "global_norm")),
        "initial_epsilon": (lambda c: c.rl_module_spec.model_config["epsilon"][0], 0.8),
        "final_epsilon": (lambda c: c.rl_module_spec.model_config["epsilon"][1], 0.07),
        "exploration_fraction": (lambda c: c.rl_module_spec.model_config["epsilon"][2], 1200.0),
        "prioritized": (lambda c: c.replay_buffer_config["type"], "PrioritizedEpisodeReplayBuffer"),
        "priority_exponent": (lambda c: c.replay_buffer_config["alpha"], 0.71),
        "priority_beta": (lambda c: c.replay_buffer_config["beta"], 0.37),
        "segment_length": (lambda c: c.rl_module_spec.model_config.get("max_seq_len"), None),
        "burn_in": (lambda c: c.burn_in_len, 0),
    },
}


@contextmanager
def recorder(engine: str, agent: dict[str, Any], backbone: dict[str, Any], folder: Path) -> Iterator[Recorder]:
    env_id = "Pendulum-v1" if agent["kind"] == "ppo" else "CartPole-v1"
    settings = {"env": {"id": env_id, "num_envs": 3}, "agent": agent, "backbone": backbone, "total_steps": 4000}
    quiet = {"engine": engine, "evaluation": {"final_episodes": 0, "video": False}, "device": "cpu"}
    experiment = from_mapping(settings | quiet)
    check(experiment)
    with closing(Recorder(experiment, folder)) as made:
        yield made


MLP = {"kind": "mlp", "hidden_sizes": [8]}
GRU = {"kind": "gru", "hidden_size": 8, "encoder": MLP}


def compare(found: dict[str, tuple[Callable[[Any], Any], Any]], made: Any, engine: str, kind: str) -> None:
    named = {name for name, theirs in AGENTS[engine][kind].items() if not isinstance(theirs, Missing)}
    assert set(found) == named  # a new setting wants its line here
    for name, (read, expected) in found.items():
        assert read(made) == pytest.approx(expected), name


@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_settings_in_a_model_of_sb3(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    from triathlon.training.engines.sb3 import make_model
    from triathlon.training.engines.sb3_envs import SB3Envs

    with recorder("sb3", {"kind": kind} | SB3[kind], MLP, tmp_path) as made:
        actions = EngineActions(made.learner.policy, made.task.action_space)
        with closing(SB3Envs(make_resettable(made.experiment.env), actions, 0)) as envs:
            model = make_model(made, envs)
        compare(IN_SB3[kind], model, "sb3", kind)
        assert model.seed == made.engine_seed and str(model.device) == "cpu"


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["ppo", "dqn"])
def test_settings_in_a_configuration_of_rllib(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("tree")
    from triathlon.training.engines.rllib import make_config

    backbone = GRU if kind == "ppo" else MLP
    with recorder("rllib", {"kind": kind} | RLLIB[kind], backbone, tmp_path) as made:
        config: Any = make_config(made)
        compare(IN_RLLIB[kind], config, "rllib", kind)
        assert config.seed == made.engine_seed and config.num_envs_per_env_runner == 3


@pytest.mark.cluster
def test_settings_of_sequences_and_of_a_target_that_follows_in_a_configuration_of_rllib(tmp_path: Path) -> None:
    """They exclude others of the test above."""
    pytest.importorskip("ray")
    pytest.importorskip("tree")
    from triathlon.training.engines.rllib import make_config

    agent = {"kind": "dqn", "segment_length": 5, "burn_in": 3, "tau": 0.4, "buffer_size": 330, "train_period": 3}
    with recorder("rllib", agent, GRU, tmp_path) as made:
        config: Any = make_config(made)
    assert config.burn_in_len == 3 and config.rl_module_spec.model_config["max_seq_len"] == 8
    assert config.tau == 0.4 and config.target_network_update_freq == 0
