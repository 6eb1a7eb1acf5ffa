"""What is wrong is said in one sentence that names what to change."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from triathlon.envs import EnvConfig, EnvError, make_env, make_envs

USER = "tests.envs.user_envs"


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (EnvConfig("CartPoole-v1"), "unknown environment id 'CartPoole-v1'; did you mean CartPole-v1?"),
        (EnvConfig("cartpole-v1"), "unknown environment id 'cartpole-v1'; did you mean CartPole-v1?"),
        (EnvConfig("CartPole-v7"), "unknown environment id 'CartPole-v7'; versions of CartPole are CartPole-v0, Cart"),
        (EnvConfig("CartPole"), "unknown environment id 'CartPole'; versions of CartPole are CartPole-v0, CartPole-v1"),
        (EnvConfig("triathlon/CueRecal-v0"), "did you mean triathlon/CueRecall-v0?"),
        (EnvConfig("nowhere:Env"), "nowhere:Env: no module 'nowhere' on the Python path or in "),
        (EnvConfig(f"{USER}:Walkk"), f"{USER}:Walkk: module {USER} has no 'Walkk'; did you mean Walk?"),
        (EnvConfig(f"{USER}:NOT_AN_ENV"), "must be a gymnasium.Env or gymnasium.vector.VectorEnv, found 3"),
        (EnvConfig("numpy:ndarray"), "numpy:ndarray must be a gymnasium.Env"),
        (EnvConfig("CartPole-v1", kwargs={"gravty": 1}), "CartPole-v1 takes no argument 'gravty'"),
        (
            EnvConfig("triathlon/CueRecall-v0", kwargs={"dlay": 1}),
            "triathlon/CueRecall-v0 takes no argument 'dlay'; did you mean delay?",
        ),
        (EnvConfig("CartPole-v1", kwargs={"max_episode_steps": 9}), "kwargs must not hold max_episode_steps"),
        (EnvConfig("triathlon/CueRecall-v0", kwargs={"delay": -1}), "CueRecall: delay must be at least 0, found -1"),
        (EnvConfig("triathlon/TMaze-v0", max_episode_steps=5), "TMaze: max_episode_steps must exceed length 10"),
        (
            EnvConfig("triathlon/TMaze-v0", vectorization="process", max_episode_steps=5),
            "TMaze: max_episode_steps must exceed length 10",
        ),
        (EnvConfig("CartPole-v1", hide=(1, 4)), "CartPole-v1: hide has index 4; its observation has parts 0 to 3"),
        (EnvConfig("CartPole-v1", hide=(-1,)), "hide has index -1"),
        (EnvConfig("CartPole-v1", hide=(0, 1, 2, 3)), "hide leaves nothing of the 4 parts"),
        (EnvConfig("Taxi-v3", hide="velocities"), "Taxi-v3: hide needs a vector observation"),
        (EnvConfig(f"{USER}:Faulty", hide="velocities"), "hide: velocities is known for CartPole, Acrobot"),
        (EnvConfig("CartPole-v1", wrappers=("gymnasium.wrappers:Nothing",)), "gymnasium.wrappers has no 'Nothing'"),
        (EnvConfig("CartPole-v1", wrappers=("math:pi",)), "wrapper math:pi must be a gymnasium.Wrapper, found 3.14"),
        (EnvConfig("Acrobot-v1", vectorization="vector_entry_point"), "it has no vector entry point; set vectorizatio"),
        (EnvConfig("CartPole-v1", num_envs=0), "num_envs must be at least 1, found 0"),
        (EnvConfig(f"{USER}:Writer"), "observation['page'] is a Text space; supported are Box, Discrete, MultiDiscre"),
        (EnvConfig(f"{USER}:Speaker"), "the action space is a Dict space; supported are Box, Discrete, MultiDiscrete"),
        (EnvConfig(f"{USER}:SameStepVectorEnv"), "its autoreset mode is AutoresetMode.SAME_STEP, not AutoresetMode.N"),
        (EnvConfig(f"{USER}:Faulty", kwargs={"fault": "init"}), "it raised RuntimeError: no licence"),
    ],
)
def test_environments_that_cannot_be_made(config, sentence):
    with pytest.raises(EnvError) as raised:
        make_envs(config)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def reset_and_step(envs, actions):
    envs.reset(seed=0)
    envs.step(actions)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Gymnasium logs what its processes raise
@pytest.mark.parametrize("vectorization", ["sync", "process"])
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("reset", f"{USER}:Faulty cannot reset: it raised KeyError: 'level'"),
        ("step", f"{USER}:Faulty cannot step: it raised ZeroDivisionError: division by zero"),
    ],
)
def test_an_environment_that_raises_is_named_and_the_cause_kept(fault, sentence, vectorization):
    config = EnvConfig(f"{USER}:Faulty", num_envs=2, vectorization=vectorization, kwargs={"fault": fault})
    envs = make_envs(config)
    with pytest.raises(EnvError) as raised:
        reset_and_step(envs, np.zeros(2, int))
    assert str(raised.value) == sentence
    assert type(raised.value.__cause__).__name__ == sentence.split(": ")[-2].split()[-1]


@pytest.mark.parametrize(("fault", "found"), [("shape at reset", "(4,)"), ("shape at step", "(2,)")])
def test_an_observation_outside_its_space_is_named(fault, found):
    envs = make_envs(EnvConfig(f"{USER}:Faulty", num_envs=2, kwargs={"fault": fault}))
    with pytest.raises(EnvError) as raised:
        reset_and_step(envs, np.zeros(2, int))
    sentence = f"{USER}:Faulty broke its observation space: observation should have shape (3,), found {found}"
    assert str(raised.value) == sentence
    with pytest.raises(EnvError) as raised:
        reset_and_step(make_env(EnvConfig(f"{USER}:Faulty", kwargs={"fault": fault})), 0)
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("id", "module", "extra"),
    [("LunarLander-v3", "Box2D", "box2d"), ("HalfCheetah-v5", "mujoco", "mujoco")],
)
def test_a_missing_extra_is_named(id, module, extra, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find_spec(name))
    with pytest.raises(EnvError) as raised:
        make_envs(EnvConfig(id))
    assert str(raised.value) == f'{id} needs {module}, which is not installed: pip install "triathlon[{extra}]"'


def test_missing_pygame_matters_only_for_drawing(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pygame" else find_spec(name))
    assert make_envs(EnvConfig("CartPole-v1")).num_envs == 8
    sentence = 'CartPole-v1 needs pygame, which is not installed: pip install "triathlon[classic]"'
    with pytest.raises(EnvError) as raised:
        make_env(EnvConfig("CartPole-v1"), render_mode="rgb_array")
    assert str(raised.value) == sentence
    with pytest.raises(EnvError) as raised:
        make_envs(EnvConfig("CartPole-v1"), render=True)
    assert str(raised.value) == sentence


def test_an_environment_that_cannot_be_drawn_is_named():
    with pytest.raises(EnvError, match=r"Walk cannot be drawn as rgb_array; its render modes are \[\]"):
        make_env(EnvConfig(f"{USER}:Walk"), render_mode="rgb_array")
