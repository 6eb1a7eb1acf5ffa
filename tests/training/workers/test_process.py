"""Workers in processes: the same as in this one, to the bit; what is left when a run ends; what a resumed one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from triathlon.envs.atari import AtariConfig
from triathlon.envs.make import EnvConfig
from triathlon.networks.errors import SettingError
from triathlon.training import checkpoint
from triathlon.training.config import from_mapping
from triathlon.training.errors import RunError
from triathlon.training.runner import train
from triathlon.training.workers.config import WorkersConfig

LOCAL, PROCESS = {"kind": "local", "num": 2}, {"kind": "process", "num": 2}


@pytest.mark.parametrize(("agent", "backbone"), [("ppo", "mlp"), ("dqn", "lstm")])  # the others: test_ray.py
def test_processes_give_what_local_workers_give(
    tmp_path: Path, experiment, learned, curve, workers_of_mine, agent: str, backbone: str
) -> None:
    for name, workers in (("local", LOCAL), ("process", PROCESS)):
        result = train(experiment(agent, backbone, workers), tmp_path / name)
        assert result.num_steps >= 600
    assert curve(tmp_path / "local") == curve(tmp_path / "process")
    assert len(curve(tmp_path / "local")) > 3
    assert learned(tmp_path / "local").equal(learned(tmp_path / "process"))


PONG = {"id": "ALE/Pong-v5", "num_envs": 4, "atari": {"screen_size": 42}}


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_stacked_pictures_are_learned_from_as_local_workers_send_them(
    tmp_path: Path, experiment, learned, workers_of_mine, agent: str
) -> None:
    pytest.importorskip("ale_py")
    for name, workers, seed in (("local", LOCAL, 1), ("process", PROCESS, 1), ("other", PROCESS, 2)):
        result = train(experiment(agent, "cnn", workers, 300, env=PONG, seed=seed), tmp_path / name)
        assert result.num_steps >= 300
    assert learned(tmp_path / "local").equal(learned(tmp_path / "process"))
    assert not learned(tmp_path / "local").equal(learned(tmp_path / "other"))


def test_workers_play_different_episodes(tmp_path: Path, experiment, curve) -> None:
    """Two workers with one environment each: were their seeds the same, episodes would come in pairs of equals."""
    env = {"id": "CartPole-v1", "num_envs": 2}
    train(experiment(workers=LOCAL, env=env, agent=AGENT_THAT_HARDLY_LEARNS), tmp_path)
    episodes = curve(tmp_path)
    assert len(episodes) > 10
    assert len(set(episodes)) > len(episodes) // 2


AGENT_THAT_HARDLY_LEARNS = {"kind": "ppo", "num_steps": 32, "learning_rate": 1e-9, "num_epochs": 1, "batch_size": 64}


@pytest.mark.parametrize(("agent", "backbone"), [("ppo", "lstm"), ("dqn", "mlp")])
def test_a_run_cut_at_a_checkpoint_goes_on_to_the_bit(
    tmp_path: Path, experiment, learned, dying_at_the_third_save, agent: str, backbone: str
) -> None:
    """It dies with local workers after its second checkpoint and goes on with processes; DQN within a request."""
    settings = {"total_steps": 500, "checkpoint": {"period": 150}}
    train(experiment(agent, backbone, LOCAL, **settings), tmp_path / "whole")
    with dying_at_the_third_save():
        train(experiment(agent, backbone, LOCAL, **settings), tmp_path / "cut")
    saved = checkpoint.load(tmp_path / "cut" / "checkpoints" / "last.safetensors")
    assert (saved["collector"]["rollout"] is None) == (agent == "ppo")
    train(experiment(agent, backbone, PROCESS, **settings), tmp_path / "cut", resume=True)
    assert learned(tmp_path / "cut").equal(learned(tmp_path / "whole"))


def test_without_workers_nothing_of_them_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from triathlon.training.config import from_mapping;"
        "from triathlon.training.runner import train;"
        "e = from_mapping({'env': {'id': 'CartPole-v1', 'num_envs': 2}, 'agent': 'ppo', 'total_steps': 300,"
        "'device': 'cpu', 'evaluation': {'final_episodes': 0, 'video': False}, 'logging': {'tensorboard': False}});"
        f"train(e, Path({str(tmp_path)!r}));"
        "found = [m for m in sys.modules if m == 'ray' or m.endswith(('.ray_cluster', '.workers.process'))];"
        "sys.exit(str(found) if found else 0)"
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_worker_that_cannot_start_ends_the_run_with_its_reason(
    tmp_path: Path, experiment, workers_of_mine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own environment can be made, the second one a worker wants cannot."""
    (tmp_path / "scarce.py").write_text(SCARCE)
    env = {"id": "scarce:Scarce", "num_envs": 2, "kwargs": {"folder": str(tmp_path)}}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"worker \d cannot go on: scarce:Scarce cannot be made.*no more of them"):
        train(experiment(workers=PROCESS, env=env), tmp_path / "run")


SCARCE = """
from pathlib import Path
from gymnasium.envs.classic_control import CartPoleEnv

class Scarce(CartPoleEnv):
    def __init__(self, folder, render_mode=None):
        taken = Path(folder) / "taken"
        if taken.exists():
            raise RuntimeError("no more of them")
        taken.touch()
        super().__init__(render_mode)
"""


def test_a_setting_that_does_not_fit_is_refused(experiment, tmp_path: Path) -> None:
    for workers, sentence in (
        ({"kind": "process"}, "workers: kind is process, but nothing reads it unless num, the number of workers"),
        ({"kind": "process", "num": 3}, "env.num_envs is 4, which workers.num 3 workers cannot share evenly"),
        ({"num": 2, "address": "auto"}, "workers: address is auto, but nothing reads it unless kind is ray"),
        ({"num": 2, "mode": "async"}, "workers: mode is async, but nothing reads it unless kind is process or ray"),
        (
            {"num": 2, "hang_seconds": 9.0},
            "workers: hang_seconds is 9.0, but nothing reads it unless kind is process or",
        ),
        ({"num": 2, "start_seconds": 9.0}, "workers: start_seconds is 9.0, but nothing reads it unless kind is"),
        ({"kind": "process", "num": 2, "max_lag": 2}, "max_lag is 2, but nothing reads it unless mode is async"),
        ({"kind": "ray", "num": 2, "mode": "async", "min_ready": 3}, "min_ready is 3, but there are 2 workers"),
    ):
        with pytest.raises(RunError, match=sentence):
            experiment(workers=workers)
    with pytest.raises(SettingError, match=r"workers.rows is 64, but ppo has no replay"):
        train(experiment(workers=LOCAL | {"rows": 64}), tmp_path)
    scaled = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "normalize_reward": True}
    for agent, unread, sentence in (
        ("dqn", {"max_lag": 2}, r"workers.max_lag is 2, but nothing reads it: the replay of dqn gets the rows of all"),
        (scaled, {"min_ready": 1}, r"workers.min_ready is 1, but nothing reads it: agent.normalize_reward gets the"),
    ):
        with pytest.raises(SettingError, match=sentence):
            train(experiment(agent, workers=PROCESS | {"mode": "async"} | unread), tmp_path)


def test_envs_per_worker_counts_where_it_is_given(experiment) -> None:
    assert experiment(workers=LOCAL).env.num_envs == 4
    assert experiment(workers=LOCAL | {"envs_per_worker": 3}).env.num_envs == 6
    assert from_mapping({"env": {"id": "CartPole-v1"}, "agent": "ppo", "total_steps": 1}).workers.num == 0


@pytest.mark.parametrize(
    ("workers", "configured", "expected"),
    [
        ({"kind": "local", "num": 2}, 0, 0),  # one after another: each may have all processors
        ({"kind": "process", "num": 2}, 0, 1),
        ({"kind": "ray", "num": 2}, 0, 1),
        ({"kind": "ray", "num": 2, "cpus_per_worker": 3.0}, 0, 3),
        ({"kind": "ray", "num": 2, "cpus_per_worker": 0.5}, 0, 1),
        ({"kind": "process", "num": 2}, 5, 5),
    ],
)
def test_workers_side_by_side_do_not_fight_for_processors(
    workers: dict[str, object], configured: int, expected: int
) -> None:
    atari = AtariConfig(num_threads=configured)
    env = WorkersConfig(**workers).envs_of_one(EnvConfig(id="ALE/Pong-v5", num_envs=8, atari=atari))  # type: ignore[arg-type]
    assert env.num_envs == 4
    assert env.atari is not None
    assert env.atari.num_threads == expected
