"""Which settings a trial may change when it goes on from a checkpoint of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from triathlon.training.errors import RunError
from triathlon.training.tuning.moves import check_moves
from triathlon.training.tuning.study import TuneConfig, create

MLP = {"kind": "mlp", "hidden_sizes": [8]}
PPO = {"kind": "ppo", "num_steps": 8, "batch_size": 16, "num_epochs": 1}
DQN = {"kind": "dqn", "batch_size": 8, "buffer_size": 64, "learning_starts": 8, "train_period": 4}


def check(agent: dict[str, Any], *params: str, num_envs: int = 2) -> None:
    base = {
        "env": {"id": "CartPole-v1", "num_envs": num_envs},
        "agent": agent,
        "backbone": MLP,
        "total_steps": 100,
        "device": "cpu",
    }
    check_moves(create(base, [], list(params), TuneConfig(scheduler="pbt")))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("agent", "params"),
    [
        (
            PPO,
            [
                "agent.learning_rate=loguniform(1e-5, 1e-2)",
                "agent.ent_coef=uniform(0, 0.1)",
                "agent.gamma=uniform(0.9, 1)",
                "agent.num_epochs=choice(1, 4)",
                "agent.num_steps=choice(8, 16)",
                "agent.batch_size=choice(8, 32)",
            ],
        ),
        (DQN, ["agent.learning_rate=loguniform(1e-5, 1e-2)", "agent.batch_size=choice(8, 16)"]),
    ],
    ids=["ppo", "dqn"],
)
def test_settings_of_learning_may_change(agent: dict[str, Any], params: list[str], tmp_path: Path) -> None:
    check(agent, *params)
    assert not list(tmp_path.glob("runs/*/*/checkpoints"))


@pytest.mark.parametrize(
    ("agent", "param"),
    [
        (PPO, "backbone.hidden_sizes=choice([8], [16])"),
        (PPO, "env.num_envs=choice(2, 4)"),
        (PPO, "backbone.kind=choice(mlp, gru)"),
        (DQN, "agent.buffer_size=choice(64, 128)"),
    ],
)
def test_what_a_checkpoint_depends_on_may_not(agent: dict[str, Any], param: str) -> None:
    name = param.partition("=")[0]
    with pytest.raises(RunError, match=rf"^--param {name}: with --scheduler pbt .* cannot change on the way: "):
        check(agent, param)
