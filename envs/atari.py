"""Atari 2600 games on ALE's own vector environment: C++ threads that step, shrink and stack the pictures.

B games, K stacked pictures, H height, W width. A step is one decision of the agent and `frame_skip` emulator frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Gt, Le
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from triathlon.envs.errors import EnvError
from triathlon.envs.guard import column_seeds

NAMESPACE = "ALE"
FRAMES_PER_SECOND = 60
SCREEN = (210, 160)  # pixels; a few games draw a little more, which is shrunk to this in films

Preset: TypeAlias = Literal["nature", "machado"]
# nature: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Methods and extended data table
# 1, but FIRE is pressed when a game begins (OpenAI Baselines presses it after each lost life, too). machado: Machado et
# al. 2018, "Revisiting the Arcade Learning Environment", section 5: sticky actions, all 18 actions, only the game's end
# is an end, five minutes.
PRESETS: dict[Preset, dict[str, Any]] = {
    "nature": {
        "repeat_action_probability": 0.0,
        "full_action_space": False,
        "terminal_on_life_loss": True,
        "noop_max": 30,
        "fire_reset": True,
        "max_frames": 108_000,
    },
    "machado": {
        "repeat_action_probability": 0.25,
        "full_action_space": True,
        "terminal_on_life_loss": False,
        "noop_max": 0,
        "fire_reset": False,
        "max_frames": 18_000,
    },
}


@dataclass(frozen=True)
class AtariConfig:
    """The protocol of a game. Settings that are null take the value of the preset; what is recorded are the values.

    Raises:
        EnvError: a preset is given, and a value for everything that it sets.
    """

    preset: Annotated[
        Preset | None, "nature (as in the DQN paper; null means it too) or machado (sticky actions, 18 actions)"
    ] = None
    repeat_action_probability: Annotated[
        float | None, Ge(0), Le(1), "chance that the game repeats the action before (sticky actions)"
    ] = None
    full_action_space: Annotated[bool | None, "all 18 actions instead of those that the game uses"] = None
    terminal_on_life_loss: Annotated[bool | None, "a lost life ends the episode for learning; the game goes on"] = None
    noop_max: Annotated[int | None, Ge(0), "a game begins with up to this many idle frames"] = None
    fire_reset: Annotated[bool | None, "press the button at the start of games that wait for it"] = None
    max_frames: Annotated[int | None, Gt(0), "emulator frames after which a game is cut off"] = None
    clip_reward: Annotated[bool, "learn from rewards clipped to -1..1; scores stay as the game counts them"] = True
    frame_skip: Annotated[int, Gt(0), "emulator frames for each decision"] = 4
    frame_stack: Annotated[int, Gt(0), "last pictures that the agent sees"] = 4
    screen_size: Annotated[int, Gt(0), "height and width of a picture, in pixels"] = 84
    grayscale: Annotated[bool, "grey pictures instead of red, green and blue"] = True
    num_threads: Annotated[int, Ge(0), "threads that step the games; 0: one for each core; in workers, one each"] = 0

    def __post_init__(self) -> None:
        preset = PRESETS[self.preset or "nature"]
        missing = [name for name in preset if getattr(self, name) is None]
        if self.preset and not missing:
            raise EnvError(
                f"preset is {self.preset}, but everything that it sets is given beside it (in the config.yaml "
                f"of a run always): {', '.join(preset)}; leave out preset, or what should have its values"
            )
        # A run records the protocol it played, not the name that it came from: changed by hand, a name beside all the
        # values would do nothing.
        for name in missing:
            object.__setattr__(self, name, preset[name])
        object.__setattr__(self, "preset", None)


class AtariEnvs(VectorWrapper):
    """B games whose rewards are the true score; what the learner is told instead stands in `info`.

    Observations are uint8 `[B, K, H, W]`, or `[B, K, H, W, 3]` in colour, the newest picture last; before the first
    picture of a game there are zeros. `info["learning_reward"]` and `info["learning_terminated"]` are `[B]`.

    `render()` shows the games at the screen's own size, in colour. For that a second set of games plays the same
    actions from the same seeds: ALE's vector environment gives each of its games in one size only.
    """

    def __init__(self, game: str, name: str, num_envs: int, config: AtariConfig, render: bool) -> None:
        self._config = config
        super().__init__(self._make(game, num_envs))
        self._shown = (
            self._make(game, num_envs, img_height=SCREEN[0], img_width=SCREEN[1], grayscale=False, stack_num=1)
            if render
            else None
        )
        self.frame_stack = config.frame_stack
        self.name = name
        self._picture: NDArray[np.uint8] | None = None
        self._lives = np.zeros(num_envs, np.int32)
        self._done = np.zeros(num_envs, bool)
        self.metadata = self.env.metadata | {
            "render_modes": ["rgb_array"],
            "render_fps": FRAMES_PER_SECOND / config.frame_skip,
        }

    def _make(self, game: str, num_envs: int, **changes: Any) -> VectorEnv[Any, Any, Any]:
        from ale_py.vector_env import AtariVectorEnv

        config = self._config
        settings: dict[str, Any] = {
            "max_num_frames_per_episode": config.max_frames,
            "repeat_action_probability": config.repeat_action_probability,
            "full_action_space": config.full_action_space,
            "img_height": config.screen_size,
            "img_width": config.screen_size,
            "grayscale": config.grayscale,
            "stack_num": config.frame_stack,
            "frameskip": config.frame_skip,
            "noop_max": config.noop_max,
            "use_fire_reset": config.fire_reset,
            "num_threads": config.num_threads,
            # The score and the end of a game are kept true here; `step` says what the learner is told instead.
            "reward_clipping": False,
            "episodic_life": False,
            "autoreset_mode": AutoresetMode.NEXT_STEP,
        }
        envs: VectorEnv[Any, Any, Any] = AtariVectorEnv(game, num_envs, **settings | changes)
        return envs

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        # ALE seeds games with s, s + 1, …: neighbouring runs would play the same games.
        seeds = None
        if seed is not None:
            seeds = np.array(column_seeds(seed, self.num_envs) if isinstance(seed, int) else seed, np.int64)
        obs, info = self.env.reset(seed=seeds, options=options)  # type: ignore[arg-type]  # B seeds are allowed
        if self._shown is not None:
            self._picture = self._shown.reset(seed=seeds, options=options)[0]  # type: ignore[arg-type]
        self._lives, self._done = info["lives"], np.zeros(self.num_envs, bool)
        return obs, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(actions)
        if self._shown is not None:
            self._picture = self._shown.step(actions)[0]
        lives = info["lives"]
        info["learning_reward"] = np.clip(reward, -1, 1) if self._config.clip_reward else reward
        info["learning_terminated"] = terminated
        if self._config.terminal_on_life_loss:  # not in the step that begins a new game, whose lives are others
            info["learning_terminated"] = terminated | ((lives < self._lives) & ~self._done)
        self._lives, self._done = lives, terminated | truncated
        return obs, reward, terminated, truncated, info

    def render(self) -> tuple[Any, ...] | None:
        return None if self._picture is None else tuple(self._picture[:, -1])

    def close(self, **kwargs: Any) -> None:
        self.env.close(**kwargs)
        if self._shown is not None:
            self._shown.close(**kwargs)


def register() -> None:
    """Make the ids of all games known to Gymnasium.

    Raises:
        EnvError: ale-py is not installed.
    """
    try:
        import ale_py
    except ImportError as error:
        raise EnvError('Atari games need ale_py, which is not installed: pip install "triathlon[atari]"') from error
    gym.register_envs(ale_py)


def make_atari(spec: EnvSpec, num_envs: int, config: AtariConfig, render: bool) -> AtariEnvs:
    """`num_envs` games of an id such as `ALE/Pong-v5`; of the id only the game counts, all else is in `config`."""
    return AtariEnvs(str(spec.kwargs["game"]), spec.id, num_envs, config, render)


__all__ = ["PRESETS", "AtariConfig", "AtariEnvs", "make_atari", "register"]
