"""Behaviour cloning: it learns what was done, with every kind of action and a memory where one is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.envs.make import EnvConfig, make_envs
from triathlon.networks.errors import SettingError
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import FitResult, fit
from triathlon.training.supervised.network import load_checkpoint, make_network, restore_network
from triathlon.training.supervised.played.recorder import record
from triathlon.training.supervised.played.recording import Recording
from triathlon.training.supervised.registry import make_task

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
MLP = {"kind": "mlp", "hidden_sizes": [32]}
FIT = {"num_epochs": 20, "batch_size": 32, "learning_rate": 5e-3, "warmup_steps": 10}


def written(folder: Path, obs: Any, action: Any, space: spaces.Space[Any], length: int = 20) -> str:
    """A recording of episodes of `length` rows, in the folder `data`."""
    num = len(obs)
    is_first = np.arange(num) % length == 0
    over = np.arange(num) % length == length - 2
    box = spaces.Box(-9, 9, obs.shape[1:], np.float32)
    zeros = np.zeros(num, np.float32)
    Recording(obs.astype(np.float32), action, zeros, over, np.zeros(num, bool), is_first, box, space).save(
        folder / "data"
    )
    return str(folder / "data")


def cloned(folder: Path, source: str, backbone: Any = MLP, fitted: Any = None, **task: Any) -> dict[str, float]:
    task = {"kind": "behaviour_cloning", "source": source, **task}
    mapping = {**QUIET, "task": task, "backbone": backbone, "fit": {**FIT, **(fitted or {})}}
    result: FitResult = fit(from_mapping(mapping), folder / "run")
    assert result.test is not None
    return result.test.metrics


def test_cartpole_is_played_as_a_simple_rule_played_it(tmp_path: Path) -> None:
    """Push to where the pole falls: random play gets about 20, this rule and whoever copies it much more."""

    class Rule:
        generator = torch.Generator()

        def initial_state(self, batch_size: int) -> Any:
            return ()

        def act(self, obs: Any, *others: Any, **more: Any) -> Any:
            from triathlon.agents.agent import Decision

            return Decision((obs[:, 2] + 0.5 * obs[:, 3] > 0).long(), ())

        def env_action(self, action: Any) -> Any:
            return action

    env = EnvConfig("CartPole-v1", num_envs=8, max_episode_steps=100)
    envs = make_envs(env)
    recording = record(Rule(), envs, 2_000, seed=1, env=env, epsilon=0.1)
    envs.close()
    rule = recording.obs[:, 2] + 0.5 * recording.obs[:, 3] > 0
    agree = (rule == recording.action)[recording.played].mean()
    assert 0.92 < agree < 0.98  # half of the random actions are those of the rule
    recording.save(tmp_path / "data")
    found = cloned(tmp_path, str(tmp_path / "data"), fitted={"num_epochs": 8}, num_episodes=8)
    assert found["accuracy"] > 0.8 > 0.7 > found["accuracy_of_commonest"]
    assert found["return"] > 95 and found["return_of_random"] < 40
    assert found["return_of_data"] == pytest.approx(np.mean(recording.returns()))
    assert found["loss"] == -found["log_likelihood"]


def test_several_choices_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((400, 2))
    action = np.stack([np.digitize(obs[:, 0], [-0.4, 0.4]) + 1, obs[:, 1] > 0], 1)
    source = written(tmp_path, obs, action, spaces.MultiDiscrete([3, 2], start=[1, 0]))
    found = cloned(tmp_path, source)
    assert found["accuracy"] > 0.8 > 0.4 > found["accuracy_of_commonest"]
    assert "return" not in found  # nothing says what was played


def test_bits(tmp_path: Path) -> None:
    obs = np.random.default_rng(0).standard_normal((400, 3))
    found = cloned(tmp_path, written(tmp_path, obs, (obs > 0).astype(np.int8), spaces.MultiBinary(3)))
    assert found["accuracy"] > 0.8 > 0.4 > found["accuracy_of_commonest"]


@pytest.mark.parametrize("std", ["free", "state"])
def test_continuous_actions_and_how_sure_they_are(std: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((800, 2))
    noise = 0.1 if std == "free" else np.where(obs[:, 1:] > 0, 0.3, 0.03)
    action = (obs[:, :1] + noise * rng.standard_normal((800, 1))).astype(np.float32)
    source = written(tmp_path, obs, action, spaces.Box(-9, 9, (1,), np.float32))
    found = cloned(tmp_path, source, fitted={"num_epochs": 30, "learning_rate": 2e-2}, std=std)
    assert found["mean_absolute_error"] < 0.2 * found["error_of_mean_action"]
    if std == "free":  # the entropy of the noise is -log(0.1 sqrt(2 pi e)) = 0.88 nats below 0
        assert 0.6 < found["log_likelihood"] < 0.95
    else:  # half of it of 0.3, half of 0.03; one deviation for all could reach 0.14 at best
        assert found["log_likelihood"] > 0.4


def test_a_memory_clones_what_depends_on_the_past(tmp_path: Path) -> None:
    """The action is the first observation of the episode: only a memory that is reset there can know it."""
    rng = np.random.default_rng(0)
    length = 6
    cue = np.repeat(rng.integers(0, 2, 300), length)
    is_first = np.arange(len(cue)) % length == 0
    obs = np.stack([np.where(is_first, 2 * cue - 1, 0), is_first], 1)
    source = written(tmp_path, obs, cue, spaces.Discrete(2), length)
    gru = {"kind": "gru", "hidden_size": 16}
    found = cloned(tmp_path, source, gru, {"batch_size": 8, "learning_rate": 2e-2, "num_epochs": 6}, num_rows=8)
    assert found["accuracy"] > 0.98
    forgetful = cloned(tmp_path / "mlp", source, MLP, {"num_epochs": 6})
    assert forgetful["accuracy"] < 0.8  # a fifth is the cue itself, the rest is guessed
    with pytest.raises(SettingError, match=r"task\.num_rows is 1, but the backbone has a memory"):
        cloned(tmp_path / "third", source, gru)


def test_a_clone_is_asked_about_another_recording(tmp_path: Path) -> None:
    obs = np.random.default_rng(0).standard_normal((400, 1))
    source = written(tmp_path, obs, (obs[:, 0] > 0).astype(np.int64), spaces.Discrete(2))
    cloned(tmp_path, source)
    experiment = from_mapping({**QUIET, "task": {"kind": "behaviour_cloning", "source": "gone"}, "backbone": MLP})
    path = tmp_path / "run/checkpoints/best.safetensors"
    state = load_checkpoint(path, experiment)
    task = make_task(experiment.task, state["facts"])
    network = make_network(experiment, task, torch.device("cpu")).eval()
    restore_network(network, state, path)
    wrong = written(tmp_path / "wrong", obs, (obs[:, 0] < 0).astype(np.int64), spaces.Discrete(2))
    other = written(tmp_path / "other", np.zeros((400, 2)), np.zeros(400, np.int64), spaces.Discrete(2))
    with torch.no_grad():
        (right,) = task.predict(network, [Path(source)], torch.device("cpu"))
        (said,) = task.predict(network, [Path(wrong)], torch.device("cpu"))
        assert "accuracy 1.0" in right and "accuracy 0.0" in said
        with pytest.raises(RunError, match="is a recording of Box"):
            list(task.predict(network, [Path(other)], torch.device("cpu")))
        more = written(tmp_path / "more", obs, np.arange(400) % 4, spaces.Discrete(4))
        with pytest.raises(RunError, match=r"is a recording of actions Discrete\(4\), not of Discrete\(2\)"):
            list(task.predict(network, [Path(more)], torch.device("cpu")))


def test_another_environment_than_the_recordings_is_refused(tmp_path: Path) -> None:
    obs = np.random.default_rng(0).standard_normal((400, 1))
    source = written(tmp_path, obs, np.zeros(400, np.int64), spaces.Discrete(2))
    with pytest.raises(RunError, match="the recording is of another environment"):
        cloned(tmp_path, source, fitted={"num_epochs": 1}, env={"id": "CartPole-v1"})


def test_where_nothing_was_played_no_action_is_asked_for(tmp_path: Path) -> None:
    """Actions are counted from 1 here, and the last row of an episode, at which none was played, holds a 0."""
    obs = np.random.default_rng(0).normal(size=(400, 2))
    action = (obs[:, 0] > 0) + 1
    action[19::20] = 0
    source = written(tmp_path, obs, action, spaces.Discrete(2, start=1))
    memory = {"kind": "gru", "hidden_size": 8}
    found = cloned(tmp_path, source, memory, {"num_epochs": 12, "batch_size": 4}, num_rows=8)
    assert found["accuracy"] > 0.8
