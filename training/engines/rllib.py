"""Training by RLlib (new API stack): its PPO and DQN on our networks and our environments, in this process.

Liang et al. 2018, "RLlib: Abstractions for Distributed Reinforcement Learning". B environments.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig as RLlibDQNConfig
from ray.rllib.algorithms.ppo import PPOConfig as RLlibPPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.registry import register_env

from triathlon.agents.dqn_config import DQNConfig
from triathlon.agents.ppo_config import PPOConfig
from triathlon.envs.errors import EnvError
from triathlon.envs.make import make_envs
from triathlon.networks.images import compute_pictures_in
from triathlon.training.config import Experiment
from triathlon.training.engines.actions import EngineActions
from triathlon.training.engines.recorder import Recorder
from triathlon.training.engines.refusals import refuse
from triathlon.training.engines.rllib_envs import Hand, RLlibEnvs
from triathlon.training.engines.rllib_modules import DQNLearner, DQNModule, PPOLearner, PPOModule, plain_copy
from triathlon.training.engines.rounds import minibatch_size, rounds_of_updates
from triathlon.training.errors import RunError
from triathlon.training.judging import Result
from triathlon.training.ray_start import join_or_start, prepare

ENV = "triathlon"  # what RLlib's registry knows our environments by
STORE = 100 * 2**20  # bytes of Ray's object store: nothing but the configuration goes there
# RLlib's names of its learners' numbers, and the tags of ours.
TAGS = {
    "policy_loss": "train/policy_gradient_loss",
    "vf_loss": "train/value_loss",
    "entropy": "train/entropy",
    "vf_explained_var": "train/explained_variance",
    "total_loss": "train/loss",
    "td_error_mean": "train/td_error",
    "qf_mean": "train/q_values",
    "gradients_default_optimizer_global_norm": "train/grad_norm",
    "default_optimizer_learning_rate": "train/learning_rate",
}


def train(
    experiment: Experiment, folder: Path, resume: bool = False, on_start: Callable[[], None] | None = None
) -> Result:
    """Train in `folder` by RLlib, then judge the best policy; arguments as in `triathlon.training.runner.train`.

    Raises:
        SettingError, EnvError, RunError: a setting, the environment or a file is at fault, or a run is to go on.
    """
    if resume:
        raise RunError(
            "a run by engine: rllib cannot go on: RLlib's checkpoints are pickles, which are never loaded here; its "
            "policy can be evaluated and watched"
        )
    recorder = Recorder(experiment, folder)
    try:
        refuse(experiment, recorder.task, recorder.network)
        actions = EngineActions(recorder.learner.policy, recorder.task.action_space)
        with closing(RLlibEnvs(make_envs(experiment.env), actions, recorder.env_seed)) as envs, _quiet_ray():
            algorithm = _build(recorder, envs)
            if on_start is not None:
                on_start()
            try:
                result = _train(recorder, algorithm, envs)
            finally:
                algorithm.stop()
                shutil.rmtree(algorithm.logdir, ignore_errors=True)  # made by RLlib, and empty
                with suppress(OSError):
                    Path(algorithm.logdir).parent.rmdir()
        if not result.interrupted:
            recorder.judge(result)
        return result
    finally:
        recorder.close()


def _train(recorder: Recorder, algorithm: Algorithm, envs: RLlibEnvs) -> Result:
    found: dict[str, float] = {}

    def learn() -> None:
        while envs.num_steps < recorder.experiment.total_steps:
            results: Mapping[str, Any] = _iterate(algorithm)
            numbers = results.get("learners", {}).get("default_policy", {})
            found.update({tag: float(numbers[name]) for name, tag in TAGS.items() if name in numbers})
            if not recorder.advance(envs.num_steps, envs.take_episodes()):
                return

    def take_weights() -> None:
        module: Any = algorithm.get_module()
        recorder.network.load_state_dict(module.network.state_dict())

    return recorder.train(learn, take_weights, lambda: found, dict)


def _iterate(algorithm: Algorithm) -> Mapping[str, Any]:
    """One iteration of RLlib, whose sentence for an environment that fails is ours."""
    try:
        results: Mapping[str, Any] = algorithm.train()
        return results
    except RuntimeError as error:
        if isinstance(error.__cause__, EnvError):
            raise error.__cause__ from None
        raise


def _build(recorder: Recorder, envs: RLlibEnvs) -> Algorithm:
    """The algorithm with the settings of the experiment and the weights of our network, on these environments."""
    register_env(ENV, Hand(envs))
    return make_config(recorder).build_algo()


def make_config(recorder: Recorder) -> AlgorithmConfig:
    """RLlib's configuration of an experiment, as `settings` lists it, with a copy of `recorder.network`."""
    agent = recorder.experiment.agent
    assert isinstance(agent, PPOConfig | DQNConfig)
    network = plain_copy(recorder.network)
    compute_pictures_in(network, recorder.task.precision)
    make = _ppo if isinstance(agent, PPOConfig) else _dqn
    rate, total = agent.learning_rate, recorder.experiment.total_steps
    config = make(agent, recorder, network)  # type: ignore[arg-type]
    config.environment(ENV, normalize_actions=False, clip_actions=False)
    config.env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=recorder.task.num_envs,
        gym_env_vectorize_mode="vector_entry_point",
        batch_mode="truncate_episodes",
    )
    config.learners(num_learners=0, num_gpus_per_learner=int(recorder.device.type == "cuda"))
    config.training(
        lr=[[0, rate], [total, 0.0]] if agent.anneal_learning_rate else rate,
        gamma=agent.gamma,
        grad_clip=agent.max_grad_norm,
        grad_clip_by="global_norm",
        learner_config_dict={"adam_eps": agent.adam_eps},
    )
    config.debugging(seed=recorder.engine_seed, log_level="ERROR")
    return config


def _ppo(agent: PPOConfig, recorder: Recorder, network: Any) -> AlgorithmConfig:
    rows = agent.num_steps * recorder.task.num_envs
    config = RLlibPPOConfig()
    config.training(
        train_batch_size_per_learner=rows,
        minibatch_size=minibatch_size(rows, agent.batch_size),
        num_epochs=agent.num_epochs,
        shuffle_batch_per_epoch=True,
        lambda_=agent.gae_lambda,
        clip_param=agent.clip_coef,
        vf_clip_param=float("inf"),
        vf_loss_coeff=agent.vf_coef,
        entropy_coeff=agent.ent_coef,
        use_kl_loss=False,
        learner_class=PPOLearner,
    )
    config.env_runners(rollout_fragment_length=agent.num_steps)
    config.reporting(min_sample_timesteps_per_iteration=0, min_time_s_per_iteration=0)
    length = agent.segment_length or min(16, agent.num_steps)
    _give_module(config, PPOModule, network, length)
    return config


def _dqn(agent: DQNConfig, recorder: Recorder, network: Any) -> AlgorithmConfig:
    experiment, num_envs = recorder.experiment, recorder.task.num_envs
    remembers = bool(network.initial_state(1))
    rows, updates = rounds_of_updates(agent.train_period, agent.gradient_steps, num_envs, "rllib")
    replay: dict[str, Any] = {"type": "EpisodeReplayBuffer", "capacity": agent.buffer_size}
    if agent.prioritized:
        replay |= {"type": "PrioritizedEpisodeReplayBuffer"}
        replay |= {"alpha": agent.priority_exponent, "beta": agent.priority_beta}
    config = RLlibDQNConfig()
    burn_in = (8 if remembers else 0) if agent.burn_in is None else agent.burn_in
    config.training(
        train_batch_size=agent.batch_size,
        training_intensity=updates * agent.batch_size / (rows * num_envs),
        replay_buffer_config=replay,
        num_steps_sampled_before_learning_starts=agent.learning_starts,
        n_step=agent.n_step,
        double_q=agent.double,
        dueling=agent.head.dueling,
        td_error_loss_fn=agent.loss,
        target_network_update_freq=agent.target_period if agent.tau == 1.0 else 0,
        tau=agent.tau,
        burn_in_len=burn_in,
        learner_class=DQNLearner,
    )
    config.env_runners(rollout_fragment_length=rows)
    # RLlib sums its results up, and can be stopped, after so many steps: the log wants no more, nor does the budget.
    steps = min(1000, experiment.logging.period, max(1, experiment.total_steps // 100))
    config.reporting(min_sample_timesteps_per_iteration=steps, min_time_s_per_iteration=0)
    epsilon = (agent.initial_epsilon, agent.final_epsilon, agent.exploration_fraction * experiment.total_steps)
    more = {"epsilon": epsilon, "double_q": agent.double}
    length = (agent.segment_length or (16 if remembers else 1)) + burn_in
    _give_module(config, DQNModule, network, length, **more)
    return config


def _give_module(config: AlgorithmConfig, module: type, network: Any, length: int, **more: Any) -> None:
    """Tell RLlib of the module; with a memory, of how many rows it is trained on at once."""
    sequences = {"max_seq_len": length} if network.initial_state(1) else {}
    spec = RLModuleSpec(module_class=module, model_config={"network": network, **sequences, **more})
    # The replay looks for the length beside the module's own settings, and takes single rows where it finds none.
    config.rl_module(rl_module_spec=spec, model_config=sequences)


@contextmanager
def _quiet_ray() -> Iterator[None]:
    """Ray, where RLlib keeps its configuration: that of `RAY_ADDRESS`, else one that goes when the block ends.

    Raises:
        RunError: there is none, and none can be started.
    """
    prepare()
    for name in ("ray", "ray.rllib", "ray.rllib.algorithms.algorithm_config"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.rllib.env.env_runner").setLevel(logging.CRITICAL)  # its traceback of what we say in a line
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="ray")
    ours = join_or_start("engine is rllib", {"num_cpus": 1, "object_store_memory": STORE})
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


__all__ = ["make_config", "train"]
