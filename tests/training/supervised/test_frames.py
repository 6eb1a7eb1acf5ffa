"""Frame prediction: it learns what comes next and what the action has to do with it, and an agent starts from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from triathlon.envs.make import EnvConfig, make_envs
from triathlon.training.errors import RunError
from triathlon.training.supervised.config import from_mapping
from triathlon.training.supervised.fit import fit
from triathlon.training.supervised.network import make_network
from triathlon.training.supervised.played import space_json
from triathlon.training.supervised.played.frame_prediction import FramePrediction, FramePredictionConfig
from triathlon.training.supervised.played.recorder import record
from triathlon.training.supervised.played.recording import Recording
from triathlon.training.supervised.registry import make_task

QUIET = {"logging": {"tensorboard": False, "csv": False}, "num_threads": 1, "device": "cpu"}
CNN = {"kind": "cnn", "features": 32, "channels": [8], "kernel_sizes": [3], "strides": [1]}


def fitted(folder: Path, backbone: Any, settings: Any, **task: Any) -> dict[str, float]:
    task = {"kind": "frame_prediction", "source": str(folder / "data"), "decoder_channels": 8, **task}
    settings = {"batch_size": 32, "learning_rate": 4e-3, "warmup_steps": 10, **settings}
    result = fit(from_mapping({**QUIET, "task": task, "backbone": backbone, "fit": settings}), folder / "run")
    assert result.test is not None
    assert result.test.pictures["seen_wanted_made"].ndim == 3
    return result.test.metrics


@pytest.fixture
def catch(tmp_path: Path) -> Path:
    """Random play at Catch."""
    env = EnvConfig("triathlon/Catch-v0", num_envs=4, kwargs={"rows": 8, "columns": 8})
    envs = make_envs(env)
    record(None, envs, 1_200, seed=1, env=env).save(tmp_path / "data")
    envs.close()
    return tmp_path


def test_the_next_frame_is_foretold_better_than_by_the_last(catch: Path) -> None:
    found = fitted(catch, CNN, {"num_epochs": 24, "learning_rate": 1e-2})
    assert found["squared_error"] < 0.4 * found["squared_error_of_copying"]
    assert found["squared_error"] < 0.6 * found["squared_error_of_mean"]


def test_an_autoencoder_shows_what_is_there(catch: Path) -> None:
    found = fitted(catch, CNN, {"num_epochs": 24, "learning_rate": 1e-2}, target="same")
    assert found["squared_error"] < 0.5 * found["squared_error_of_mean"]
    assert "squared_error_of_copying" not in found


def test_a_memory_reads_frames_in_sequences(catch: Path) -> None:
    gru = {"kind": "gru", "hidden_size": 32, "encoder": {"kind": "mlp", "hidden_sizes": [32]}}
    found = fitted(catch, gru, {"num_epochs": 2, "batch_size": 8}, num_rows=9)
    assert found["squared_error"] < found["squared_error_of_copying"]


def screens(folder: Path, start: int) -> None:
    """A black screen, and after it one as bright as the action was large; actions count from `start`."""
    rng = np.random.default_rng(0)
    action = rng.integers(0, 3, 600)
    is_first = np.arange(600) % 2 == 0
    brightness = np.where(is_first, 0, np.roll(action, 1) * 100)
    obs = np.tile(brightness[:, None, None], (1, 8, 8)).astype(np.uint8)
    box, nothing = spaces.Box(0, 255, (8, 8), np.uint8), np.zeros(600, np.float32)
    over = is_first.copy()
    recording = Recording(
        obs, action + start, nothing, over, np.zeros(600, bool), is_first, box, spaces.Discrete(3, start=start)
    )
    recording.save(folder / "data")


@pytest.mark.parametrize("start", [0, 4])
def test_the_action_says_what_comes(start: int, tmp_path: Path) -> None:
    screens(tmp_path, start)
    mlp = {"kind": "mlp", "hidden_sizes": [8]}
    found = fitted(tmp_path, mlp, {"num_epochs": 40, "learning_rate": 1e-2})
    assert found["squared_error_of_copying"] > 0.2  # the screens before are black
    assert found["squared_error_of_mean"] == pytest.approx(0.1025, abs=0.02)  # of 0, 100 and 200 of 255, equally often
    assert found["squared_error"] < 0.01


@pytest.mark.parametrize("target", ["next", "same"])
def test_a_recording_of_other_actions_is_refused_where_they_count(target: str, tmp_path: Path) -> None:
    screens(tmp_path, 0)
    box = spaces.Box(0, 255, (8, 8), np.uint8)
    facts = {name: space_json.to_json(s) for name, s in (("observation_space", box), ("action_space", SIDES))}
    experiment = from_mapping({**QUIET, "task": {"kind": "frame_prediction", "target": target}, "backbone": "mlp"})
    task = make_task(experiment.task, facts)
    network = make_network(experiment, task, torch.device("cpu"))
    with torch.no_grad():
        if target == "same":
            (said,) = task.predict(network, [tmp_path / "data"], torch.device("cpu"))
            assert "squared_error" in said
        else:
            with pytest.raises(RunError, match=r"is a recording of actions Discrete\(3\), not of Discrete\(2\)"):
                list(task.predict(network, [tmp_path / "data"], torch.device("cpu")))


def test_pixels_of_any_layout_are_channels_first_from_0_to_1() -> None:
    def task(space: spaces.Space[Any]) -> FramePrediction:
        facts = {name: space_json.to_json(s) for name, s in (("observation_space", space), ("action_space", SIDES))}
        return FramePrediction(FramePredictionConfig(), facts)

    obs = torch.randint(256, (2, 3, 9, 10, 4), dtype=torch.uint8)
    last = task(spaces.Box(0, 255, (9, 10, 4), np.uint8)).pictures(obs)
    assert last.shape == (6, 4, 9, 10)
    torch.testing.assert_close(last[5, 3, 2, 7], obs[1, 2, 2, 7, 3].float() / 255)
    first = task(spaces.Box(0, 255, (4, 9, 10), np.uint8)).pictures(obs.movedim(-1, 2))
    assert torch.equal(first, last)
    grey = task(spaces.Box(-1, 1, (1, 9, 10), np.float32)).pictures(torch.full((1, 1, 1, 9, 10), 0.5))
    assert torch.equal(grey, torch.full((1, 1, 9, 10), 0.75))
    with pytest.raises(RunError, match="learns from pictures"):
        task(spaces.Box(-1, 1, (4,), np.float32))
    with pytest.raises(RunError, match="have none"):
        task(spaces.Box(-np.inf, np.inf, (3, 9, 10), np.float32))


SIDES: spaces.Space[Any] = spaces.Discrete(2)
