"""What of a picture a decision hangs on: places that are known, layouts, and the film."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from triathlon.envs import make_envs
from triathlon.networks.errors import SettingError
from triathlon.scripts.main import main
from triathlon.training.errors import RunError
from triathlon.training.evaluate import film
from triathlon.training.saliency import Saliency, SalientActor, film_saliency

FIRST = torch.ones(1, dtype=torch.bool)
MINE = {"kind": "cnn", "channels": [4], "kernel_sizes": [3], "strides": [1], "features": 8}


class Onlooker:
    """Chooses by the pixel at (20, 6) and values by that at (9, 30) of the newest picture, wherever the planes are."""

    def __init__(self, take: Callable[[Tensor], Tensor]) -> None:
        self.take = take  # from observations [B, *obs] to the newest picture [B, H, W]
        self.seen = torch.zeros(0)

    def assess(self, obs: Tensor, state: Any, is_first: Tensor, legal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen = obs
        assert len(obs) == len(is_first) == len(state[0])
        picture = self.take(obs).float()
        logits = torch.stack([picture[:, 20, 6], torch.zeros(len(obs)), torch.ones(len(obs))], 1)
        if legal is not None:
            logits = logits.masked_fill(~legal, -torch.inf)
        return logits.log_softmax(1), 2 * picture[:, 9, 30]


LAYOUTS: dict[str, tuple[spaces.Box, Callable[[Tensor], Tensor]]] = {
    "stack of grey": (spaces.Box(0, 255, (4, 28, 42), np.uint8), lambda obs: obs[:, -1]),
    "colours last": (spaces.Box(0, 255, (28, 42, 3), np.uint8), lambda obs: obs[..., 1]),
    "stack of colours": (spaces.Box(0, 255, (2, 28, 42, 3), np.uint8), lambda obs: obs[:, -1, :, :, 2]),
    "one plane": (spaces.Box(0, 255, (28, 42), np.uint8), lambda obs: obs),
    "floats": (spaces.Box(-1, 1, (28, 42, 1), np.float32), lambda obs: 200 * obs[..., 0]),
    "flags": (spaces.Box(0, 1, (28, 42, 5), np.bool_), lambda obs: 200 * obs[..., 4].float()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_where_the_policy_looks(layout: str) -> None:
    space, take = LAYOUTS[layout]
    policy = Onlooker(take)
    saliency = Saliency(policy, space)  # type: ignore[arg-type]  # only its assessments are asked for
    obs = np.zeros((1, *space.shape), space.dtype)
    picture = take(torch.from_numpy(obs)).numpy() if layout == "one plane" else None
    view = torch.from_numpy(obs)
    bright = torch.zeros(1, 28, 42)
    bright[0, 20, 6] = bright[0, 9, 30] = 1.0
    # Every plane has the two points, so that the newest has them too.
    planes = saliency._laid_out(view[0])
    planes.copy_((bright[0] * (1.0 if space.dtype != np.uint8 else 8.0)).to(planes.dtype).expand(planes.shape))
    assert picture is None or take(view)[0, 20, 6] == 8
    choice, value = saliency(view, (torch.zeros(1, 3),), FIRST)
    assert choice.shape == value.shape == (28, 42)
    assert policy.seen.dtype == view.dtype and policy.seen.shape[1:] == space.shape
    assert policy.seen[0].equal(view[0]), "the first is as it was seen"
    for found, (row, column) in ((choice, (20, 6)), (value, (9, 30))):
        place = divmod(int(found.argmax()), 42)
        assert abs(place[0] - row) <= 2 and abs(place[1] - column) <= 3
        assert found[row - 1 : row + 2, column - 1 : column + 2].min() > 100 * found[0, 41]
    assert choice[9, 30] < 1e-3 * choice.max() and value[20, 6] < 1e-3 * value.max()


def test_how_much_is_measured_by_the_networks_own_logits() -> None:
    """Where 8 is blurred to 1, centred logits (5, -3, -2) move by 7 · (2/3, -1/3, -1/3): half the square of that."""
    space = spaces.Box(0, 255, (27, 40), np.uint8)  # the 14 places to a side are 2 and 3 pixels apart
    saliency = Saliency(Onlooker(lambda obs: obs), space)  # type: ignore[arg-type]
    obs = torch.zeros(1, 27, 40, dtype=torch.uint8)
    obs[0, 20, 6] = 8
    choice, value = saliency(obs, (torch.zeros(1, 3),), FIRST)
    assert float(choice[20, 6]) == float(choice.max()) == pytest.approx(49 / 3, rel=1e-4)
    assert not value.any()
    legal = torch.tensor([[True, False, True]])
    assert float(saliency(obs, (torch.zeros(1, 3),), FIRST, legal)[0].max()) == pytest.approx(49 / 4, rel=1e-4)


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
@pytest.mark.parametrize("backbone", [MINE, {"kind": "lstm", "hidden_size": 4, "encoder": MINE}], ids=["cnn", "lstm"])
def test_a_film_with_it_is_of_the_same_games(practise: Callable[..., Any], agent: str, backbone: Any) -> None:
    practice = practise({"id": "triathlon/Catch-v0", "num_envs": 1}, {"kind": agent}, backbone)
    envs = make_envs(practice.experiment.env, 1, render=True)
    plain: list[np.ndarray] = []
    both: list[np.ndarray] = []
    policy = practice.learner.policy
    without = film(policy, envs, plain.append, seed=3, num_episodes=2)
    found = film_saliency(policy, envs, both.append, seed=3, num_episodes=2)
    assert found == without
    for before, frame in zip(plain, both, strict=True):
        height, width = before.shape[:2]
        assert frame.dtype == np.uint8 and frame.shape == (height, 2 * width, 3)
        assert np.array_equal(frame[:, :width], before)
    seen = np.stack(both)[:, :, plain[0].shape[1] :].astype(int)
    assert (seen[..., 0] != seen[..., 1]).any() and (seen[..., 2] != seen[..., 1]).any()  # red and blue
    assert np.array_equal(seen[-1], seen[-2]), "no decision follows the last frame: the one before it stays"


def test_what_sees_no_picture_has_none(practise: Callable[..., Any], tmp_path: Path) -> None:
    practice = practise("CartPole-v1", "ppo")
    with pytest.raises(RunError, match=r"saliency is of pictures, and what this agent sees is a Box of shape \(4,\)"):
        SalientActor(practice.learner.policy, practice.envs.single_observation_space, print)
    arguments = ["train", "cartpole_ppo", "--root", str(tmp_path), "--total-steps", "100"]
    assert main([*arguments, "--evaluation.saliency", "true"]) == 2
    assert not list(tmp_path.rglob("*.safetensors"))


def test_continuous_actions_have_none(practise: Callable[..., Any]) -> None:
    policy = practise("Pendulum-v1", "ppo").learner.policy
    with pytest.raises(SettingError, match="single actions are assessed of a Discrete action space"):
        policy.assess(torch.zeros(1, 3), (), FIRST)


def test_a_run_films_it_and_watch_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from imageio_ffmpeg import read_frames

    settings = {"total-steps": 2000, "evaluation.final-episodes": 0, "evaluation.saliency": "true", "name": "seen"}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["train", "catch_ppo", "--root", str(tmp_path), *words]) == 0
    folder = next(tmp_path.rglob("seen"))
    assert main(["watch", str(folder), "--out", str(tmp_path / "plain.mp4")]) == 0
    assert main(["watch", str(folder), "--out", str(tmp_path / "both.mp4"), "--saliency"]) == 0
    sizes = [
        next(read_frames(str(file)))["size"]
        for file in (tmp_path / "plain.mp4", tmp_path / "both.mp4", folder / "videos" / "final.mp4")
    ]
    assert sizes[1] == sizes[2] == (2 * sizes[0][0], sizes[0][1])
    assert main(["watch", str(folder), "--saliency", "--out", str(tmp_path / "no.mp4"), "--search", "4"]) == 2
    assert "--saliency is shown beside a film of the bare policy" in capfd.readouterr().err
