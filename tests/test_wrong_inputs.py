"""What a person can get wrong: one sentence on stderr, exit code 2, no traceback, and nothing half-written."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from triathlon.scripts.main import main
from triathlon.training import checkpoint

CONFIG = """
env: {id: CartPole-v1, num_envs: 2}
agent: {kind: ppo, num_steps: 16, batch_size: 32, num_epochs: 1}
backbone: {kind: mlp, hidden_sizes: [8]}
total_steps: 100
evaluation: {final_episodes: 2, video: false}
"""
ENVIRONMENTS = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Faulty(gym.Env):
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault="none", after=0):
        self.fault, self.after, self.t = fault, after, 0
        if fault == "init":
            raise RuntimeError("the licence has run out")

    def _obs(self):
        size = 3 if self.fault == "shape" and self.t > self.after else 2
        return np.full(size, np.nan if self.fault == "nan obs" and self.t > self.after else 0.5, np.float32)

    def _info(self):
        return {"action_mask": np.ones(3, np.int8)} if self.fault == "mask" else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fault == "reset":
            raise RuntimeError("the level is missing")
        return self._obs(), self._info()

    def step(self, action):
        self.t += 1
        faulty = self.t > self.after
        if self.fault == "step" and faulty:
            raise ZeroDivisionError("division by zero")
        reward = float("nan") if self.fault == "nan" and faulty else 1.0
        return self._obs(), reward, self.t % 20 == 0, False, self._info()


class Wide(Faulty):
    action_space = spaces.MultiDiscrete([10, 10, 10, 10, 10])


class Arm(Faulty):
    action_space = spaces.Box(-1, 1, (2,), np.float32)


class Writer(Faulty):
    observation_space = spaces.Text(5)


class Speaker(Faulty):
    action_space = spaces.Dict(a=spaces.Discrete(2))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a configuration that works and environments that do not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "faulty_env", raising=False)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    (tmp_path / "faulty_env.py").write_text(ENVIRONMENTS)
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that the command says on stderr."""
    assert main(list(arguments)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len([line for line in lines if line.startswith("triathlon: error: ")]) == 1, lines
    assert not any("Traceback" in line for line in lines)
    sentence = lines[-1].removeprefix("triathlon: error: ")
    assert len(sentence) < 500
    return sentence


def left(here: Path) -> list[str]:
    """What is there that the fixture has not written."""
    return sorted(name for name in os.listdir(here) if name not in ("tiny.yaml", "faulty_env.py", "__pycache__"))


ENV = "--env.id faulty_env:"
FAULT = f"{ENV}Faulty --env.kwargs "
DQN = "--agent.kind dqn "
# What is typed after `triathlon train tiny.yaml`, and what its refusal names: setting, what was found, what is allowed.
TRAIN: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown key": ("--total-step 5", ("total_step is not a setting", "did you mean 'total_steps'?")),
    "nested unknown key": ("--agent.gama 0.9", ("agent.gama is not a setting", "did you mean 'gamma'?")),
    "key of another agent": ("--agent.buffer-size 9", ("agent.buffer_size is not a setting of agent of kind 'ppo'",)),
    "deeply nested unknown key": (
        f"{DQN}--agent.head.duelling true",
        ("agent.head.duelling", "did you mean 'dueling'?"),
    ),
    "wrong type": ("--total-steps many", ("total_steps is 'many'", "integer")),
    "a list where a number belongs": ("--agent.gamma '[1, 2]'", ("agent.gamma is [1, 2]", "number")),
    "out of range": ("--agent.gamma 1.5", ("agent.gamma is 1.5", "less than or equal to 1")),
    "not positive": ("--agent.learning-rate 0", ("agent.learning_rate is 0", "greater than 0")),
    "negative seed": ("--seed -1", ("seed is -1", "greater than or equal to 0")),
    "no environments": ("--env.num-envs 0", ("env.num_envs is 0", "greater than or equal to 1")),
    "unknown environment": ("--env.id CartPoole-v1", ("'CartPoole-v1'", "did you mean CartPole-v1?")),
    "unknown version": ("--env.id CartPole-v9", ("'CartPole-v9'", "CartPole-v0, CartPole-v1")),
    "unknown module": ("--env.id faulti_env:Faulty", ("faulti_env:Faulty", "no module 'faulti_env'")),
    "unknown class": (f"{ENV}Falty", ("has no 'Falty'", "did you mean Faulty?")),
    "unknown argument of an environment": (
        f"{FAULT}'{{falt:  x}}'",
        ("takes no argument 'falt'", "did you mean fault?"),
    ),
    "unknown backbone": ("--backbone.kind lsmt", ("backbone", "'lsmt'", "did you mean 'lstm'?")),
    "unknown agent": ("--agent.kind pp0", ("agent.kind", "'pp0'", "ppo, dqn, pqn", "did you mean 'ppo'?")),
    "unknown head": (f"{DQN}--agent.head.kind c15", ("agent.head.kind is 'c15'", "did you mean 'c51'?")),
    "dqn on a box": (f"{DQN}{ENV}Arm", ("agent.kind", "Box(-1.0, 1.0, (2,), float32)", "use agent.kind: ppo")),
    "pqn on a box": (f"--agent.kind pqn {ENV}Arm", ("agent.kind", "Box(-1.0, 1.0, (2,), float32)")),
    "too many joint actions": (f"{DQN}{ENV}Wide", ("100000 joint actions", "at most 4096", "agent.kind: ppo")),
    "segment that does not divide": (
        "--agent.segment-length 5",
        ("agent.segment_length", "5 does not divide", "16", "agent.num_steps"),
    ),
    "the same for pqn": ("--agent.kind pqn --agent.segment-length 7", ("agent.segment_length: 7 does not divide",)),
    "c51 with value_rescale": (
        f"{DQN}--agent.value-rescale true --agent.head.kind c51",
        ("agent.value_rescale", "c51", "qr or iqn"),
    ),
    "v_min above v_max": (
        f"{DQN}--agent.head.kind c51 --agent.head.v-min 5 --agent.head.v-max 1",
        ("v_min (5", "must be below v_max (1"),
    ),
    "buffer too small": (
        f"{DQN}--agent.buffer-size 10 --agent.train-period 64 --agent.learning-starts 0",
        ("agent.buffer_size is 10", "at least 64", "train_period"),
    ),
    "buffer too small for a sample": (
        f"{DQN}--agent.buffer-size 20 --agent.n-step 30",
        ("agent.buffer_size is 20", "at least 60", "n_step"),
    ),
    "a memory inside a memory": (
        "--backbone.kind lstm --backbone.encoder gru",
        ("encoder must have no memory", "'gru'"),
    ),
    "heads that do not divide": (
        "--backbone.kind transformer --backbone.width 10 --backbone.num-heads 4",
        ("num_heads", "4", "10"),
    ),
    "an image encoder for a vector": ("--backbone.kind cnn", ("cnn", "Box")),
    "text to see": (f"{ENV}Writer", ("Text", "supported are Box")),
    "a dict of actions": (f"{ENV}Speaker", ("action space is a Dict", "supported are Box")),
    "hidden parts that are not there": ("--env.hide [0,9]", ("hide has index 9", "0 to 3")),
    "a device that is not there": ("--device mps", ("device", "'mps'", "cpu or auto")),
    "nan rewards": (f"{FAULT}'{{fault: nan, after: 3}}'", ("faulty_env:Faulty", "reward", "not finite")),
    "nan observations": (
        f"{FAULT}'{{fault: nan obs, after: 3}}'",
        ("faulty_env:Faulty", "observation", "not finite"),
    ),
    "raises in step": (f"{FAULT}'{{fault: step, after: 3}}'", ("faulty_env:Faulty", "step", "division by zero")),
    "raises in reset": (f"{FAULT}'{{fault: reset}}'", ("faulty_env:Faulty", "reset", "the level is missing")),
    "raises in __init__": (
        f"{FAULT}'{{fault: init}}'",
        ("faulty_env:Faulty", "RuntimeError", "the licence has run out"),
    ),
    "observations of another shape": (f"{FAULT}'{{fault: shape, after: 3}}'", ("faulty_env:Faulty", "(2,)", "(3,)")),
    "a mask of another size": (f"{FAULT}'{{fault: mask}}'", ("faulty_env:Faulty", "action_mask", "3", "2")),
    "a mask of another size for dqn": (
        f"{DQN}{FAULT}'{{fault: mask}}'",
        ("faulty_env:Faulty", "action_mask", "3", "2"),
    ),
    "a priority without prioritised replay": (
        f"{DQN}--agent.priority-beta 0.5",
        ("agent.priority_beta is 0.5", "nothing reads it unless agent.prioritized is true"),
    ),
    "a target period beside tau": (
        f"{DQN}--agent.tau 0.01 --agent.target-period 5",
        ("agent.target_period is 5", "nothing reads it unless agent.tau is 1"),
    ),
    "a loss for distributions": (
        f"{DQN}--agent.head.kind qr --agent.loss mse",
        ("agent.loss is 'mse'", "nothing reads it unless agent.head.kind is expected"),
    ),
    "a deviation for discrete actions": (
        "--agent.log-std-init -1",
        ("agent.log_std_init is -1.0", "nothing reads it unless actions are a Box"),
    ),
    "a priority of sequences for single rows": (
        f"{DQN}--agent.prioritized true --agent.priority-eta 0.5",
        ("agent.priority_eta is 0.5", "nothing reads it unless a sample has several trained rows"),
    ),
    "normalised observations that are no vectors": (
        "--env.id FrozenLake-v1 --agent.normalize-obs true",
        ("agent.normalize_obs is true", "observations are Discrete(16)"),
    ),
    "a bias of gates that are not there": (
        "--backbone '{kind: transformer, gated: false, gate_bias: 1.0}'",
        ("backbone.gate_bias is 1.0", "nothing reads it unless gated is true"),
    ),
    "heads of a mixer that is not there": (
        "--env.id FrozenLake-v1 --backbone '{kind: tokens, mixer_heads: 2}'",
        ("backbone.mixer_heads is 2", "nothing reads it unless mixer_layers is above 0"),
    ),
    "a value that is not YAML": ("--env.kwargs '{a'", ("--env.kwargs", "not YAML")),
    "a root that is a file": ("--root tiny.yaml", ("root: ", "tiny.yaml")),
}


@pytest.mark.parametrize("case", TRAIN)
def test_training_is_refused(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    if case == "a device that is not there" and sys.platform == "darwin":
        pytest.skip("it may be there")
    typed, named = TRAIN[case]
    sentence = refusal(capsys, "train", "tiny.yaml", *shlex.split(typed))
    for part in named:
        assert part in sentence
    assert left(here) == []


def test_commands_through_a_real_process(here: Path) -> None:
    """As a shell sees it: exit code 2, the sentence on stderr, nothing else there but the progress of the run."""
    for arguments, sentence in (
        (["--agent.gama", "1"], "agent.gama is not a setting"),
        (shlex.split(f"{FAULT}'{{fault: step, after: 3}}'"), "division by zero"),
    ):
        command = [sys.executable, "-m", "triathlon.scripts.main", "train", "tiny.yaml", *arguments]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 2
        last = process.stderr.strip().splitlines()[-1]
        assert last.startswith("triathlon: error: ") and sentence in last
        assert "Traceback" not in process.stderr + process.stdout
        assert left(here) == []


YAML = {
    "syntax": ("env: {id: CartPole-v1\nagent: ppo\n", ("bad.yaml, line", "not YAML")),
    "a key twice": ("seed: 1\nenv: CartPole-v1\nseed: 2\n", ("bad.yaml, line 3", "the key 'seed' stands twice")),
    "a list": ("- env\n- agent\n", ("bad.yaml holds list", "mapping of settings")),
    "empty": ("", ("bad.yaml", "mapping of settings")),
    "no environment": ("agent: ppo\ntotal_steps: 10\n", ("env is missing",)),
    "code": ("env: !!python/object/apply:os.system ['true']\n", ("bad.yaml", "not YAML")),
    "not text": ("\udcff", ("bad.yaml cannot be read",)),
}


@pytest.mark.parametrize("case", YAML)
def test_configurations_are_refused(here: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    text, named = YAML[case]
    (here / "bad.yaml").write_bytes(text.encode(errors="surrogateescape"))
    sentence = refusal(capsys, "train", "bad.yaml")
    for part in named:
        assert part in sentence
    assert left(here) == ["bad.yaml"]


def test_configurations_that_are_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean cartpole_ppo" in refusal(capsys, "train", "cartpole_pp")
    assert "'nowhere/tiny.yaml'" in refusal(capsys, "train", "nowhere/tiny.yaml")
    assert left(here) == []


def test_a_missing_extra(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Blocker:
        """Stands in for an environment in which Box2D was never installed."""

        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name.split(".")[0] == "Box2D":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.split(".")[0] == "Box2D" or "box2d" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Blocker(), *sys.meta_path])
    sentence = refusal(capsys, "train", "tiny.yaml", "--env.id", "LunarLander-v3")
    assert sentence == 'LunarLander-v3 needs Box2D, which is not installed: pip install "triathlon[box2d]"'
    assert left(here) == []


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A finished run."""
    assert main(["train", "tiny.yaml", "--name", "done"]) == 0
    capsys.readouterr()
    return Path("runs/CartPole-v1/done")


def test_runs_and_checkpoints(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = run / "checkpoints" / "last.safetensors"
    whole, settings = last.read_bytes(), (run / "config.yaml").read_text()
    resume = ("train", "--resume", str(run), "--total-steps", "200")

    assert "name: there is a run runs/CartPole-v1/done already" in refusal(
        capsys, "train", "tiny.yaml", "--name", "done"
    )
    assert "did you mean 'runs/CartPole-v1/done'?" in refusal(capsys, "train", "--resume", "runs/CartPole-v1/dne")
    assert "is not the folder of a run: it has no config.yaml; runs/CartPole-v1/done is one" in refusal(
        capsys, "train", "--resume", "runs"
    )
    assert "agent.gama" in refusal(capsys, *resume, "--agent.gama", "1")
    for damage in (whole[: len(whole) // 2], whole[:-1], b"", b"x" * 100, whole[:200] + b"xxxx" + whole[204:]):
        last.write_bytes(damage)
        sentence = refusal(capsys, *resume)
        assert str(last) in sentence and "damaged" in sentence
    last.unlink()
    assert "last.safetensors" in refusal(capsys, *resume)
    last.write_bytes(whole)

    # Settings that make another network, or another number of environments, of what was saved.
    for changed in (("--backbone.hidden-sizes", "[9]"), ("--backbone.kind", "lstm"), ("--agent.kind", "dqn")):
        assert "last.safetensors" in refusal(capsys, *resume, *changed)
    assert "env.num_envs" in refusal(capsys, *resume, "--env.num-envs", "3")
    sentence = refusal(capsys, *resume, "--env.id", "Acrobot-v1")
    assert "is a checkpoint of CartPole-v1, not of Acrobot-v1 (env.id)" in sentence
    assert last.read_bytes() == whole and (run / "config.yaml").read_text() == settings
    assert main(list(resume)) == 0  # and after all that it goes on


def test_a_checkpoint_that_is_no_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints" / "best.safetensors"
    checkpoint.save(path, {"something": 1})
    assert "something that is no agent" in refusal(capsys, "evaluate", str(run), "--checkpoint", "best")
    assert "film.docx" in refusal(capsys, "watch", str(run), "--checkpoint", "last", "--out", "film.docx")


def test_a_full_disk(here: Path) -> None:
    """A limit on the size of files stands in for the disk: the log and the tables fit, the checkpoint does not."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = [sys.executable, "-m", "triathlon.scripts.main", "train", "tiny.yaml", "--logging.tensorboard", "false"]
    process = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert process.returncode == 2, process.stderr
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("triathlon: error: ") and "last.safetensors cannot be written: File too large" in last
    assert "Traceback" not in process.stderr
    assert not list(here.glob("**/*.safetensors"))
