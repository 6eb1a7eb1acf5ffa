"""Whole runs: what they leave, that they repeat, and that a killed one goes on to the bit."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triathlon.envs.errors import EnvError
from triathlon.training import checkpoint
from triathlon.training.config import Experiment, dump, from_mapping
from triathlon.training.errors import RunError
from triathlon.training.machine import pick_device
from triathlon.training.periods import Due
from triathlon.training.restoring import load_checkpoint
from triathlon.training.runner import train

QUIET = {
    "evaluation": {"final_episodes": 0, "video": False},
    "logging": {"tensorboard": False, "csv": False},
    "num_threads": 1,
    "device": "cpu",
}
MLP = {"kind": "mlp", "hidden_sizes": [16]}
LSTM = {"kind": "lstm", "hidden_size": 8, "encoder": MLP}
PPO = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 2}
DQN = {"kind": "dqn", "learning_starts": 50, "batch_size": 16, "buffer_size": 300, "train_period": 4}
CARTPOLE = {"id": "CartPole-v1", "num_envs": 3}


def experiment(**settings: Any) -> Experiment:
    settings = {"env": CARTPOLE, "agent": PPO, "backbone": MLP, "total_steps": 400} | QUIET | settings
    return from_mapping(settings)


def test_a_run_leaves_checkpoints_events_and_tables(tmp_path: Path) -> None:
    evaluation = {"period": 100, "num_episodes": 3, "final_episodes": 5, "video": False}
    settings = {"evaluation": evaluation, "logging": {"period": 100}}
    result = train(experiment(**settings), tmp_path)
    assert result.num_steps >= 400 and not result.interrupted and len(result.returns) == 5
    assert result.checkpoint == tmp_path / "checkpoints" / "best.safetensors"
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"best.safetensors", "last.safetensors"}
    assert list(tmp_path.glob("events.out.tfevents.*"))
    lines = (tmp_path / "monitor.csv").read_text().splitlines()
    episodes = list(csv.DictReader(lines[1:]))
    assert len(episodes) > 3 and all(float(row["r"]) == float(row["l"]) for row in episodes)  # CartPole pays 1 a step
    assert sum(int(row["l"]) for row in episodes) <= result.num_steps
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text().splitlines()))
    scores = [float(row["eval/mean_reward"]) for row in rows if row.get("eval/mean_reward")]
    assert len(scores) == 4
    state = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    assert state["num_steps"] == result.num_steps and state["best_score"] == max(scores)


@pytest.mark.parametrize("engine", ["native", "sb3"])
def test_a_run_ends_where_it_reached_its_goal(tmp_path: Path, engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    evaluation = {"period": 100, "num_episodes": 2, "final_episodes": 2, "video": False, "goal": 5.0}
    settings = {"evaluation": evaluation, "engine": engine, "env": CARTPOLE | {"num_envs": 2}}
    result = train(experiment(**settings), tmp_path)
    assert 100 <= result.num_steps < 200 and not result.interrupted and len(result.returns) == 2
    assert f"The evaluation after {result.num_steps} steps reached the goal: " in capfd.readouterr().err
    again = train(experiment(**settings), tmp_path, resume=True)
    assert again.num_steps == result.num_steps and not again.interrupted
    higher = experiment(**settings | {"evaluation": evaluation | {"goal": 501.0}})
    assert train(higher, tmp_path, resume=True).num_steps >= 400


def test_a_goal_wants_evaluations() -> None:
    with pytest.raises(RunError, match=r"evaluation: goal is 5\.0, but nothing reads it unless evaluation\.period is"):
        experiment(evaluation={"goal": 5.0})


def test_same_seed_same_weights_other_seed_other_weights(tmp_path: Path, learned) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        np.random.default_rng()
        torch.manual_seed(hash(name) % 1000)  # torch's global generator must not matter
        train(experiment(seed=seed), tmp_path / name)
    assert learned(tmp_path / "a").equal(learned(tmp_path / "b"))
    assert not learned(tmp_path / "a").equal(learned(tmp_path / "c"))


@pytest.mark.parametrize(
    ("agent", "backbone", "deterministic"),
    [
        (PPO | {"normalize_obs": True, "normalize_reward": True}, MLP, False),
        (DQN | {"head": {"kind": "iqn", "num_quantiles": 4}}, MLP, False),
        # Stochastic evaluation leaves its last noise in the head; it is drawn anew before it is next used.
        (DQN | {"head": {"noisy": True}}, MLP, True),
        (PPO, LSTM, False),
        (PPO, LSTM, True),
    ],
    ids=["ppo", "iqn", "noisy", "lstm", "lstm-deterministic"],
)
def test_evaluation_changes_nothing_about_training(
    tmp_path: Path, learned, agent: dict[str, Any], backbone: dict[str, Any], deterministic: bool
) -> None:
    settings: dict[str, Any] = {"agent": agent, "backbone": backbone, "total_steps": 200}
    train(experiment(**settings), tmp_path / "without")
    evaluation = QUIET["evaluation"] | {"period": 50, "num_episodes": 2, "deterministic": deterministic}  # type: ignore[operator]
    train(experiment(**settings, evaluation=evaluation), tmp_path / "with")
    assert (tmp_path / "with" / "checkpoints" / "best.safetensors").exists()
    assert learned(tmp_path / "without").equal(learned(tmp_path / "with"))


PRIORITIZED = DQN | {"prioritized": True, "n_step": 3, "double": True, "normalize_obs": True, "target_period": 30}
R2D2 = DQN | {"segment_length": 4, "burn_in": 2, "prioritized": True, "normalize_reward": True}
PQN = {"kind": "pqn", "num_steps": 8, "batch_size": 24, "normalize_obs": True}
LANDER = {"id": "LunarLander-v3", "num_envs": 2, "max_episode_steps": 3}  # Box2D cannot tell its state
RESUMED = {
    "ppo": {"agent": PPO | {"normalize_obs": True, "normalize_reward": True, "anneal_learning_rate": True}},
    "ppo-lstm": {"agent": PPO, "backbone": LSTM},
    "dqn-prioritized": {"agent": PRIORITIZED},
    "dqn-lstm": {"agent": R2D2, "backbone": LSTM},
    "dqn-noisy-qr": {"agent": DQN | {"head": {"kind": "qr", "num_quantiles": 4, "noisy": True}}},
    "pqn": {"agent": PQN},
    "ppo-lander": {"agent": PPO, "env": LANDER},
    "dqn-lander": {"agent": PRIORITIZED, "env": LANDER},
    "ppo-groups": {"agent": PPO, "backbone": LSTM, "env": {"id": "CartPole-v1", "num_envs": 5, "num_groups": 2}},
    "ppo-processes": {"agent": PPO, "env": {"id": "Acrobot-v1", "num_envs": 2, "vectorization": "process"}},
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_run_cut_at_a_checkpoint_goes_on_to_the_bit(
    tmp_path: Path, case: str, learned, dying_at_the_third_save
) -> None:
    """The cut run dies after its second periodic checkpoint, as if killed: what came later is lost."""
    if case.endswith("lander"):
        pytest.importorskip("Box2D")
    whole = experiment(**RESUMED[case], total_steps=300, checkpoint={"period": 70})
    train(whole, tmp_path / "whole")
    with dying_at_the_third_save():
        train(whole, tmp_path / "cut")
    assert checkpoint.load(tmp_path / "cut" / "checkpoints" / "last.safetensors")["num_steps"] < 250
    train(whole, tmp_path / "cut", resume=True)
    first, second = learned(tmp_path / "whole"), learned(tmp_path / "cut")
    assert first.shape == second.shape
    assert first.equal(second)


SCRIPT = """
import sys
from pathlib import Path
from triathlon.training.config import load
from triathlon.training.runner import train
print(train(load(sys.argv[1]), Path(sys.argv[2]), resume=len(sys.argv) > 3).interrupted, flush=True)
"""


def start(config: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(config), str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.02)


@pytest.mark.parametrize("agent", [PPO, PRIORITIZED], ids=["ppo", "dqn"])
def test_a_process_that_was_killed_goes_on_to_the_bit(tmp_path: Path, learned, agent: dict[str, Any]) -> None:
    """SIGKILL at whatever moment it strikes after the first checkpoint, long before the end."""
    killed = experiment(agent=agent, total_steps=4_000, checkpoint={"period": 500}, root=str(tmp_path))
    train(killed, tmp_path / "whole")
    (tmp_path / "config.yaml").write_text(dump(killed))
    process = start(tmp_path / "config.yaml", tmp_path / "killed")
    last = tmp_path / "killed" / "checkpoints" / "last.safetensors"
    wait_for(last, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.load(last)["num_steps"] < 4_000
    train(killed, tmp_path / "killed", resume=True)
    assert learned(tmp_path / "whole").equal(learned(tmp_path / "killed"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_run_with_a_checkpoint(tmp_path: Path, learned, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    checkpoints = {"period": 100}
    endless = experiment(total_steps=10_000_000, checkpoint=checkpoints)
    last = tmp_path / "checkpoints" / "last.safetensors"

    def strike() -> None:
        while not last.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    result = train(endless, tmp_path)
    thread.join()
    assert result.interrupted and result.returns == []
    saved = checkpoint.load(last)
    assert saved["num_steps"] == result.num_steps >= 100
    assert signal.getsignal(number) == before
    assert not list(tmp_path.glob("**/.*"))  # nothing half-written

    # It goes on from there, and would have come to the same had nobody stopped it.
    longer = experiment(total_steps=result.num_steps + 100, checkpoint=checkpoints)
    train(longer, tmp_path, resume=True)
    train(longer, tmp_path / "whole")
    assert learned(tmp_path).equal(learned(tmp_path / "whole"))


def test_due_counts_periods_and_is_aligned_to_their_multiples() -> None:
    due = Due(10, 0)
    assert [due.now(n) for n in (4, 10, 12, 19, 35, 39, 40)] == [False, True, False, False, True, False, True]
    assert [Due(10, 25).now(n) for n in (29, 30)] == [False, True]
    assert not Due(None, 0).now(10**9)


def test_a_checkpoint_of_another_environment_is_refused(tmp_path: Path) -> None:
    train(experiment(total_steps=48), tmp_path)
    other = experiment(env={"id": "Acrobot-v1"})
    with pytest.raises(RunError, match=r"is a checkpoint of CartPole-v1, not of Acrobot-v1 \(env.id\)"):
        load_checkpoint(tmp_path / "checkpoints" / "last.safetensors", other)


def test_a_run_goes_on_in_environments_that_were_changed(tmp_path: Path) -> None:
    """The state of the old ones would bring their settings back: new episodes begin."""
    settings = {"logging": {"tensorboard": False, "csv": True}, "agent": PPO | {"learning_rate": 1e-9}}
    train(experiment(env=CARTPOLE | {"max_episode_steps": 400}, **settings), tmp_path)
    changed = CARTPOLE | {"max_episode_steps": 7, "vectorization": "sync"}
    train(experiment(env=changed, total_steps=1000, **settings), tmp_path, resume=True)
    rows = list(csv.DictReader((tmp_path / "monitor.csv").read_text().splitlines()[1:]))
    before, after = ([int(row["l"]) for row in rows if (float(row["step"]) > 420) is late] for late in (False, True))
    assert max(before) > 7 and len(after) > 40 and set(after) == {7}


def test_weights_that_are_no_numbers_end_a_run_and_replace_no_checkpoint(tmp_path: Path) -> None:
    train(experiment(checkpoint={"period": 50}), tmp_path)
    before = (tmp_path / "checkpoints" / "last.safetensors").read_bytes()
    wild = experiment(checkpoint={"period": 50}, agent=PPO | {"learning_rate": 1e38}, total_steps=2000)
    with pytest.raises(RunError, match=r"the weights are no finite numbers any more after .* steps: .*learning_rate"):
        train(wild, tmp_path, resume=True)
    assert (tmp_path / "checkpoints" / "last.safetensors").read_bytes() == before


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert pick_device("auto") == torch.device("cpu")
        with pytest.raises(RunError, match="device: this machine has no 'cuda'"):
            pick_device("cuda")


def test_a_run_of_an_earlier_version_says_that_it_cannot_go_on(tmp_path: Path) -> None:
    train(experiment(), tmp_path)
    last = tmp_path / "checkpoints" / "last.safetensors"
    state = checkpoint.load(last)
    del state["sides"]
    checkpoint.save(last, state)
    with pytest.raises(RunError, match="written by an earlier version"):
        train(experiment(), tmp_path, resume=True)


def test_a_run_at_its_goal_says_how_to_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evaluation = {"period": 100, "num_episodes": 2, "final_episodes": 0, "video": False, "goal": 5.0}
    settings = {"evaluation": evaluation, "logging": {"period": 50}}
    train(experiment(**settings), tmp_path)
    rows = (tmp_path / "progress.csv").read_text()
    capfd.readouterr()
    train(experiment(**settings), tmp_path, resume=True)
    assert "reached the goal" in (said := capfd.readouterr().err) and "--evaluation.goal null" in said
    assert (tmp_path / "progress.csv").read_text() == rows  # and evaluates nothing twice


def test_what_was_best_before_a_kill_stays_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The best checkpoint may be from after the one that the run goes on from."""
    evaluation = {"period": 100, "num_episodes": 2, "final_episodes": 0, "video": False}
    train(experiment(evaluation=evaluation), tmp_path)
    best, last = (tmp_path / "checkpoints" / f"{name}.safetensors" for name in ("best", "last"))
    later = checkpoint.load(best) | {"num_steps": 10_000, "best_score": 499.0}
    checkpoint.save(best, later)
    train(experiment(evaluation=evaluation, total_steps=700), tmp_path, resume=True)
    assert "The best checkpoint stays that of step 10,000 (499.0)" in capfd.readouterr().err
    assert checkpoint.load(best)["num_steps"] == 10_000
    assert checkpoint.load(last)["best_score"] == 499.0


BREAKS = """
from gymnasium.envs.classic_control import CartPoleEnv
class Tired(CartPoleEnv):
    num_steps = 0
    def step(self, action):
        Tired.num_steps += 1
        if Tired.num_steps == 700:
            raise RuntimeError("the motor is hot")
        return super().step(action)
"""


def test_what_was_learned_before_an_environment_broke_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tired_env.py").write_text(BREAKS)
    monkeypatch.syspath_prepend(tmp_path)
    env = {"id": "my_tired_env:Tired", "num_envs": 3, "vectorization": "sync", "max_episode_steps": 100}
    settings = {"env": env, "total_steps": 2_000, "checkpoint": {"period": 100_000}}
    with pytest.raises(EnvError, match=r"the motor is hot; what was learned is in .*last\.safetensors"):
        train(experiment(**settings), tmp_path)
    saved = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")["num_steps"]
    assert 600 < saved < 700
    assert train(experiment(**settings), tmp_path, resume=True).num_steps >= 2_000  # the motor has cooled down
