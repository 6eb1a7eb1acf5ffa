"""The folder of a study: what it holds, what it goes on from, and its trials from best to worst."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triathlon.training import config
from triathlon.training.errors import RunError
from triathlon.training.tuning import picture, results
from triathlon.training.tuning.study import Report, Study, TuneConfig, create, open_study

BASE = {
    "env": {"id": "CartPole-v1", "num_envs": 2},
    "agent": {"kind": "ppo", "num_steps": 16, "batch_size": 32},
    "total_steps": 300,
    "name": "mine",
    "evaluation": {"period": 100, "num_episodes": 2, "final_episodes": 7},
}
RATE = "agent.learning_rate=loguniform(1e-5, 1e-2)"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return create(BASE, ["--seed", "3"], [RATE, "agent.num_epochs=choice(2, 4)"], TuneConfig(trials=4))


def add(study: Study, number: int, values: list[float], status: str, rate: float = 1e-3) -> None:
    trial = study.add_trial(number, {"agent.learning_rate": rate, "agent.num_epochs": 2})
    for i, value in enumerate(values):
        trial.add(Report(100 * (i + 1), value, 1.0 + i, trial.settings))
    trial.write(status)  # type: ignore[arg-type]


def test_a_study_is_read_back(study: Study, tmp_path: Path) -> None:
    assert study.path == tmp_path / "runs" / "CartPole-v1" / "mine"
    again = open_study(study.path)
    assert again == study and again.total_steps == 300 and again.metric == "eval/mean_reward"
    assert open_study("latest") == study
    assert study.changed(trials=9).config.trials == 9
    assert open_study(study.path).config.trials == 9
    with pytest.raises(RunError, match="trials is 0 but should be greater than 0"):
        study.changed(trials=0)
    assert open_study(study.path).config.trials == 9
    experiment = study.experiment({"agent.learning_rate": 0.5})
    assert experiment.seed == 3 and experiment.agent.learning_rate == 0.5
    # Trials play no final games and make no film; the best configuration does as the experiment says.
    assert experiment.evaluation.final_episodes == 0 and not experiment.evaluation.video
    assert experiment.num_threads == 1


def test_trials_use_gpus_that_are_set_aside_for_them_only(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study.experiment({}).device == "cpu"
    assert study.changed(gpus=0.5).experiment({}).device == "auto"
    with pytest.raises(RunError, match=r"device is cuda, but --gpus is 0: .* give --gpus 1"):
        create(BASE | {"name": "other"}, ["--device", "cuda"], [RATE], TuneConfig())
    assert not (tmp_path / "runs" / "CartPole-v1" / "other").exists()


def test_folders_that_are_taken_or_no_study(study: Study, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is there already; choose another, or triathlon tune --resume"):
        create(BASE, [], [RATE], TuneConfig())
    with pytest.raises(RunError, match="is not the folder of a study"):
        open_study(tmp_path)
    for text in ("{", "[]", "3", '{"config": {}}'):
        (study.path / "study.json").write_text(text)
        with pytest.raises(RunError, match="is damaged"):
            open_study(study.path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "eval/mean_rewrad"}, r"which no run writes \(did you mean 'eval/mean_reward'\?\)"),
        ({"scheduler": "pbt", "search": "optuna"}, "with scheduler pbt settings move as trials do"),
        ({"scheduler": "pbt", "trials": 1}, "with scheduler pbt trials learn from each other"),
        ({"perturb_steps": 50}, "perturb_steps is 50, but nothing reads it unless scheduler is pbt"),
        ({"scheduler": "none", "reduction_factor": 2.5}, "reduction_factor is 2.5, but nothing .* scheduler is asha"),
        ({"scheduler": "pbt", "grace_steps": 50}, "grace_steps is 50, but nothing reads it unless scheduler is asha"),
    ],
)
def test_what_makes_no_sense_is_said(
    settings: dict, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=said):
        create(BASE, [], [RATE], TuneConfig(**settings))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "settings",
    [{"grace_steps": 50, "reduction_factor": 2.0}, {"scheduler": "pbt", "perturb_steps": 50}],
    ids=["asha", "pbt"],
)
def test_settings_of_its_own_scheduler_are_taken(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = TuneConfig(**settings)
    assert open_study(create(BASE, [], [RATE], config).path).config == replace(config, metric="eval/mean_reward")


def test_a_metric_that_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = BASE | {"evaluation": {}}
    with pytest.raises(RunError, match=r"nothing is evaluated: give --evaluation\.period"):
        create(base, [], [RATE], TuneConfig(metric="eval/mean_reward"))
    assert create(base, [], [RATE], TuneConfig()).metric == "rollout/ep_rew_mean"


def test_steps_done_twice_count_once_and_a_torn_line_not_at_all(study: Study) -> None:
    add(study, 0, [1.0, 2.0, 3.0], "running")
    trial = study.trial(0)
    trial.add(Report(200, 5.0, 9.0, trial.settings))
    with open(trial.folder / "reports.jsonl", "a", encoding="utf-8") as file:
        file.write('{"num_steps": 300, "val')
    assert [(r.num_steps, r.value) for r in trial.reports()] == [(100, 1.0), (200, 5.0)]


def test_the_order_of_trials(study: Study) -> None:
    add(study, 0, [10.0, 20.0, 90.0], "finished")
    add(study, 1, [50.0, 80.0, 90.0], "finished")  # as good at the end, sooner good
    add(study, 2, [99.0], "stopped")
    add(study, 3, [], "failed")
    assert [o.trial.number for o in results.outcomes(study)] == [1, 0, 2, 3]
    low = Study(study.path, study.space, TuneConfig(mode="min", metric="eval/mean_reward"), 300)
    assert [o.trial.number for o in results.outcomes(low)] == [0, 1, 2, 3]
    winner = results.best(results.outcomes(study))
    assert winner is not None and winner.score == 90.0 and winner.mean == pytest.approx(220 / 3)


def test_results_as_files(study: Study) -> None:
    add(study, 0, [10.0, 20.0], "finished", rate=1e-6)
    add(study, 1, [50.0, 80.5], "finished", rate=0.00125)
    add(study, 2, [], "waiting")
    found = results.outcomes(study)
    results.write(study, found)
    with open(study.path / "results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["001", "000", "002"]
    assert (rows[0]["score"], rows[0]["agent.learning_rate"], rows[2]["score"]) == ("80.5", "0.00125", "")
    content = json.loads((study.path / "results.json").read_text())
    assert content["trials"][0]["reports"][1]["value"] == 80.5 and content["trials"][0]["folder"] == "trials/001"
    # The best configuration is one that `triathlon train` takes, with the evaluation that was asked for.
    best = config.load(study.path / "best.yaml")
    assert best.agent.learning_rate == 0.00125 and best.evaluation.final_episodes == 7 and best.seed == 3
    assert best.name is None
    assert (study.path / "best.yaml").read_text().startswith("# Trial 001 (finished): eval/mean_reward 80.5 at 200")
    lines = results.table(study, found).splitlines()
    assert lines[0].split() == ["trial", "steps", "eval/mean_reward", "agent.learning_rate", "agent.num_epochs"]
    assert lines[1].split() == ["001", "finished", "200", "80.5", "0.00125", "2"]


def test_the_picture(study: Study) -> None:
    image = pytest.importorskip("matplotlib.image")
    add(study, 0, [10.0, 20.0], "finished", rate=1e-6)
    add(study, 1, [50.0], "stopped")
    path = picture.draw(study, results.outcomes(study))
    assert path == study.path / "study.png"
    pixels = image.imread(path)
    assert pixels.shape[1] > 1000  # three panels
    orange = np.abs(pixels[..., :3] - np.array([1.0, 0.498, 0.055])).max(-1) < 0.02
    blue = np.abs(pixels[..., :3] - np.array([0.122, 0.467, 0.706])).max(-1) < 0.02
    assert orange.sum() > 50 and blue.sum() > 20


def test_no_trial_was_measured(study: Study) -> None:
    add(study, 0, [], "failed")
    found = results.outcomes(study)
    results.write(study, found)
    assert results.best(found) is None and not (study.path / "best.yaml").exists()
