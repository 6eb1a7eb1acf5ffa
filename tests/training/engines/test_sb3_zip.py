"""Zips of Stable-Baselines3: real ones come in and go out as the same policy, and nothing in them is ever run."""

from __future__ import annotations

import base64
import io
import json
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")

from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from triathlon.scripts.main import main
from triathlon.training.config import from_mapping
from triathlon.training.engines.sb3_model import Parity
from triathlon.training.engines.sb3_zip import read_zip
from triathlon.training.errors import RunError
from triathlon.training.restoring import load_policy
from triathlon.training.run_folder import create, open_run
from triathlon.training.runner import train

ATARI_SPACE = spaces.Box(0, 255, (4, 84, 84), np.uint8)


class Screen(gym.Env[Any, Any]):
    """What SB3 needs of Pong to make a model."""

    observation_space, action_space = ATARI_SPACE, spaces.Discrete(6)


class Bomb:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def imported(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, env_id: str, *more: str) -> Path:
    """The folder of the run that the zip became."""
    code = main(["import-sb3", str(model), "--env.id", env_id, "--root", str(tmp_path / "runs"), *more])
    out = capsys.readouterr()
    assert code == 0, out.err
    assert "256 of 256 actions are the same" in out.out
    return Path(out.out.split("Imported into ")[1].splitlines()[0])


@pytest.mark.parametrize(
    ("make", "env_id", "kwargs"),
    [
        (PPO, "CartPole-v1", {}),
        (PPO, "Pendulum-v1", {"policy_kwargs": {"net_arch": {"pi": [32], "vf": [32]}, "activation_fn": nn.ReLU}}),
        (DQN, "CartPole-v1", {"buffer_size": 100}),
        (DQN, "MountainCar-v0", {"buffer_size": 100, "policy_kwargs": {"net_arch": [16, 8, 8]}}),
    ],
    ids=["ppo", "ppo-relu", "dqn", "dqn-deep"],
)
def test_a_real_zip_is_the_same_policy_here(
    make: Any, env_id: str, kwargs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make("MlpPolicy", env_id, device="cpu", seed=3, gamma=0.97, **kwargs)
    model.num_timesteps = 1234
    model.save(tmp_path / "model.zip")
    folder = open_run(imported(capsys, tmp_path / "model.zip", tmp_path, env_id))
    experiment = folder.experiment()
    assert experiment.agent.gamma == 0.97 and experiment.total_steps == 1234
    policy = load_policy(folder.checkpoint(), experiment)
    obs = model.observation_space.low[None] * 0.1 + np.float32(0.01)
    obs = np.nan_to_num(obs.astype(np.float32), neginf=0.1)
    decision = policy.act(torch.from_numpy(obs), (), torch.ones(1, dtype=torch.bool), deterministic=True)
    theirs, _ = model.predict(obs, deterministic=True)
    np.testing.assert_allclose(policy.env_action(decision.action.numpy()), theirs, rtol=1e-5, atol=1e-6)
    assert main(["evaluate", str(folder.path), "--episodes", "2"]) == 0


@pytest.mark.parametrize("make", [PPO, DQN], ids=["ppo", "dqn"])
def test_natures_cnn_comes_and_goes(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ale_py")
    sizes = {"buffer_size": 10} if make is DQN else {"n_steps": 8, "batch_size": 8}
    model = make("CnnPolicy", Screen(), device="cpu", seed=0, **sizes)
    model.save(tmp_path / "model.zip")
    more = ["--env.num-envs", "1", "--env.atari.num-threads", "1"]
    if make is DQN:
        more += ["--agent.buffer-size", "1000"]
    run = imported(capsys, tmp_path / "model.zip", tmp_path, "ALE/Pong-v5", *more)
    assert main(["export-sb3", str(run), str(tmp_path / "again.zip")]) == 0
    assert "256 of 256 actions are the same" in capsys.readouterr().out
    again = make.load(tmp_path / "again.zip", device="cpu")
    for name, tensor in model.policy.state_dict().items():
        assert torch.equal(again.policy.state_dict()[name], tensor), name


def test_a_run_of_ours_is_loaded_by_sb3_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 2, "learning_rate": 0.01}
    settings = {"env": {"id": "CartPole-v1", "num_envs": 2}, "agent": agent, "backbone": {"kind": "mlp"}}
    quiet = {"evaluation": {"final_episodes": 0, "video": False}, "root": str(tmp_path / "runs"), "device": "cpu"}
    experiment = from_mapping(settings | quiet | {"total_steps": 200})
    folder = create(experiment, ["train"])
    train(experiment, folder.path)
    zipped = tmp_path / "ours.zip"
    assert main(["export-sb3", str(folder.path), str(zipped)]) == 0
    assert "differ by at most" in capsys.readouterr().out
    model = PPO.load(zipped, device="cpu")
    assert model.num_timesteps >= 200 and model.gamma == 0.99
    back = open_run(imported(capsys, zipped, tmp_path, "CartPole-v1"))
    ours, again = (load_policy(run.checkpoint(), run.experiment()) for run in (folder, back))
    assert torch.equal(ours.weights(), again.weights())
    model.set_env(gym.make("CartPole-v1"))
    model.learn(32)  # SB3 goes on with it


def test_no_pickle_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bombs stand wherever SB3 itself would load a pickle; the weights are read, and no bomb goes off."""
    DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=100).save(tmp_path / "model.zip")
    fired, bomb = tmp_path / "fired", tmp_path / "bomb.zip"
    live = pickle.dumps(Bomb(fired))
    # It would go off if it were loaded: it calls something (`__reduce__`), and names what it makes.
    assert "REDUCE" in {code.name for code, *_ in pickletools.genops(live)} and b"fired" in live
    pickled = base64.b64encode(live).decode()
    with zipfile.ZipFile(tmp_path / "model.zip") as source, zipfile.ZipFile(bomb, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "data":
                data = json.loads(content)
                module = {"__module__": data["policy_class"]["__module__"]}
                data |= {key: {":type:": "bomb", ":serialized:": pickled} for key in (*data, "gamma")}
                data["policy_class"] |= module  # in plain text, as SB3 writes it beside the pickle
                content = json.dumps(data).encode()
            target.writestr(name, content)
    found = read_zip(bomb)
    assert found.configuration()["agent"] == {"kind": "dqn"} and found.num_timesteps == 0
    imported(capsys, bomb, tmp_path, "CartPole-v1", "--total-steps", "1")
    assert not fired.exists()


def test_weights_that_are_a_pickle_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fired, bomb = tmp_path / "fired", tmp_path / "bomb.zip"
    for content in (pickle.dumps(Bomb(fired)), _saved(Bomb(fired)), _saved({"action_net.weight": "text"})):
        with zipfile.ZipFile(bomb, "w") as target:
            target.writestr("data", "{}")
            target.writestr("policy.pth", content)
        with pytest.raises(RunError, match=r"policy.pth holds something else than (plain|named) tensors"):
            read_zip(bomb)
    assert main(["import-sb3", str(bomb), "--env.id", "CartPole-v1"]) == 2
    assert "is not read" in capsys.readouterr().err
    assert not fired.exists()


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_what_does_not_fit_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="there is no file"):
        read_zip(tmp_path / "nothing.zip")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(RunError, match="is not a zip that Stable-Baselines3 saved a model in"):
        read_zip(tmp_path / "text.zip")
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "model.zip")
    root = ["--root", str(tmp_path / "runs")]
    assert main(["import-sb3", str(tmp_path / "model.zip"), "--env.id", "Acrobot-v1", *root]) == 2
    assert "has shape (64, 4), and this environment needs (64, 6)" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    different = {"net_arch": {"pi": [8], "vf": [4]}}
    PPO("MlpPolicy", "CartPole-v1", device="cpu", policy_kwargs=different).save(tmp_path / "model.zip")
    with pytest.raises(RunError, match=r"its policy has layers of \[8\] units, its value of \[4\]"):
        read_zip(tmp_path / "model.zip").configuration()
    code = main(["export-sb3", str(tmp_path), str(tmp_path / "model.pt")])
    assert code == 2 and "should end in .zip" in capsys.readouterr().err


class Halved(FlattenExtractor):
    """The weights have the same names, and the network computes something else."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations) / 2


class Other(ActorCriticPolicy):
    """The same weights, and whatever a subclass makes of them."""


TANH = {"activation_fn": nn.Tanh, "net_arch": [8]}


@pytest.mark.parametrize(
    ("make", "policy", "env", "kwargs", "sentence"),
    [
        (PPO, "MlpPolicy", "CartPole-v1", {"features_extractor_class": Halved}, "features_extractor_class .*Halved"),
        (DQN, "MlpPolicy", "CartPole-v1", {"features_extractor_class": Halved}, "features_extractor_class .*Halved"),
        (PPO, "CnnPolicy", Screen, {"normalize_images": False}, r"has normalize_images \(False\), with which"),
        (DQN, "CnnPolicy", Screen, {"features_extractor_kwargs": {"normalized_image": True}}, "extractor_kwargs"),
        (DQN, "CnnPolicy", Screen, TANH, "has tanh in the layer after its CNN"),
        (PPO, Other, "CartPole-v1", {}, r"its policy_class is of tests\.training\.engines\.test_sb3_zip; Stable"),
    ],
    ids=["extractor", "dqn-extractor", "images", "extractor-kwargs", "cnn-tanh", "policy"],
)
def test_a_policy_that_computes_something_else_is_refused(
    make: Any, policy: Any, env: Any, kwargs: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """Its weights have the names and shapes of SB3's own, so that nothing else would show it."""
    env = env if isinstance(env, str) else env()
    sizes = {"buffer_size": 10} if make is DQN else {"n_steps": 8, "batch_size": 8}
    make(policy, env, device="cpu", policy_kwargs=kwargs, **sizes).save(tmp_path / "model.zip")
    with pytest.raises(RunError, match=sentence):
        read_zip(tmp_path / "model.zip").configuration()


def test_what_is_harmless_of_a_policy_comes_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kwargs = {"ortho_init": False, "normalize_images": True, "features_extractor_class": FlattenExtractor}
    optimizer = {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": {"alpha": 0.9}}
    model = PPO("MlpPolicy", "CartPole-v1", device="cpu", policy_kwargs=kwargs | optimizer)
    model.save(tmp_path / "model.zip")
    imported(capsys, tmp_path / "model.zip", tmp_path, "CartPole-v1")


def test_exploration_by_state_is_refused(tmp_path: Path) -> None:
    PPO("MlpPolicy", "Pendulum-v1", device="cpu", use_sde=True).save(tmp_path / "model.zip")
    with pytest.raises(RunError, match="use_sde is true"):
        read_zip(tmp_path / "model.zip").configuration()


def test_a_file_that_cannot_be_exported_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"env": {"id": "CartPole-v1", "num_envs": 2}, "agent": {"kind": "ppo", "num_steps": 16}}
    quiet = {"evaluation": {"final_episodes": 0, "video": False}, "root": str(tmp_path / "runs"), "device": "cpu"}
    experiment = from_mapping(settings | quiet | {"total_steps": 32})
    folder = create(experiment, ["train"])
    train(experiment, folder.path)
    (tmp_path / "folder.zip").mkdir()
    assert main(["export-sb3", str(folder.path), str(tmp_path / "folder.zip")]) == 2
    assert "is a folder, not a file to write" in capsys.readouterr().err
    kept = tmp_path / "kept.zip"
    kept.write_bytes(b"what was there")
    monkeypatch.setattr("triathlon.training.engines.sb3_model.parity", lambda *_: Parity(256, 0, 1.0, "values"))
    assert main(["export-sb3", str(folder.path), str(kept)]) == 2
    assert "was not kept" in capsys.readouterr().err
    assert kept.read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.zip", "kept.zip", "runs"]
