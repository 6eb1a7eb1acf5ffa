"""Training by Stable-Baselines3: its PPO and DQN on our backbones and our environments.

Raffin et al. 2021, "Stable-Baselines3: Reliable Reinforcement Learning Implementations". B environments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger as SB3Logger
from torch import nn

from triathlon.agents.dqn_config import DQNConfig
from triathlon.agents.ppo_config import PPOConfig
from triathlon.networks.images import compute_pictures_in
from triathlon.training.config import Experiment
from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.recorder import Recorder
from triathlon.training.engines.refusals import refuse
from triathlon.training.engines.resettable import make_resettable
from triathlon.training.engines.rounds import minibatch_size, rounds_of_updates
from triathlon.training.engines.sb3_envs import SB3Envs
from triathlon.training.engines.sb3_network import BackboneExtractor, give_weights, take_weights
from triathlon.training.errors import RunError
from triathlon.training.judging import Result


def train(
    experiment: Experiment, folder: Path, resume: bool = False, on_start: Callable[[], None] | None = None
) -> Result:
    """Train in `folder` by SB3, then judge the best policy; arguments as in `triathlon.training.runner.train`.

    A run that goes on has the weights, the optimiser, the counters and (with `checkpoint.replay`) the replay that it
    had; its environments begin new episodes.

    Raises:
        SettingError, EnvError, RunError: a setting, the environment or a file is at fault.
    """
    recorder = Recorder(experiment, folder, resume)
    try:
        refuse(experiment, recorder.task, recorder.network)
        actions = EngineActions(recorder.learner.policy, recorder.task.action_space)
        envs = SB3Envs(make_resettable(experiment.env), actions, recorder.env_seed)
        try:
            model = make_model(recorder, envs)
            if resume:
                _restore(model, recorder)
            if on_start is not None:
                on_start()
            result = _train(recorder, model, envs)
        finally:
            envs.close()
        if not result.interrupted:
            recorder.judge(result)
        return result
    finally:
        recorder.close()


def _train(recorder: Recorder, model: BaseAlgorithm, envs: SB3Envs) -> Result:
    by_rollout = isinstance(model, PPO)

    class Report(BaseCallback):
        """Counts what was learned from: of PPO whole rollouts, the last of which a stop or a kill may cut short."""

        goes_on = True

        def advance(self) -> bool:
            self.goes_on = recorder.advance(self.num_timesteps, envs.take_episodes())
            return self.goes_on

        def _on_rollout_start(self) -> None:
            if by_rollout and self.num_timesteps:
                self.advance()

        def _on_step(self) -> bool:
            if not by_rollout:
                return self.advance()
            self.goes_on = self.goes_on and not recorder.is_stopping
            return self.goes_on

        def _on_training_end(self) -> None:
            if by_rollout and self.goes_on:
                self.advance()

    def learn() -> None:
        remaining = recorder.experiment.total_steps - recorder.num_steps
        first = recorder.num_steps == 0
        model.learn(remaining, Report(), log_interval=None, reset_num_timesteps=first)  # type: ignore[arg-type]

    def metrics() -> dict[str, float]:
        kept = ("train/", "rollout/exploration_rate")
        return {tag: value for tag, value in model.logger.name_to_value.items() if tag.startswith(kept)}

    return recorder.train(
        learn,
        lambda: take_weights(recorder.network, model.policy),
        metrics,
        lambda: _state(model, recorder.num_steps, recorder.experiment.checkpoint.replay),
    )


def make_model(recorder: Recorder, envs: SB3Envs) -> BaseAlgorithm:
    """The SB3 model of an experiment, with the weights of `recorder.network`; the settings are those in `settings`."""
    experiment, agent = recorder.experiment, recorder.experiment.agent
    assert isinstance(agent, PPOConfig | DQNConfig)
    rate = agent.learning_rate
    policy_kwargs: dict[str, Any] = {
        "features_extractor_class": BackboneExtractor,
        "features_extractor_kwargs": {"space": recorder.task.observation_space, "config": experiment.backbone},
        "optimizer_kwargs": {"eps": agent.adam_eps},
        "net_arch": [],
    }
    settings: dict[str, Any] = {
        "policy": "MultiInputPolicy" if isinstance(envs.observation_space, gym.spaces.Dict) else "MlpPolicy",
        "env": envs,
        "learning_rate": (lambda remaining: rate * remaining) if agent.anneal_learning_rate else rate,
        "gamma": agent.gamma,
        "max_grad_norm": agent.max_grad_norm,
        "policy_kwargs": policy_kwargs,
        "seed": recorder.engine_seed,
        "device": recorder.device,
    }
    make = _ppo if isinstance(agent, PPOConfig) else _dqn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on settings that the configuration has decided
        model = make(agent, settings, envs.num_envs, recorder.network)  # type: ignore[arg-type]
    model.set_logger(SB3Logger(folder=None, output_formats=[]))  # what it records is read from there
    compute_pictures_in(model.policy, recorder.task.precision)
    give_weights(recorder.network, model.policy)
    return model


def _ppo(agent: PPOConfig, settings: dict[str, Any], num_envs: int, network: nn.Module) -> BaseAlgorithm:
    rows, clip = agent.num_steps * num_envs, agent.clip_coef
    settings["policy_kwargs"] |= {
        "share_features_extractor": network.critic is None,
        "ortho_init": False,
        "log_std_init": agent.log_std_init,
    }
    return PPO(
        n_steps=agent.num_steps,
        batch_size=minibatch_size(rows, agent.batch_size),
        n_epochs=agent.num_epochs,
        gae_lambda=agent.gae_lambda,
        clip_range=(lambda remaining: clip * remaining) if agent.anneal_clip else clip,
        normalize_advantage=agent.normalize_advantage,
        ent_coef=agent.ent_coef,
        vf_coef=agent.vf_coef,
        target_kl=agent.target_kl,
        **settings,
    )


def _dqn(agent: DQNConfig, settings: dict[str, Any], num_envs: int, network: nn.Module) -> BaseAlgorithm:
    train_freq, gradient_steps = rounds_of_updates(agent.train_period, agent.gradient_steps, num_envs, "sb3")
    settings["policy_kwargs"]["net_arch"] = [agent.head.hidden_size] if agent.head.hidden_size else []
    return DQN(
        buffer_size=agent.buffer_size,
        learning_starts=agent.learning_starts,
        batch_size=agent.batch_size,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        n_steps=agent.n_step,
        target_update_interval=agent.target_period,
        exploration_fraction=agent.exploration_fraction,
        exploration_initial_eps=agent.initial_epsilon,
        exploration_final_eps=agent.final_epsilon,
        **settings,
    )


# --- checkpoints ------------------------------------------------------------------------------------------------------

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "_current_progress_remaining")
ROWS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")  # of a replay


def _state(model: BaseAlgorithm, num_steps: int, with_experience: bool) -> dict[str, Any]:
    """What a model needs to go on after `num_steps`, as tensors and numbers: SB3's own files are pickles."""
    counters = {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)}
    state: dict[str, Any] = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "counters": counters | {"num_timesteps": num_steps},
    }
    if isinstance(model, DQN) and with_experience:
        replay = model.replay_buffer
        assert replay is not None
        size = replay.buffer_size if replay.full else replay.pos
        state["replay"] = {
            "pos": replay.pos,
            "full": replay.full,
            "num_rows": replay.buffer_size,
            "rows": {name: _first(getattr(replay, name), size) for name in ROWS},
        }
    return state


def _restore(model: BaseAlgorithm, recorder: Recorder) -> None:
    state = recorder.engine_state
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    for name, value in state["counters"].items():
        setattr(model, name, value)
    if "replay" in state:
        assert isinstance(model, DQN)
        assert model.replay_buffer is not None
        replay, saved = model.replay_buffer, state["replay"]
        _refuse_other_capacity(replay.buffer_size, saved, recorder.experiment)
        replay.pos, replay.full = saved["pos"], saved["full"]
        for name, rows in saved["rows"].items():
            _fill(getattr(replay, name), rows)
        if replay.full or replay.pos:
            # The environments begin new episodes: returns of several steps must not go on into the row after this one.
            last = (replay.pos - 1) % replay.buffer_size
            replay.timeouts[last] = np.maximum(replay.timeouts[last], 1.0 - replay.dones[last])
    elif isinstance(model, DQN):  # a replay that was not saved is filled anew before anything is learned from it
        model.learning_starts += model.num_timesteps


def _refuse_other_capacity(num_rows: int, saved: dict[str, Any], experiment: Experiment) -> None:
    """Raises RunError unless the saved replay had `num_rows` as well: in a larger one, rows never played are drawn."""
    assert isinstance(experiment.agent, DQNConfig)
    size = len(saved["rows"]["rewards"])
    # A checkpoint of before `num_rows` was saved: a full replay had as many rows as are there, another one had more.
    had = saved.get("num_rows", size if saved["full"] else max(num_rows, size + 1))
    if had != num_rows:
        raise RunError(
            f"agent.buffer_size is {experiment.agent.buffer_size} but the saved replay has room for "
            f"{had * experiment.env.num_envs} transitions; resume with the capacity that the run had"
        )


def _first(rows: Any, size: int) -> Any:
    return {key: part[:size] for key, part in rows.items()} if isinstance(rows, dict) else rows[:size]


def _fill(rows: Any, saved: Any) -> None:
    if isinstance(rows, dict):
        for key, part in rows.items():
            _fill(part, saved[key])
    else:
        rows[: len(saved)] = saved


__all__ = ["make_model", "train"]
