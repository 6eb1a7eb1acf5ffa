"""What goes between the host and a device that learns, shown without one.

PyTorch's meta device stands for a GPU: its tensors have shapes and no values, so whatever would have to wait for a
value fails, and copies to it can be watched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.utils._python_dispatch import TorchDispatchMode

from triathlon.agents import dqn, ppo, pqn
from triathlon.agents.joint_actions import JointActions
from triathlon.agents.randomness import torch_generator
from triathlon.agents.registry import make_learner
from triathlon.agents.segment import Segment
from triathlon.networks.registry import config_class, make_backbone
from triathlon.training.task import make_task

Practise = Callable[..., Any]

META = torch.device("meta")
MLP = {"kind": "mlp", "hidden_sizes": [8]}
PPO = {"kind": "ppo", "num_steps": 16, "batch_size": 24}
PQN = {"kind": "pqn", "num_steps": 16, "batch_size": 24}
DQN = {"kind": "dqn", "learning_starts": 0, "train_period": 16, "batch_size": 8, "buffer_size": 300}
AGENTS = {
    "ppo": PPO,
    "ppo-normalised": PPO | {"normalize_obs": True, "normalize_reward": True},
    "ppo-vtrace": PPO | {"vtrace": "always", "accumulate": 2},
    "pqn": PQN,
    "pqn-normalised": PQN | {"normalize_obs": True, "normalize_reward": True},
    "dqn": DQN,
    "dqn-normalised": DQN | {"normalize_obs": True, "normalize_reward": True, "double": True, "n_step": 2},
}


class Copies(TorchDispatchMode):
    """Counts copies from the host to the meta device, and refuses those that somebody would wait for."""

    num = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and kwargs.get("device") == META != args[0].device:
            assert kwargs.get("non_blocking"), f"a copy of {tuple(args[0].shape)} would be waited for"
            self.num += 1
        return function(*args, **kwargs)


@pytest.fixture
def far(practise: Practise, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], tuple[Any, list[Segment]]]:
    """`far(agent)`: a learner on the meta device, and segments that were played on the host."""
    for module in (ppo, pqn, dqn):  # there are no generators without values
        monkeypatch.setattr(module, "torch_generator", lambda seed, device: torch_generator(seed, torch.device("cpu")))

    def make(agent: dict[str, Any]) -> tuple[Any, list[Segment]]:
        practice = practise({"id": "CartPole-v1", "num_envs": 3, "max_episode_steps": 7}, agent, MLP)
        experiment = practice.experiment
        task = make_task(experiment, practice.envs, META, np.random.SeedSequence(0))
        learner = make_learner(experiment.agent, experiment.backbone, task)
        return learner, [practice.collector.collect(learner.num_rows) for _ in range(3)]

    return make


@pytest.mark.parametrize("agent", AGENTS)
def test_an_update_waits_for_nothing(far: Callable[..., Any], agent: str) -> None:
    learner, segments = far(AGENTS[agent])
    with Copies() as copies:
        for segment in segments:
            metrics = learner.update(segment)
    assert metrics["loss"].device == META
    assert copies.num > 0


def test_of_priorities_only_the_errors_are_fetched(far: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    learner, segments = far(DQN | {"prioritized": True})
    fetched, host = [], torch.Tensor.cpu

    def fetch(x: torch.Tensor) -> torch.Tensor:
        if x.device != META:
            return host(x)
        fetched.append((x.shape, x.dtype))
        return torch.ones(x.shape, dtype=x.dtype)

    monkeypatch.setattr(torch.Tensor, "cpu", fetch)
    metrics = [learner.update(segment) for segment in segments][-1]
    assert fetched == [((1, 8), torch.float32)] * int(metrics["n_updates"])


def test_masks_of_joint_actions_are_read_where_they_are() -> None:
    actions = JointActions(spaces.MultiDiscrete([2, 3]), "dqn")
    mask = torch.ones(4, 5, dtype=torch.bool, device=META)
    with Copies() as copies:
        for _ in range(3):
            assert actions.legal(mask).shape == (4, 6)
    assert copies.num == 1


def test_multi_discrete_observations_are_read_where_they_are() -> None:
    backbone = make_backbone(config_class("mlp")(), spaces.MultiDiscrete([2, 3], start=[5, -1])).to(META)
    with Copies() as copies:
        features, _ = backbone(torch.zeros(2, 4, 2, dtype=torch.long, device=META))
    assert features.device == META
    assert copies.num == 0
    assert not any("offsets" in name for name in backbone.state_dict())  # older checkpoints have none


def test_where_a_sequence_was_reset_is_sent_without_waiting() -> None:
    """All but the look at where episodes begin, which is on the host."""
    backbone: Any = make_backbone(config_class("lstm")(), spaces.Box(-1, 1, (3,))).to(META)
    later = torch.zeros(5, 2, dtype=torch.bool)
    later[2, 1] = True
    features = torch.zeros(6, 2, backbone.encoder.out_features, device=META)
    with Copies() as copies:
        out, _ = backbone._stretches(features, backbone.initial_state(2), later)
    assert out.device == META
    assert copies.num == 5
