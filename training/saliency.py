"""Which parts of a picture an agent's decision hangs on, shown beside the film of its game.

A part matters as far as blurring it changes what the agent would do and what it thinks the state is worth
(Greydanus et al. 2018, "Visualizing and Understanding Atari Agents", section 3). It is asked from outside, so that any
backbone will do, with its memory as it is.

H height, W width of a picture, K planes of it (colours and earlier pictures), M places that are blurred, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from triathlon.agents.agent import Decision, Policy
from triathlon.networks.backbone import Obs, State
from triathlon.networks.spaces import image_layout, image_size
from triathlon.training.errors import RunError
from triathlon.training.evaluate import Evaluation, film

NUM_PLACES = 14  # to a side
BLOT, BLUR = (
    17,
    28,
)  # how many of them make a side: the deviation of what is blurred, and of the blur (5, 3 of 84 pixels)
ILLEGAL = -1e6  # no log-probability of a legal action is below
FADE = 0.98  # the brightest of each colour is the greatest lately seen: how much of that is left a frame later


class Saliency:
    """How much each part of a picture matters to a policy.

    Raises:
        RunError: what the policy sees is no picture.
    """

    def __init__(self, policy: Policy, space: Space[Any]) -> None:
        size = image_size(space)
        if size is None or not isinstance(space, spaces.Box):
            raise RunError(f"saliency is of pictures, and what this agent sees is {_in_words(space)}")
        self._policy, self._space = policy, space
        self.height, self.width = size
        self._channels_first = image_layout(space.shape)[3]
        down, across = (_bells(side, _places(side), max(0.5, side / BLOT)) for side in size)
        self._grid = len(down), len(across)
        self._masks = (down[:, None, :, None] * across[None, :, None, :]).flatten(0, 1)  # [M, H, W]
        self._blurs = [_blur(side, max(1.0, side / BLUR)) for side in size]

    @torch.inference_mode()
    def __call__(
        self, obs: Tensor, state: State, is_first: Tensor, legal: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """How much each part of an observation `[1, *obs]` matters to the choice of action and to the value, `[H, W]`.

        Choices are compared by half the squared distance of centred log-probabilities, which are the network's logits
        but for a constant (of DQN its values, but for a factor), values by half their squared difference.
        """
        planes = self._planes(obs[0])
        blurred = self._blurs[0] @ planes @ self._blurs[1].T
        seen = planes + self._masks.unsqueeze(1) * (blurred - planes)  # [M, K, H, W]
        pictures = torch.cat([planes.unsqueeze(0), seen])
        num = len(pictures)

        def repeated(x: Tensor) -> Tensor:
            return x.expand(num, *x.shape[1:])

        log_probs, values = self._policy.assess(
            self._observations(pictures, obs.dtype),
            tuple(repeated(s) for s in state),
            repeated(is_first),
            None if legal is None else repeated(legal),
        )
        logits = log_probs[:, log_probs[0] > ILLEGAL].float()
        logits = logits - logits.mean(-1, keepdim=True)
        choice = 0.5 * (logits[1:] - logits[0]).square().sum(-1)
        value = 0.5 * (values[1:] - values[0]).float().square()
        return self._map(choice), self._map(value)

    def newest(self, obs: Tensor) -> Tensor:
        """The newest picture of one observation `[1, *obs]`, in colour: `[3, H, W]`, 0 to 1."""
        planes = self._planes(obs[0])
        *_, channels, _, _ = self._laid_out(obs[0]).shape
        picture = planes[-3:] if channels == 3 else planes[-1:].expand(3, -1, -1)
        low, high = float(np.min(self._space.low)), float(np.max(self._space.high))
        if not (np.isfinite(low) and np.isfinite(high)):
            low, high = float(picture.min()), float(picture.max())
        return ((picture - low) / max(high - low, 1e-8)).clamp(0, 1)

    def _laid_out(self, picture: Tensor) -> Tensor:
        """One observation as `[…, channels, H, W]`."""
        if picture.dim() == 2:
            return picture.unsqueeze(0)
        return picture if self._channels_first else picture.movedim(-1, -3)

    def _planes(self, picture: Tensor) -> Tensor:
        return self._laid_out(picture).float().cpu().reshape(-1, self.height, self.width)

    def _observations(self, pictures: Tensor, dtype: torch.dtype) -> Obs:
        """Planes `[N, K, H, W]` as the policy sees observations: `[N, *obs]`."""
        shape = self._space.shape
        if len(shape) > 2 and not self._channels_first:
            pictures = pictures.unflatten(1, (*shape[:-3], shape[-1])).movedim(-3, -1)
        pictures = pictures.reshape(-1, *shape)
        if dtype == torch.bool:
            return pictures > 0.5
        return pictures.to(dtype) if dtype.is_floating_point else pictures.round().to(dtype)

    def _map(self, found: Tensor) -> Tensor:
        """A number for each place as a picture `[H, W]`."""
        grid = found.cpu().view(1, 1, *self._grid)
        return F.interpolate(grid, (self.height, self.width), mode="bilinear", align_corners=True)[0, 0]


class SalientActor:
    """A policy that is filmed: plays as it does, and has each frame shown beside what the decision hung on.

    It stands in the place of the policy, and `add` takes the frames of the game, each before the policy acts on what is
    seen with it; `show` is given them `[H, W, 3]` with the agent's own picture on the right: red where the choice of
    the action hangs on it, blue where the value does. `finish` shows the frame that no decision follows.

    Raises:
        RunError: what the policy sees is no picture.
    """

    def __init__(self, policy: Policy, space: Space[Any], show: Callable[[NDArray[np.uint8]], None]) -> None:
        self._policy, self._saliency, self._show = policy, Saliency(policy, space), show
        self.generator = policy.generator
        self._frame: NDArray[np.uint8] | None = None
        self._beside: NDArray[np.uint8] | None = None  # what was shown on the right last
        self._peaks = [0.0, 0.0]

    def initial_state(self, batch_size: int) -> State:
        """The memory before the first observation."""
        return self._policy.initial_state(batch_size)

    def env_action(self, action: np.ndarray) -> np.ndarray:
        """The action as the environment wants it."""
        return self._policy.env_action(action)

    def add(self, frame: NDArray[np.uint8]) -> None:
        """What the game looks like now, `[H, W, 3]`."""
        self._frame = frame

    def act(
        self, obs: Obs, state: State, is_first: Tensor, legal: Tensor | None = None, deterministic: bool = False
    ) -> Decision:
        """Choose an action in one environment."""
        if self._frame is not None:
            assert isinstance(obs, Tensor)
            self._beside = self._drawn(obs, state, is_first, legal)
            self._show(np.concatenate([self._frame, self._beside], 1))
            self._frame = None
        return self._policy.act(obs, state, is_first, legal, deterministic=deterministic)

    def finish(self) -> None:
        """Show the last frame, what the game ended with, beside what the last decision hung on."""
        if self._frame is not None and self._beside is not None:
            self._show(np.concatenate([self._frame, self._beside], 1))
            self._frame = None

    def _drawn(self, obs: Tensor, state: State, is_first: Tensor, legal: Tensor | None) -> NDArray[np.uint8]:
        """The agent's picture with both maps on it, as high as the frame."""
        assert self._frame is not None
        tinted = 0.6 * self._saliency.newest(obs)
        for i, (channel, found) in enumerate(zip((0, 2), self._saliency(obs, state, is_first, legal), strict=True)):
            self._peaks[i] = max(float(found.max()), FADE * self._peaks[i], 1e-12)
            tinted[channel] += found / self._peaks[i]
        height = self._frame.shape[0]
        width = max(1, round(height * self._saliency.width / self._saliency.height))
        large = F.interpolate(tinted.clamp(0, 1).unsqueeze(0), (height, width), mode="nearest")[0]
        return (255 * large).round().to(torch.uint8).permute(1, 2, 0).numpy()


def film_saliency(
    policy: Policy,
    envs: VectorEnv[Any, Any, Any],
    add_frame: Callable[[NDArray[np.uint8]], None],
    seed: int,
    num_episodes: int = 1,
    deterministic: bool = True,
) -> Evaluation:
    """Like `film`, with each frame beside what the decision that followed it hung on; the games are the same.

    Raises:
        RunError: what the policy sees is no picture.
    """
    actor = SalientActor(policy, envs.single_observation_space, add_frame)
    played = film(actor, envs, actor.add, seed, num_episodes, deterministic)
    actor.finish()
    return played


def _places(side: int) -> Tensor:
    """Where on a side something is blurred, in pixels."""
    return torch.linspace(0, side - 1, min(side, NUM_PLACES))


def _bells(side: int, centres: Tensor, deviation: float) -> Tensor:
    """`[centres, side]`: bell curves, 1 where they are highest."""
    return torch.exp(-0.5 * ((torch.arange(side) - centres.unsqueeze(1)) / deviation).square())


def _blur(side: int, deviation: float) -> Tensor:
    """`[side, side]`: each pixel as the weighted mean of those around it."""
    bells = _bells(side, torch.arange(side), deviation)
    return bells / bells.sum(1, keepdim=True)


def _in_words(space: Space[Any]) -> str:
    return f"a Box of shape {space.shape}" if isinstance(space, spaces.Box) else f"a {type(space).__name__}"


__all__ = ["Saliency", "SalientActor", "film_saliency"]
