"""Learning on a GPU: recorded graphs and pictures kept there change nothing, and updates wait for nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.networks.errors import SettingError
from triathlon.training.checkpoint import load, save

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
PPO = {"kind": "ppo", "num_steps": 16, "num_epochs": 2, "batch_size": 32}
DQN = {
    "kind": "dqn",
    "learning_starts": 64,
    "train_period": 16,
    "gradient_steps": 4,
    "batch_size": 16,
    "buffer_size": 999,
}
PQN = {"kind": "pqn", "num_steps": 16, "batch_size": 32}
MLP = {"kind": "mlp", "hidden_sizes": [32]}
AGENTS = {
    "ppo": (PPO, MLP),
    "ppo-normalised": (PPO | {"normalize_obs": True, "normalize_reward": True}, MLP),
    "ppo-lstm": (PPO, {"kind": "lstm", "hidden_size": 16}),
    "ppo-transformer": (PPO, {"kind": "transformer", "width": 16, "num_heads": 2, "memory_length": 8}),
    "dqn": (DQN, MLP),
    "rainbow": (
        DQN | {"double": True, "prioritized": True, "head": {"kind": "c51", "dueling": True, "noisy": True}},
        MLP,
    ),
    "iqn": (DQN | {"head": {"kind": "iqn"}}, MLP),
    "pqn": (PQN, MLP | {"layer_norm": True}),
}


@needs_gpu
@pytest.mark.parametrize(("agent", "backbone"), AGENTS.values(), ids=AGENTS)
def test_recorded_graphs_do_what_the_code_does(practise: Callable[..., Any], agent: Any, backbone: Any) -> None:
    plain, recorded = (
        practise("CartPole-v1", agent | {"cuda_graphs": graphs}, backbone, device="cuda").play(600)
        for graphs in (False, True)
    )
    torch.testing.assert_close(plain.learner.policy.weights(), recorded.learner.policy.weights(), rtol=1e-4, atol=1e-5)
    first = practise("CartPole-v1", agent, backbone, device="cuda")
    assert not torch.allclose(first.learner.policy.weights(), plain.learner.policy.weights(), atol=1e-3)


NORMALISED = {"normalize_obs": True, "normalize_reward": True}


@needs_gpu
@pytest.mark.parametrize(
    "agent",
    [PPO, PPO | NORMALISED, PPO | {"accumulate": 2, "vtrace": "always"}, PQN, PQN | NORMALISED],
    ids=["ppo", "ppo-normalised", "ppo-parts", "pqn", "pqn-normalised"],
)
def test_an_update_waits_for_nothing(practise: Callable[..., Any], agent: Any) -> None:
    practice = practise("CartPole-v1", agent, MLP, device="cuda").play(300)
    segment = practice.collector.collect(practice.learner.num_rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        practice.learner.update(segment)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_pictures_kept_on_the_gpu_are_those_kept_on_the_host(practise: Callable[..., Any]) -> None:
    env = {"id": "triathlon/CartPolePixels-v0", "num_envs": 4}
    on_host, on_gpu = (
        practise(env, DQN | {"replay_device": place}, {"kind": "cnn"}, device="cuda").play(300)
        for place in ("host", "auto")
    )
    assert on_gpu.learner.replay.sample(4).segment.obs.is_cuda
    assert not on_host.learner.replay.sample(4).segment.obs.is_cuda
    torch.testing.assert_close(on_host.learner.policy.weights(), on_gpu.learner.policy.weights())


@needs_gpu
@pytest.mark.parametrize("agent", ["ppo-lstm", "ppo-transformer"])
def test_a_memory_comes_back_from_a_file_to_the_gpu(practise: Callable[..., Any], agent: str) -> None:
    first, second = (practise("CartPole-v1", *AGENTS[agent], device="cuda").play(128) for _ in range(2))
    state = first.collector.state_dict()
    for group in state["groups"]:
        group["state"] = [x.cpu() for x in group["state"]]  # as a checkpoint is read
    second.collector.load_state_dict(state)
    second.play(128)


@needs_gpu
@pytest.mark.parametrize("agent", ["ppo", "iqn", "pqn"])
@pytest.mark.parametrize(("here", "there"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_checkpoint_goes_from_one_kind_of_device_to_the_other(
    practise: Callable[..., Any], tmp_path: Path, agent: str, here: str, there: str
) -> None:
    first, second = (practise("CartPole-v1", *AGENTS[agent], device=device) for device in (here, there))
    save(tmp_path / "state", first.play(128).learner.state_dict())
    second.learner.load_state_dict(load(tmp_path / "state"))
    assert second.learner.policy.weights().cpu().equal(first.learner.policy.weights().cpu())
    second.play(128)


@needs_gpu
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("agent", [PPO, DQN, PQN], ids=["ppo", "dqn", "pqn"])
def test_masks_and_tables_of_many_parts_can_be_recorded(practise: Callable[..., Any], agent: Any, graphs: bool) -> None:
    """MultiDiscrete observations by one-hot vectors, joint actions with masks."""
    gym.register("Parts-v0", Parts)
    try:
        env = {"id": "Parts-v0", "num_envs": 4}
        practise(env, agent | {"cuda_graphs": graphs}, MLP, device="cuda").play(400)
    finally:
        gym.registry.pop("Parts-v0")


class Parts(gym.Env[Any, Any]):
    """Three steps; the second part of an action must be allowed."""

    observation_space = spaces.MultiDiscrete([4, 3])
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._seen()

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        mask = np.ones(5, np.int8)
        mask[2 + self.t % 3] = 0
        return np.array([self.t, self.t % 3]), {"action_mask": mask}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action[1] != self.t % 3
        self.t += 1
        obs, info = self._seen()
        return obs, float(action[0]), self.t == 3, False, info


@needs_gpu
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_memory_learns_without_a_warning(practise: Callable[..., Any], kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        practise("CartPole-v1", PPO, {"kind": kind, "hidden_size": 16}, device="cuda").play(128)


@pytest.mark.parametrize(
    ("agent", "sentence"),
    [
        ({"kind": "ppo", "cuda_graphs": True}, r"agent\.cuda_graphs: true needs a GPU of CUDA, and device is cpu"),
        ({"kind": "dqn", "cuda_graphs": True}, r"agent\.cuda_graphs"),
        ({"kind": "pqn", "cuda_graphs": True}, r"agent\.cuda_graphs"),
        ({"kind": "dqn", "replay_device": "gpu"}, r"agent\.replay_device: gpu needs a GPU that learns, .* is cpu"),
    ],
)
def test_without_a_gpu_it_says_so(practise: Callable[..., Any], agent: Any, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        practise("CartPole-v1", agent, MLP)
