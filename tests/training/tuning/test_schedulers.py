"""Halving and search that know what was found before a study was stopped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from triathlon.training.tuning.study import Report, Study, TuneConfig, create

pytest.importorskip("ray.tune")

from triathlon.training.tuning.schedulers import RememberingASHA, make_scheduler, make_searcher

BASE = {
    "env": {"id": "CartPole-v1", "num_envs": 2},
    "agent": {"kind": "ppo", "num_steps": 16, "batch_size": 32},
    "total_steps": 900,
}
PARAMS = [
    "agent.learning_rate=loguniform(1e-5, 1e-2)",
    "agent.num_epochs=choice(2, 4)",
    "agent.num_steps=randint(8, 17)",
]
NO_CONTROLLER: Any = None  # halving asks nothing of it


@pytest.fixture
def make_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def make(params: list[str] = PARAMS, **settings: Any) -> Study:
        return create(BASE, [], params, TuneConfig(trials=6, metric="rollout/ep_rew_mean", **settings))

    return make


def write(study: Study, number: int, values: dict[int, float], status: str) -> None:
    trial = study.add_trial(number, {"agent.learning_rate": 1e-3, "agent.num_epochs": 4, "agent.num_steps": 8 + number})
    for num_steps, value in values.items():
        trial.add(Report(num_steps, value, 0.0, trial.settings))
    trial.write(status)  # type: ignore[arg-type]


def ray_trial(number: int) -> Any:
    return SimpleNamespace(trial_id=f"t{number}", config={"trial": {"number": number, "settings": {}}})


def decide(scheduler: RememberingASHA, trial: Any, num_steps: int, value: float) -> str:
    return scheduler.on_trial_result(NO_CONTROLLER, trial, {"num_steps": num_steps, "value": value})


@pytest.mark.parametrize(("value", "decision"), [(10.0, "STOP"), (60.0, "CONTINUE")])
def test_halving_remembers_trials_of_before(make_study, value: float, decision: str) -> None:
    study = make_study(reduction_factor=2)
    for number, score in enumerate((20.0, 30.0, 40.0)):
        write(study, number, {120: score, 300: score + 1}, "finished")
    scheduler = RememberingASHA(study, study.trials())
    trial = ray_trial(3)
    scheduler.on_trial_add(NO_CONTROLLER, trial)
    assert decide(scheduler, trial, 110, value) == decision  # 100 steps is the first rung
    # Without the memory there is nobody to lose against.
    fresh = RememberingASHA(study, [])
    fresh.on_trial_add(NO_CONTROLLER, trial)
    assert decide(fresh, trial, 110, value) == "CONTINUE"


def test_a_trial_that_goes_on_is_not_judged_again_where_it_was(make_study) -> None:
    study = make_study(reduction_factor=2)
    write(study, 0, {120: 5.0}, "running")
    write(study, 1, {120: 50.0, 250: 60.0}, "finished")
    scheduler = RememberingASHA(study, study.trials())
    scheduler.on_trial_add(NO_CONTROLLER, ray_trial(0))
    assert decide(scheduler, ray_trial(0), 150, 5.0) == "CONTINUE"  # it had passed the rung at 100 steps
    assert decide(scheduler, ray_trial(0), 210, 5.0) == "STOP"


def test_a_trial_at_its_end_is_left_alone(make_study) -> None:
    study = make_study(reduction_factor=3)  # rungs at 100, 300 and 900 steps
    for number in range(3):
        write(study, number, {100: 50.0, 300: 50.0, 899: 50.0}, "finished")
    scheduler = RememberingASHA(study, study.trials())
    trial = ray_trial(4)
    scheduler.on_trial_add(NO_CONTROLLER, trial)
    assert decide(scheduler, trial, 910, 1.0) == "CONTINUE"
    assert decide(scheduler, trial, 310, 1.0) == "STOP"


def test_little_is_good_with_mode_min(make_study) -> None:
    study = make_study(mode="min", reduction_factor=2)
    for number in range(3):
        write(study, number, {120: 20.0}, "finished")
    scheduler = RememberingASHA(study, study.trials())
    for number, value, decision in ((4, 10.0, "CONTINUE"), (5, 30.0, "STOP")):
        scheduler.on_trial_add(NO_CONTROLLER, ray_trial(number))
        assert decide(scheduler, ray_trial(number), 110, value) == decision


def test_population_based_training_moves_settings_within_their_ranges(make_study) -> None:
    study = make_study(scheduler="pbt", perturb_steps=90)
    scheduler = make_scheduler(study, [], np.random.default_rng(0))
    explore = scheduler._custom_explore_fn
    donor = {
        "trial": {"number": 2, "settings": {"agent.learning_rate": 1e-2, "agent.num_epochs": 4, "agent.num_steps": 16}}
    }
    for _ in range(40):
        settings = explore(donor)["trial"]["settings"]
        assert 1e-5 <= settings["agent.learning_rate"] <= 1e-2
        assert settings["agent.num_epochs"] in (2, 4) and 8 <= settings["agent.num_steps"] <= 16
    assert donor["trial"]["settings"]["agent.learning_rate"] == 1e-2


def test_optuna_is_told_of_earlier_trials_and_goes_on_with_those_that_wait(make_study) -> None:
    pytest.importorskip("optuna")
    study = make_study(search="optuna")
    write(study, 0, {900: 20.0}, "finished")
    write(study, 1, {100: 2.0}, "stopped")
    write(study, 2, {100: 3.0}, "running")
    searcher = make_searcher(study, study.trials())
    first: Any = searcher.suggest("a")
    assert first["trial"] == {"number": 2, "settings": study.trial(2).settings}
    told = searcher._inner._ot_study.trials
    assert [trial.value for trial in told] == [20.0, 2.0]
    searcher.on_trial_complete("a", {"value": 30.0})
    assert [trial.value for trial in searcher._inner._ot_study.trials] == [20.0, 2.0, 30.0]
    assert told[0].params["agent.num_epochs"] == 1 and told[0].params["agent.learning_rate"] == 1e-3
    numbers = []
    for name in "bcd":
        suggestion: Any = searcher.suggest(name)
        settings = suggestion["trial"]["settings"]
        study.space.experiment(settings)
        assert settings["agent.num_epochs"] in (2, 4) and 8 <= settings["agent.num_steps"] <= 16
        searcher.on_trial_complete(name, {"value": 1.0})
        numbers.append(suggestion["trial"]["number"])
    assert numbers == [3, 4, 5]
    assert searcher.suggest("e") == "FINISHED"
    assert [trial.number for trial in study.trials()] == [0, 1, 2, 3, 4, 5]


def test_optuna_does_not_propose_again_what_it_proposed_before_a_stop(make_study) -> None:
    pytest.importorskip("optuna")
    study = make_study(search="optuna")
    write(study, 0, {900: 20.0}, "finished")
    proposed = []
    for _ in range(2):
        searcher = make_searcher(study, study.trials())
        for name in "ab":
            suggestion: Any = searcher.suggest(name)
            proposed.append(suggestion["trial"]["settings"]["agent.learning_rate"])
            trial = study.trial(suggestion["trial"]["number"])
            trial.add(Report(900, 1.0, 0.0, trial.settings))
            trial.write("finished")
    assert len(study.trials()) == 5 and len(set(proposed)) == 4


def test_optuna_is_told_of_trials_whose_kind_lacks_a_setting(make_study) -> None:
    pytest.importorskip("optuna")
    study = make_study(
        ["backbone.kind=choice(mlp, lstm)", "backbone.hidden_size=quniform(16, 64, 16)"], search="optuna"
    )
    found = [
        ({"backbone.kind": "mlp"}, 20.0),
        ({"backbone.kind": "lstm", "backbone.hidden_size": 48}, 30.0),
        ({"backbone.kind": "mlp"}, float("nan")),  # Optuna takes no such score
        ({"backbone.kind": "gru", "backbone.hidden_size": 48}, 40.0),  # is not looked for
    ]
    for number, (settings, value) in enumerate(found):
        trial = study.add_trial(number, settings)
        trial.add(Report(900, value, 0.0, settings))
        trial.write("finished")
    told = make_searcher(study, study.trials())._inner._ot_study.trials
    assert [(trial.value, trial.params["backbone.kind"]) for trial in told] == [(20.0, 0), (30.0, 1)]
    assert 1 <= told[0].params["backbone.hidden_size"] <= 4 and told[1].params["backbone.hidden_size"] == 3
