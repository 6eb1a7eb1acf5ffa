"""Atari games: the protocol that was asked for is the one that is played, and scores stay true. Real ROMs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml

from triathlon.envs import EnvConfig, EnvError, make_envs
from triathlon.envs.atari import AtariConfig
from triathlon.envs.atari_scores import RANDOM_AND_HUMAN, human_normalized
from triathlon.training.config import dump, from_mapping
from triathlon.training.errors import RunError

pytest.importorskip("ale_py")


def games(name: str = "Breakout", num_envs: int = 4, render: bool = False, **atari):
    return make_envs(EnvConfig(f"ALE/{name}-v5", num_envs, atari=AtariConfig(**atari)), render=render)


def play(envs, num_steps: int, seed: int = 0):
    """Random play: observations and everything that `step` gave, stacked along time."""
    obs, _ = envs.reset(seed=seed)
    rng, seen, steps = np.random.default_rng(0), [obs], []
    for _ in range(num_steps):
        obs, *step, info = envs.step(rng.integers(0, envs.single_action_space.n, envs.num_envs))
        seen.append(obs)
        steps.append((*step, info["learning_reward"], info["learning_terminated"], info["lives"]))
    return np.stack(seen), [np.stack(parts) for parts in zip(*steps, strict=True)]


def test_presets_are_recorded_in_full() -> None:
    settings = {"env": {"id": "ALE/Pong-v5", "atari": {"preset": "machado", "noop_max": 5}}, "agent": "ppo"}
    experiment = from_mapping(settings | {"total_steps": 1})
    assert experiment.env.atari is not None
    assert experiment.env.atari.repeat_action_probability == 0.25
    assert experiment.env.atari.full_action_space is True
    assert experiment.env.atari.noop_max == 5
    assert "repeat_action_probability: 0.25" in dump(experiment)
    nature = from_mapping({"env": {"id": "ALE/Pong-v5"}, "agent": "ppo", "total_steps": 1}).env.atari
    assert nature == AtariConfig(
        repeat_action_probability=0.0,
        full_action_space=False,
        terminal_on_life_loss=True,
        noop_max=30,
        fire_reset=True,
        max_frames=108_000,
    )


def test_a_preset_that_nothing_reads_is_refused() -> None:
    recorded = dump(from_mapping({"env": {"id": "ALE/Pong-v5"}, "agent": "ppo", "total_steps": 1}))
    assert dump(from_mapping(yaml.safe_load(recorded))) == recorded
    changed = yaml.safe_load(recorded)
    changed["env"]["atari"]["preset"] = "machado"
    with pytest.raises(RunError, match=r"env\.atari: preset is machado, but everything .* noop_max"):
        from_mapping(changed)
    changed["env"]["atari"]["noop_max"] = None
    assert from_mapping(changed).env.atari.noop_max == 0


def test_protocol_is_played() -> None:
    envs = games(frame_stack=2, screen_size=42, full_action_space=True)
    assert envs.single_observation_space == gym.spaces.Box(0, 255, (2, 42, 42), np.uint8)
    assert envs.single_action_space == gym.spaces.Discrete(18)
    assert envs.frame_stack == 2
    assert games().single_action_space == gym.spaces.Discrete(4)
    assert games(grayscale=False).single_observation_space.shape == (4, 84, 84, 3)
    # The frame budget cuts games off; without idle frames at the start after just so many decisions.
    _, (_, terminated, truncated, *_) = play(games("Pong", max_frames=40, noop_max=0, fire_reset=False), 12)
    assert not terminated.any()
    assert truncated[9].all()
    assert truncated.sum() == 4


def test_frames_are_stacked_oldest_first_on_zeros() -> None:
    obs, (_, terminated, truncated, *_) = play(games(), 300)
    first = np.concatenate([np.ones((1, 4), bool), np.zeros((1, 4), bool), (terminated | truncated)[:-1]])
    assert first[1:].any()
    assert (obs[first][:, :3] == 0).all()
    assert (obs[first][:, 3] > 0).any((1, 2)).all()
    assert (obs[1:][~first[1:]][:, :3] == obs[:-1][~first[1:]][:, 1:]).all()


def test_a_lost_life_ends_learning_and_not_the_game() -> None:
    _, (_, terminated, _, _, learning, lives) = play(games(), 400)
    began = np.concatenate([np.zeros((1, 4), bool), terminated[:-1]])  # these steps begin a new game
    lost = np.concatenate([np.zeros((1, 4), bool), lives[1:] < lives[:-1]]) & ~began
    assert (lost & ~terminated).sum() > 10
    assert terminated.sum() >= 3
    assert (learning == (lost | terminated)).all()
    _, (_, terminated, _, _, learning, _) = play(games(terminal_on_life_loss=False), 400)
    assert (learning == terminated).all()


def test_scores_are_true_and_rewards_clipped() -> None:
    _, (reward, _, _, learning, *_) = play(games("MsPacman"), 200)
    assert reward.max() >= 10
    assert (learning == np.clip(reward, -1, 1)).all()
    _, (reward, _, _, learning, *_) = play(games("MsPacman", clip_reward=False), 200)
    assert (learning == reward).all()


def test_collector_learns_from_the_one_and_scores_the_other(practise: Callable[..., Any]) -> None:
    env = {"id": "ALE/MsPacman-v5", "num_envs": 2, "atari": {"max_frames": 400}}
    collector = practise(env, "ppo", {"kind": "cnn", "features": 8}).collector
    segment = collector.collect(230)
    episodes = collector.take_episodes()
    assert set(segment.reward.unique().tolist()) <= {0.0, 1.0}
    assert sum(e.episode_return for e in episodes) >= 5 * segment.reward.sum() > 0  # each pellet counts ten
    assert len(episodes) == 4


def test_seeds_repeat_and_neighbouring_seeds_share_nothing() -> None:
    """With the same actions for all, only the seed of a game says when its actions stick."""

    def histories(seed: int) -> list[bytes]:
        envs = games("Breakout", 4, repeat_action_probability=0.5, noop_max=0)
        seen = [envs.reset(seed=seed)[0]]
        seen += [envs.step(np.full(4, (0, 2, 3, 1, 2)[t % 5]))[0] for t in range(40)]
        return [np.stack(seen)[:, i].tobytes() for i in range(4)]

    one, two, other = histories(7), histories(7), histories(8)
    assert one == two
    assert len({*one, *other}) == 8


def test_sticky_actions_stick() -> None:
    """The same actions from the same seed: other games with sticky actions than without."""
    start = {"noop_max": 0, "fire_reset": False}
    plain, sticky = (play(games(repeat_action_probability=p, **start), 60)[0] for p in (0.0, 0.9))
    assert (plain[0] == sticky[0]).all()
    assert (plain[-1] != sticky[-1]).any()


def test_films_show_the_game_that_is_played() -> None:
    envs = games("Breakout", 2, render=True, frame_stack=1, screen_size=84)
    obs, _ = envs.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(250):
        obs, *_ = envs.step(rng.integers(0, 4, 2))
        pictures = envs.render()
        assert pictures is not None
    for i in range(2):
        assert pictures[i].shape == (210, 160, 3)
        grey = pictures[i].astype(float) @ [0.299, 0.587, 0.114]
        rows, columns = np.arange(84) * 210 // 84, np.arange(84) * 160 // 84
        assert np.corrcoef(grey[np.ix_(rows, columns)].ravel(), obs[i, 0].ravel())[0, 1] > 0.8


def test_games_of_the_whole_list_can_be_made() -> None:
    make_envs(EnvConfig("ALE/Pong-v5", 1)).close()
    names = [name for name in gym.registry if name.startswith("ALE/")]
    assert len(names) > 100
    for name in names[::13]:  # all of them take half a minute
        with_one = make_envs(EnvConfig(name, 1))
        with_one.reset(seed=0)
        with_one.step(np.array([0]))
        with_one.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"id": "ALE/Pogn-v5"}, r"did you mean ALE/Pong-v5\?"),
        ({"id": "ALE/Pong-v5", "hide": [1]}, r"env\.hide is not read for Atari games"),
        ({"id": "ALE/Pong-v5", "kwargs": {"frameskip": 1}}, r"env\.kwargs is not read .* frame_skip"),
        ({"id": "ALE/Pong-v5", "atari": {"preset": "natur"}}, r"env\.atari\.preset is 'natur' .*nature"),
        ({"id": "ALE/Pong-v5", "atari": {"frame_stak": 4}}, r"did you mean 'frame_stack'"),
        ({"id": "ALE/Pong-v5", "atari": {"frame_skip": 0}}, r"env\.atari\.frame_skip is 0"),
        ({"id": "CartPole-v1", "atari": {}}, r"env\.atari is read for Atari games only"),
    ],
)
def test_wrong_settings_are_explained(settings, sentence) -> None:
    with pytest.raises((RunError, EnvError), match=sentence):
        make_envs(from_mapping({"env": settings, "agent": "ppo", "total_steps": 1}).env)


def test_human_normalized_scores() -> None:
    assert len(RANDOM_AND_HUMAN) == 57
    assert human_normalized("ALE/Pong-v5", -20.7) == 0.0
    assert human_normalized("ALE/UpNDown-v5", 11_693.2) == pytest.approx(1.0)
    assert human_normalized("ALE/Breakout-v5", 358.0) == pytest.approx(12.372, abs=1e-3)
    assert human_normalized("ALE/Adventure-v5", 0.0) is None
    assert human_normalized("CartPole-v1", 500.0) is None
    make_envs(EnvConfig("ALE/Pong-v5", 1)).close()
    ids = {name for name in gym.registry if name.startswith("ALE/")}
    assert sum(human_normalized(name, 0.0) is not None for name in ids) == 57
