"""Which settings may be looked for, and what is said before anything starts when something is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from triathlon.training.errors import RunError
from triathlon.training.tuning.space import Space

BASE = {
    "env": {"id": "CartPole-v1", "num_envs": 2},
    "agent": {"kind": "ppo", "learning_rate": 1e-6, "num_steps": 16, "batch_size": 32},
    "backbone": {"kind": "mlp", "hidden_sizes": [8]},
    "total_steps": 200,
}


def space(*texts: str, changes: tuple[str, ...] = ()) -> Space:
    return Space.parse(BASE, changes, texts)


def test_a_trial_is_the_experiment_with_other_settings() -> None:
    found = space("agent.learning_rate=loguniform(1e-5, 1e-2)", changes=("--agent.gamma", "0.9"))
    experiment = found.experiment({"agent.learning_rate": 0.003})
    assert experiment.agent.learning_rate == 0.003 and experiment.agent.gamma == 0.9
    assert experiment.backbone.hidden_sizes == (8,)
    assert found.baseline() == {"agent.learning_rate": 1e-6}


def test_dashes_are_understood() -> None:
    assert list(space("--agent.learning-rate=uniform(0.1, 1)").params) == ["agent.learning_rate"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent.learning_rat=uniform(0.1, 1)", "(did you mean 'learning_rate'?)"),
        ("agnt.learning_rate=uniform(0.1, 1)", "(did you mean 'agent'?)"),
        ("learning_rate=uniform(0.1, 1)", "(did you mean 'agent.learning_rate'?)"),
        ("agent.learning_rate=uniform(0, 1)", "agent.learning_rate is 0.0 but should be greater than 0"),
        ("agent.num_epochs=uniform(1, 8)", "agent.num_epochs is 1.0 but should be an integer"),
        ("agent.gamma=uniform(0.9, 1.5)", "agent.gamma is 1.5"),
        ("agent.anneal_learning_rate=choice(true, maybe)", "agent.anneal_learning_rate is 'maybe'"),
        ("backbone.kind=choice(mlp, lstn)", "did you mean"),
        ("agent.learning_rate", "should be a setting and a distribution"),
        ("=uniform(0, 1)", "should be a setting and a distribution"),
        ("total_steps=randint(100, 200)", "cannot be tuned: all trials have the same budget"),
        ("evaluation.num_episodes=choice(1, 50)", "cannot be tuned: trials are judged alike"),
        ("engine=choice('native', 'sb3')", "cannot be tuned: only engine native says how good"),
        ("env.max_episode_steps=choice(100, 500)", "cannot be tuned: longer episodes may pay more"),
        ("workers.num=choice(1, 4)", "cannot be tuned: each trial gets as much of the cluster"),
        ("seed=randint(1, 9)", "cannot be tuned: scores of different seeds differ by luck"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(RunError) as refused:
        space(text)
    assert said in str(refused.value)


def test_nothing_to_look_for_and_the_same_twice() -> None:
    with pytest.raises(RunError, match="nothing is to be tuned"):
        space()
    with pytest.raises(RunError, match=r"--param agent\.gamma is given twice"):
        space("agent.gamma=uniform(0.9, 1)", "agent.gamma=uniform(0.5, 1)")


def test_settings_of_one_kind_only() -> None:
    found = space("backbone.kind=choice(mlp, lstm)", "backbone.hidden_size=choice(16, 32)")
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        settings = found.draw(rng)
        experiment = found.experiment(settings)
        seen.add(experiment.backbone.kind)
        assert experiment.backbone.kind == settings["backbone.kind"]
        assert ("backbone.hidden_size" in settings) == (experiment.backbone.kind == "lstm")
    assert seen == {"mlp", "lstm"}
    assert found.baseline() == {"backbone.kind": "mlp"}


def test_the_same_seed_draws_the_same() -> None:
    found = space("agent.learning_rate=loguniform(1e-5, 1e-2)", "agent.num_epochs=choice(2, 4, 8)")
    one, two = ([found.draw(rng) for _ in range(5)] for rng in (np.random.default_rng(3), np.random.default_rng(3)))
    assert one == two and len({settings["agent.learning_rate"] for settings in one}) == 5


def test_settings_move_a_step_or_are_drawn_anew() -> None:
    found = space("agent.learning_rate=loguniform(1e-5, 1e-2)", "agent.clip_value_coef=choice(null, 0.2)")
    rng = np.random.default_rng(0)
    moved = [found.perturb({"agent.learning_rate": 1e-3, "agent.clip_value_coef": None}, rng) for _ in range(300)]
    rates = [settings["agent.learning_rate"] for settings in moved]
    assert sum(rate in (8e-4, 1.2e-3) for rate in rates) / 300 == pytest.approx(0.75, abs=0.1)
    assert {settings["agent.clip_value_coef"] for settings in moved} == {None, 0.2}
    # A value outside of the range (the experiment's own may be) is brought back into it.
    far = [found.perturb({"agent.learning_rate": 1e-6}, rng)["agent.learning_rate"] for _ in range(20)]
    assert min(far) == 1e-5


def test_what_is_written_down_describes_the_same_space() -> None:
    found = space("agent.learning_rate=loguniform(1e-5, 1e-2)", "agent.num_epochs=randint(1, 9)")
    assert space(*found.texts()) == found
