"""Ray Tune's schedulers and searchers, told what an earlier part of the study found. Time is environment steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher

from triathlon.training.errors import RunError
from triathlon.training.tuning.distributions import Choice, Distribution, QUniform, RandInt, Uniform
from triathlon.training.tuning.space import Settings, Space
from triathlon.training.tuning.study import DONE, Report, Study, Trial


@dataclass(frozen=True)
class _Earlier:
    """Stands for a trial that was over before this part of the study began."""

    trial_id: str


class RememberingASHA(ASHAScheduler):
    """Asynchronous successive halving that knows what trials reported before the study was stopped.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (algorithm 2). Ray Tune keeps no
    rungs when it restores a study, so the reports are played to it again.
    """

    def __init__(self, study: Study, earlier: Sequence[Trial]) -> None:
        config = study.config
        super().__init__(
            time_attr="num_steps",
            metric="value",
            mode=config.mode,
            max_t=study.total_steps,
            grace_period=min(config.grace_steps or max(1, study.total_steps // 9), study.total_steps),
            reduction_factor=config.reduction_factor,
        )
        self._total_steps = study.total_steps
        self._over = {trial.number: trial.reports() for trial in earlier if trial.status in DONE}
        self._begun = {trial.number: trial.reports() for trial in earlier if trial.status not in DONE}

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        for number, reports in self._over.items():
            stand_in: Any = _Earlier(f"earlier-{number}")
            super().on_trial_add(tune_controller, stand_in)
            self._replay(tune_controller, stand_in, reports)
        self._over = {}
        super().on_trial_add(tune_controller, trial)
        self._replay(tune_controller, trial, self._begun.pop(trial.config["trial"]["number"], []))

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        if result["num_steps"] >= self._total_steps:  # it is at its end and has only to close its files
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def _replay(self, tune_controller: Any, trial: RayTrial, reports: Sequence[Report]) -> None:
        for report in reports:
            self.on_trial_result(tune_controller, trial, {"num_steps": report.num_steps, "value": report.value})


class NumberedSearcher(Searcher):
    """Gives Ray Tune the trials that wait, then new ones as another searcher suggests them; new ones are written down.

    `to_settings` makes settings of what the other searcher suggests; `tell` lets it know the score of settings that it
    did not suggest itself.
    """

    def __init__(
        self,
        inner: Any,
        waiting: Sequence[Trial],
        study: Study,
        to_settings: Callable[[Mapping[str, Any]], Settings],
        tell: Callable[[Settings, float], None],
    ) -> None:
        super().__init__(metric="value", mode=study.config.mode)
        self._inner, self._waiting, self._study, self._to_settings = inner, list(waiting), study, to_settings
        self._tell = tell
        self._next_number = len(study.trials())
        self._suggested: set[str] = set()
        self._waited: dict[str, Settings] = {}

    def suggest(self, trial_id: str) -> Any:
        if self._waiting:
            trial = self._waiting.pop(0)
            self._waited[trial_id] = trial.settings
        elif self._next_number < self._study.config.trials:
            suggestion = self._inner.suggest(trial_id)
            if suggestion is None or isinstance(suggestion, str):
                return suggestion
            self._suggested.add(trial_id)
            trial = self._study.add_trial(self._next_number, self._to_settings(suggestion))
            self._next_number += 1
        else:
            return str(Searcher.FINISHED)
        return {"trial": {"number": trial.number, "settings": trial.settings}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self._suggested:
            self._inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id in self._suggested:
            self._inner.on_trial_complete(trial_id, result=result, error=error or not result)
        elif result and "value" in result and not error:
            self._tell(self._waited[trial_id], result["value"])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has its own record, which holds no pickled objects."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""


def make_scheduler(study: Study, earlier: Sequence[Trial], rng: np.random.Generator) -> TrialScheduler:
    """The scheduler that the study asks for."""
    config = study.config
    if config.scheduler == "none":
        return FIFOScheduler()
    if config.scheduler == "asha":
        return RememberingASHA(study, earlier)
    return PopulationBasedTraining(
        time_attr="num_steps",
        metric="value",
        mode=config.mode,
        perturbation_interval=config.perturb_steps or max(1, study.total_steps // 10),
        custom_explore_fn=_explore(study.space, rng),
        log_config=False,
    )


def make_searcher(study: Study, earlier: Sequence[Trial]) -> NumberedSearcher:
    """Optuna's search (tree-structured Parzen estimators), told the scores of earlier trials.

    Raises:
        RunError: Optuna is not installed.
    """
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise RunError('--search optuna needs Optuna, which is not installed: pip install "triathlon[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    params, mode = study.space.params, study.config.mode
    # A study that goes on does not draw again what it drew at first.
    seeds = np.random.SeedSequence([study.space.experiment({}).seed, len(earlier)])
    inner = OptunaSearch(
        {name: _optuna(distribution) for name, distribution in params.items()},
        metric="value",
        mode=mode,
        seed=int(seeds.generate_state(1)[0]),
    )
    rng = np.random.default_rng(seeds)

    def tell(settings: Settings, value: float) -> None:
        # What a trial of its kind does not have (see `Space.fitting`) says nothing for or against any value of it.
        settings = {name: settings[name] if name in settings else params[name].draw(rng) for name in params}
        if all(_holds(params[name], settings[name]) for name in params) and not math.isnan(value):
            inner.add_evaluated_point({name: _from_setting(params[name], settings[name]) for name in params}, value)

    for trial in earlier:
        if trial.status in DONE and (reports := trial.reports()):
            tell(trial.settings, reports[-1].value)

    def to_settings(suggestion: Mapping[str, Any]) -> Settings:
        return study.space.fitting({name: _to_setting(params[name], value) for name, value in suggestion.items()})

    waiting = [trial for trial in earlier if trial.status not in DONE]
    return NumberedSearcher(inner, waiting, study, to_settings, tell)


def _explore(space: Space, rng: np.random.Generator) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def explore(config: dict[str, Any]) -> dict[str, Any]:
        settings = space.perturb(config["trial"]["settings"], rng)
        try:
            space.experiment(settings)
        except RunError:  # each setting is in its range, but they do not go together
            settings = config["trial"]["settings"]
        return {"trial": {**config["trial"], "settings": settings}}

    return explore


def _optuna(distribution: Distribution) -> Any:
    """Optuna's distribution of the same values; choices by their place, for they may be of any sort."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, Uniform):
        return FloatDistribution(distribution.low, distribution.high, log=distribution.log)
    if isinstance(distribution, QUniform):
        return IntDistribution(distribution.first, distribution.last)
    if isinstance(distribution, RandInt):
        return IntDistribution(distribution.low, distribution.high - 1)
    return CategoricalDistribution(range(len(distribution.extremes())))


def _to_setting(distribution: Distribution, value: Any) -> Any:
    if isinstance(distribution, Choice):
        return distribution.values[int(value)]
    if isinstance(distribution, QUniform):
        return distribution.at(int(value))
    return distribution.rounded(value) if isinstance(distribution, Uniform) else value


def _from_setting(distribution: Distribution, value: Any) -> Any:
    if isinstance(distribution, Choice):
        return distribution.values.index(value)
    if isinstance(distribution, QUniform):
        return round(value / distribution.step)
    return value


def _holds(distribution: Distribution, value: Any) -> bool:
    """Whether the value (of the experiment as it stands, which may have any) is one of those looked for."""
    if isinstance(distribution, Choice):
        return value in distribution.values
    low, *_, high = sorted(distribution.extremes())
    return isinstance(value, (int, float)) and low <= value <= high


__all__ = ["NumberedSearcher", "RememberingASHA", "make_scheduler", "make_searcher"]
