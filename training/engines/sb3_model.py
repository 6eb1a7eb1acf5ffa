"""Models of Stable-Baselines3's own policies that are our networks: to compare the two, and to write a zip.

N observations, A actions.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from triathlon.agents.actor_critic import ActorCritic
from triathlon.agents.q_network import QNetwork
from triathlon.agents.registry import Task
from triathlon.networks.cnn import CNN
from triathlon.networks.images import compute_pictures_in
from triathlon.networks.mlp import MLP, MLPConfig
from triathlon.training.config import Experiment
from triathlon.training.engines.sb3_zip import ACTIVATIONS, PLAIN, SB3Zip, named_tensors
from triathlon.training.engines.settings import without_counterpart
from triathlon.training.errors import RunError

NUM_OBSERVATIONS = 256
TOLERANCE = 1e-6  # of values and log-probabilities, as a share of the largest of them where that is above 1

# Of what SB3 as an engine has no counterpart for: what a zip says all the same, and what changes no result.
SAID_OR_SILENT = (
    *("agent.tau", "agent.compile", "agent.cuda_graphs", "agent.accumulate"),
    *("agent.compress_replay", "agent.replay_device"),
)


@dataclass(frozen=True)
class Parity:
    """How far SB3's policy and ours are apart on random observations."""

    num_observations: int
    same_actions: int
    difference: float  # the largest between numbers of the two, as a share of the largest number where that is above 1
    compared: str

    def __str__(self) -> str:
        return (
            f"{self.same_actions} of {self.num_observations} actions are the same on random observations; "
            f"{self.compared} differ by at most {self.difference:.1e}"
        )

    @property
    def holds(self) -> bool:
        return self.same_actions == self.num_observations and self.difference <= TOLERANCE


class _Spaces(gym.Env[Any, Any]):
    """What SB3 asks of an environment to make a model for it."""

    def __init__(self, task: Task) -> None:
        self.observation_space, self.action_space = task.observation_space, task.action_space


def make_sb3(experiment: Experiment, network: nn.Module, task: Task) -> BaseAlgorithm:
    """An SB3 model with its own policy class of the shape of `network`; its weights are not ours yet.

    Raises:
        RunError: SB3's own policies have no such shape, or do not know the spaces.
    """
    _check_spaces(task)
    names = [name for _, names in named_tensors(network) for name in names]  # raises where there is no such policy
    agent: Any = experiment.agent
    known = _settings(agent)
    backbone = network.backbone if isinstance(network, QNetwork) else network.actor
    sizes = [layer.out_features for layer in backbone.layers] if isinstance(backbone, MLP) else []
    make: Any
    policy_kwargs: dict[str, Any] = {"optimizer_kwargs": {"eps": agent.adam_eps}}
    if isinstance(backbone, CNN):
        policy_kwargs["features_extractor_kwargs"] = {"features_dim": backbone.out_features}
    elif isinstance(backbone, MLP):
        config = experiment.backbone if isinstance(experiment.backbone, MLPConfig) else MLPConfig()
        classes = {ours: getattr(nn, theirs) for theirs, ours in ACTIVATIONS.items()}
        if config.activation != {"ppo": "tanh", "dqn": "relu"}[agent.kind]:
            policy_kwargs["activation_fn"] = classes[config.activation]
    if isinstance(network, QNetwork):
        if agent.head.hidden_size:
            if policy_kwargs.get("activation_fn"):
                raise RunError("agent.head.hidden_size needs backbone.activation relu: SB3 has one for all layers")
            sizes = [*sizes, agent.head.hidden_size]
        make, policy_kwargs["net_arch"] = DQN, sizes
        known["buffer_size"] = 1  # no memory for a replay that stays empty
    else:
        assert isinstance(network, ActorCritic)
        make, policy_kwargs["net_arch"] = PPO, {"pi": sizes, "vf": sizes}
        if isinstance(backbone, CNN) and network.critic is not None:
            policy_kwargs["share_features_extractor"] = False
    policy = "CnnPolicy" if any("cnn" in name for name in names) else "MlpPolicy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on training, which is not done
        model: BaseAlgorithm = make(policy, _Spaces(task), policy_kwargs=policy_kwargs, device="cpu", **known)
    if isinstance(model, DQN):
        model.buffer_size = agent.buffer_size
    return model


def _settings(agent: Any) -> dict[str, Any]:
    """What SB3 goes on training with, in one environment; schedules are left out, which a zip holds as pickles only."""
    known = {theirs: getattr(agent, ours) for theirs, ours in PLAIN[agent.kind].items()}
    if agent.kind == "ppo":
        more = {"clip_range": agent.clip_coef, "normalize_advantage": agent.normalize_advantage}
        return known | more | {"n_steps": max(2, agent.num_steps), "batch_size": max(2, agent.batch_size)}
    # A target that moves a little moves with every round of updates here, and every so many steps there.
    moves = {} if agent.tau == 1.0 else {"target_update_interval": agent.train_period}
    more = {"n_steps": agent.n_step, "train_freq": agent.train_period, "gradient_steps": agent.gradient_steps}
    return known | more | moves | {"tau": agent.tau}


def left_out(agent: Any) -> list[str]:
    """The settings of a run that its zip says nothing of, because SB3 has none or holds them as pickles only."""
    schedules = [f"agent.{name}" for name in ("anneal_learning_rate", "anneal_clip") if getattr(agent, name, False)]
    return schedules + [name for name in without_counterpart(agent, "sb3") if name not in SAID_OR_SILENT]


def _check_spaces(task: Task) -> None:
    space, actions = task.observation_space, task.action_space
    if isinstance(space, gym.spaces.Dict) or (isinstance(space, gym.spaces.Box) and len(space.shape) > 3):
        raise RunError(f"SB3's zips are read and written for vectors and single pictures, not for {space}")
    if np.any(np.asarray(getattr(actions, "start", 0)) != 0):
        raise RunError(f"SB3 counts actions from 0, and these are {actions}")
    if not isinstance(actions, gym.spaces.Box) and len(actions.shape or ()) > 1:
        raise RunError(f"SB3 has actions in one row, and these are {actions}")


def fill_sb3(model: BaseAlgorithm, network: nn.Module) -> None:
    """Give an SB3 model of `make_sb3` the weights of our network."""
    weights = {name: tensor.detach() for tensor, names in named_tensors(network) for name in names}
    if isinstance(model, DQN):
        weights |= {name.replace("q_net.", "q_net_target.", 1): tensor for name, tensor in weights.items()}
    model.policy.load_state_dict(weights, strict=True)


def export(experiment: Experiment, policy: Any, task: Task, num_steps: int, path: Path) -> None:
    """Write the policy of a run of ours as a zip that SB3 loads.

    Raises:
        RunError: SB3's own policies have no such network.
    """
    model = make_sb3(experiment, policy.network, task)
    fill_sb3(model, policy.network)
    model.num_timesteps = num_steps
    model.save(path)


@torch.no_grad()
def parity(found: SB3Zip, experiment: Experiment, policy: Any, task: Task) -> Parity:
    """Compare what SB3 makes of the weights in a zip with what our policy does, on random observations."""
    model = make_sb3(experiment, policy.network, task)
    reference: Any = model.policy
    reference.load_state_dict(found.weights, strict=True)
    reference.set_training_mode(False)
    obs = random_observations(task.observation_space, NUM_OBSERVATIONS, np.random.default_rng(0))
    theirs, _ = reference.obs_to_tensor(_seen_by_sb3(obs, model))
    ours, first = torch.from_numpy(obs).unsqueeze(0), torch.ones(1, len(obs), dtype=torch.bool)
    network = copy.deepcopy(policy.network)
    compute_pictures_in(network, torch.float32)  # as SB3 does, also where the hardware has something faster
    pairs: list[tuple[Tensor, Tensor]]
    if isinstance(network, QNetwork):
        values = network.head.q_values(network.features(ours, (), first)[0])[0]
        pairs, compared = [(reference.q_net(theirs), values)], "Q-values"
        actions = (pairs[0][0].argmax(-1), values.argmax(-1))
    else:
        distribution, value, _ = network(ours, (), first)
        other = reference.get_distribution(theirs)
        drawn = distribution.sample(torch.Generator().manual_seed(0))
        is_one = isinstance(task.action_space, gym.spaces.Discrete)
        log_probs = other.log_prob(drawn[0] if is_one else drawn[0].reshape(len(obs), -1).float())
        pairs = [(log_probs, distribution.log_prob(drawn)[0]), (reference.predict_values(theirs)[:, 0], value[0])]
        compared = "log-probabilities and values"
        actions = (other.mode(), distribution.mode()[0])
    difference = max(float((a - b).abs().max() / max(1.0, float(a.abs().max()))) for a, b in pairs)
    same = torch.isclose(_rows(actions[0]), _rows(actions[1]), rtol=TOLERANCE, atol=TOLERANCE)
    return Parity(len(obs), int(same.all(-1).sum()), difference, compared)


def _rows(actions: Tensor) -> Tensor:
    """`[N, n]` numbers."""
    return actions.reshape(len(actions), -1).float()


def random_observations(space: gym.Space[Any], num: int, rng: np.random.Generator) -> NDArray[Any]:
    """`[N, *obs]` of a space; numbers without bounds are standard normal.

    Raises:
        RunError: the space is no Box and nothing that is counted.
    """
    if isinstance(space, gym.spaces.Box):
        if np.issubdtype(space.dtype, np.integer):
            return rng.integers(space.low, space.high, (num, *space.shape), dtype=space.dtype, endpoint=True)
        return rng.standard_normal((num, *space.shape)).astype(np.float32)
    space.seed(int(rng.integers(2**31)))
    return np.stack([np.asarray(space.sample()) for _ in range(num)])


def _seen_by_sb3(obs: NDArray[Any], model: BaseAlgorithm) -> NDArray[Any]:
    """Pictures with the channels where SB3 has them: its models see them first."""
    if obs.ndim == 4 and obs.shape[1:] != model.observation_space.shape:
        return obs.transpose(0, 3, 1, 2)
    return obs


__all__ = ["Parity", "export", "fill_sb3", "left_out", "make_sb3", "parity"]
