"""Workers that play on while the learner learns: how old their weights may be, and whose columns are handed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from triathlon.networks.errors import SettingError
from triathlon.training.runner import train

ASYNC = {"kind": "process", "num": 2, "mode": "async"}
PPO = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "num_epochs": 1}

SLUGGISH = '''
import time
from pathlib import Path
from gymnasium.envs.classic_control import CartPoleEnv

class Sluggish(CartPoleEnv):
    """The first of them that makes a step is slow for ever."""

    def __init__(self, folder, render_mode=None):
        super().__init__(render_mode)
        self.folder, self.pause = folder, None

    def step(self, action):
        if self.pause is None:
            try:
                (Path(self.folder) / "slow").touch(exist_ok=False)
                self.pause = 0.02
            except FileExistsError:
                self.pause = 0.0
        time.sleep(self.pause)
        return super().step(action)
'''


@pytest.mark.parametrize("limit", [1, 3])
def test_no_rollout_is_older_than_max_lag(
    tmp_path: Path, experiment, logged, workers_of_mine, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """A slow worker takes 16 x 0.02 s for what the other has in a few milliseconds."""
    (tmp_path / "sluggish.py").write_text(SLUGGISH)
    monkeypatch.chdir(tmp_path)
    env = {"id": "sluggish:Sluggish", "num_envs": 4, "kwargs": {"folder": str(tmp_path)}, "max_episode_steps": 500}
    workers = ASYNC | {"max_lag": limit, "min_ready": 1}
    train(experiment(PPO, workers=workers, env=env, total_steps=800), tmp_path / "run")
    assert max(logged(tmp_path / "run", "workers/staleness_max")) == limit
    assert logged(tmp_path / "run", "workers/staleness")[-1] >= 1  # only the very first weights were not old
    assert set(logged(tmp_path / "run", "workers/restarts")) == {0}


def test_a_replay_gets_the_rows_of_all_workers(tmp_path: Path, experiment, logged, curve, workers_of_mine) -> None:
    """DQN learns from 4 rows at a time of requests of 8: what it is given first is as old as a request."""
    workers = ASYNC | {"rows": 8}
    dqn = {"kind": "dqn", "learning_starts": 50, "batch_size": 16, "buffer_size": 2_000, "train_period": 16}
    result = train(experiment(dqn, workers=workers, total_steps=800), tmp_path / "run")
    assert result.num_steps >= 800
    assert max(logged(tmp_path / "run", "workers/staleness_max")) == 2  # of a request, in updates
    lengths = [int(length) for _, length in curve(tmp_path / "run")]
    assert result.num_steps / 4 < sum(lengths) <= result.num_steps + 8 * 4  # episodes of a request that is begun


@pytest.mark.parametrize("workers", [{}, {"kind": "local", "num": 2}], ids=["none", "in step"])
def test_clips_of_weights_that_nothing_is_weighted_by(tmp_path: Path, experiment, workers: dict) -> None:
    agent = {"kind": "ppo", "num_steps": 16, "batch_size": 32, "rho_clip": 2.0}
    with pytest.raises(SettingError, match=r"rho_clip is 2\.0, but nothing reads it unless agent\.vtrace is always"):
        train(experiment(agent, workers=workers), tmp_path / "run")
    agent["vtrace"] = "always"
    assert train(experiment(agent, workers=workers, total_steps=64), tmp_path / "run").num_steps >= 64
