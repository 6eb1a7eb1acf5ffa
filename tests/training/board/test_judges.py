"""Whoever judges: is missed at the start, costs nothing that was learned, and another one judges anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from triathlon.envs.board.player import PlayerError
from triathlon.envs.errors import EnvError
from triathlon.training import checkpoint
from triathlon.training.runner import train

pytest.importorskip("pyspiel")

from tests.training.board.playing import PPO, QUIET, experiment
from triathlon.envs.board.players.rules import RandomPlayer

PERIOD = QUIET | {"period": 60, "num_episodes": 4}


def test_a_judge_that_is_not_there_is_missed_before_anything_is_learned(tmp_path: Path) -> None:
    run = experiment(self_play={"judge": "mtcs:100"}, evaluation=PERIOD)
    with pytest.raises(EnvError, match=r"mtcs:100"):
        train(run, tmp_path)
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "progress.csv").exists()


@pytest.mark.parametrize("period", [None, 60], ids=["while it plays", "while it judges"])
def test_what_was_learned_before_an_opponent_broke_is_kept(
    period: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks for good: asking it for another game would fail again, before the file is written."""
    choose, num_asked = RandomPlayer.choose, 0

    def breaking(player: RandomPlayer, states: object) -> list[int]:
        nonlocal num_asked
        num_asked += 1
        if num_asked > 60:
            raise PlayerError("the engine is out of hay")
        return choose(player, states)  # type: ignore[arg-type]

    monkeypatch.setattr(RandomPlayer, "choose", breaking)
    env = {"id": "board/tic_tac_toe", "num_envs": 4}
    if period is None:
        run = experiment(env=env | {"board": {"opponent": "random"}}, total_steps=5_000, checkpoint={"period": 10**6})
    else:
        run = experiment(evaluation=PERIOD, total_steps=5_000, checkpoint={"period": 10**6})
    with pytest.raises(EnvError, match=r"out of hay.*; what was learned is in .*last\.safetensors"):
        train(run, tmp_path)
    monkeypatch.undo()
    saved = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    assert 32 <= saved["num_steps"] < 5_000
    assert train(experiment(**_of(run), total_steps=saved["num_steps"] + 64), tmp_path, resume=True).num_steps > 0


def _of(run: object) -> dict[str, object]:
    from triathlon.training.schema import to_mapping

    mapping: dict[str, object] = to_mapping(run)
    del mapping["total_steps"]
    return mapping


def test_another_judge_chooses_the_best_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(experiment(agent=PPO, evaluation=PERIOD), tmp_path)
    best = tmp_path / "checkpoints" / "best.safetensors"
    first = checkpoint.load(best) | {"best_score": 1.0}
    last = tmp_path / "checkpoints" / "last.safetensors"
    checkpoint.save(last, checkpoint.load(last) | {"best_score": 1.0})  # nothing could be better
    harder = {"judge": "mcts:20"}
    train(experiment(agent=PPO, evaluation=PERIOD, self_play=harder, total_steps=500), tmp_path, resume=True)
    assert "Scores are of other games than before: the best checkpoint is chosen anew." in capfd.readouterr().err
    assert checkpoint.load(best)["num_steps"] > first["num_steps"]
    # The same judge goes on.
    train(experiment(agent=PPO, evaluation=PERIOD, self_play=harder, total_steps=600), tmp_path, resume=True)
    assert "chosen anew" not in capfd.readouterr().err
