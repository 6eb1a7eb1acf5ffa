"""What comes next on the screen, or what is on it now: a backbone that learns to see before it learns to play.

T rows, B columns, N = T · B, D features, A numbers of an action, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from triathlon.networks.backbone import State
from triathlon.networks.initialization import orthogonal
from triathlon.networks.spaces import flat_reader, image_layout, image_size
from triathlon.training.errors import RunError
from triathlon.training.supervised.drawing import sheet, write_answer
from triathlon.training.supervised.examples import Batch, Dataset
from triathlon.training.supervised.heads import Network
from triathlon.training.supervised.pictures.decoder import Decoder
from triathlon.training.supervised.played import space_json
from triathlon.training.supervised.played.recorded_task import RecordedTask, RecordedTaskConfig
from triathlon.training.supervised.played.rows import RecordedRows, RowBatch
from triathlon.training.supervised.task import Evaluation

NUM_SHOWN = 12


@dataclass(frozen=True)
class FramePredictionConfig(RecordedTaskConfig):
    """Settings of frame prediction."""

    kind: Annotated[str, "what comes next on the screen"] = "frame_prediction"
    target: Annotated[
        Literal["next", "same"], "next: what is seen after the action; same: what is seen now (an autoencoder)"
    ] = "next"
    hidden_size: Annotated[int, Gt(0), "units between features and action, and the decoder"] = 256
    decoder_channels: Annotated[int, Gt(0), "channels inside the decoder"] = 32


class FrameHead(nn.Module):
    """`features [T, B, D]` and an action to pictures `[N, C, H, W]`, as logits."""

    def __init__(
        self,
        in_features: int,
        action_space: Space[Any] | None,
        hidden: int,
        picture: tuple[int, int, int],
        channels: int,
    ) -> None:
        super().__init__()
        self._read, num_actions = (None, 0) if action_space is None else flat_reader(action_space, "frame_prediction")
        self.join = orthogonal(nn.Linear(in_features + num_actions, hidden))
        self.decoder = Decoder(hidden, *picture, channels)
        self._sees_action = action_space is not None

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        if self._sees_action:
            done = action if self._read is None else self._read(action)
            features = torch.cat([features, done.to(features.dtype)], -1)
        return self.decoder.logits(torch.relu(self.join(features)).flatten(0, 1))


class FramePrediction(RecordedTask):
    """Pictures from pictures; each pixel is scaled to 0 … 1 and taken for a probability (cross-entropy)."""

    Config = FramePredictionConfig
    config: FramePredictionConfig
    space: spaces.Box

    def __init__(self, config: FramePredictionConfig, facts: dict[str, Any] | None = None) -> None:
        super().__init__(config, facts)
        self.space = _picture_space(self.space)

    @property
    def reads_actions(self) -> bool:
        return self.config.target == "next"

    def make_head(self, in_features: int) -> FrameHead:
        channels, height, width, _ = image_layout(self.space.shape)
        # Actions are counted from 0 here, whatever the space's start.
        space = space_json.from_json(self.facts["action_space"] | self._start()) if self.reads_actions else None
        picture = channels, height, width
        return FrameHead(in_features, space, self.config.hidden_size, picture, self.config.decoder_channels)

    def _start(self) -> dict[str, Any]:
        start = getattr(self.action_space, "start", None)
        return {} if start is None else {"start": np.zeros_like(start).tolist()}

    def loss(
        self, network: Network, batch: Batch, state: State | None, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        assert isinstance(batch, RowBatch)
        made, wanted, state = self._made(network, batch, state)
        return F.binary_cross_entropy_with_logits(made, wanted), state

    def evaluate(self, network: Network, dataset: Dataset, batch_size: int, device: torch.device) -> Evaluation:
        assert isinstance(dataset, RecordedRows)
        total, num = np.zeros(3), 0
        shown: list[NDArray[np.uint8]] = []
        state: State | None = None
        for batch in dataset.in_order(batch_size):
            batch = batch.to(device)
            made, wanted, state = self._made(network, batch, state)
            seen = self.pictures(batch.obs)[batch.valid.flatten()]
            errors = (
                F.binary_cross_entropy_with_logits(made, wanted),
                F.mse_loss(torch.sigmoid(made), wanted),
                F.mse_loss(seen, wanted),
            )
            if not shown and len(seen):
                chosen = np.linspace(0, len(seen) - 1, NUM_SHOWN).astype(int)
                shown = [_flat(x[i]) for x in (seen, wanted, torch.sigmoid(made)) for i in chosen]
            total += len(seen) * np.array([float(error) for error in errors]) if len(seen) else 0
            num += len(seen)
        metrics = dict(zip(("loss", "squared_error", "squared_error_of_copying"), (total / num).tolist(), strict=True))
        metrics["squared_error_of_mean"] = self._spread(dataset)
        if self.config.target == "same":
            del metrics["squared_error_of_copying"]  # which is 0
        return Evaluation(metrics, {"seen_wanted_made": sheet(shown, NUM_SHOWN)})

    def predict(self, network: Network, files: Sequence[Path], device: torch.device) -> Iterator[str]:
        """Folders of recordings: how far off it is, and pictures of what was seen, what came and what it said."""
        for file, found in self.measured(network, files, device):
            out = write_answer(file, "frames", found.pictures["seen_wanted_made"])
            yield f"{file}: {', '.join(f'{k} {v:.5f}' for k, v in found.metrics.items())}, pictures in {out}"

    def pictures(self, obs: Tensor) -> Tensor:
        """`[T, B, *obs]` as `[N, C, H, W]` from 0 to 1."""
        channels, height, width, channels_first = image_layout(self.space.shape)
        x = obs.flatten(0, 1).float()
        if not channels_first:
            x = x.movedim(-1, -3)
        low, high = float(self.space.low.min()), float(self.space.high.max())
        return (x.reshape(-1, channels, height, width) - low) / (high - low)

    def _made(self, network: Network, batch: RowBatch, state: State | None) -> tuple[Tensor, Tensor, State]:
        """Logits and what they should be, `[n, C, H, W]` of the n rows that were played, and the memory."""
        features, state = network.backbone(batch.obs, state, batch.is_first)
        chosen = batch.valid.flatten()
        return network.head(features, batch.target)[chosen], self._wanted(batch), state

    def _wanted(self, batch: RowBatch) -> Tensor:
        """The pictures `[n, C, H, W]` that should be made, of the n rows that were played."""
        wanted = self.pictures(batch.next_obs if self.config.target == "next" else batch.obs)
        return wanted[batch.valid.flatten()]

    def _spread(self, dataset: RecordedRows) -> float:
        """The squared error of showing the mean of the pictures that should be made, whatever is seen."""
        mean = square = torch.zeros(())
        num = 0
        for batch in dataset.in_order(1024):
            x = self._wanted(batch).double()
            mean, square, num = mean + x.sum(0), square + x.square().sum(0), num + len(x)
        return float((square / num - (mean / num).square()).mean())


def _picture_space(space: Space[Any]) -> spaces.Box:
    if not isinstance(space, spaces.Box) or image_size(space) is None:
        raise RunError(f"frame_prediction learns from pictures, and the recording's observations are {space}")
    if not space.is_bounded():
        raise RunError("frame_prediction scales pixels by their bounds, and the recording's pictures have none")
    return space


def _flat(picture: Tensor) -> NDArray[np.uint8]:
    """`[C, H, W]` as bytes `[H, W]`: of each pixel the brightest of its channels, or of a film's last frames."""
    found: NDArray[np.uint8] = (255 * picture.amax(0)).round().to(torch.uint8).cpu().numpy()
    return found


__all__ = ["FramePrediction", "FramePredictionConfig"]
