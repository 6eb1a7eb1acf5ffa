"""What segmentation and detection share: scenes of cut-outs on photos, and a head on maps. S side of a picture."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Lt, MinLen
from gymnasium import spaces
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from triathlon.networks.backbone import Backbone
from triathlon.networks.errors import SettingError
from triathlon.networks.images import MapShape
from triathlon.training.supervised.examples import Splits
from triathlon.training.supervised.pictures.cutout_sources import read_cutouts, read_photos
from triathlon.training.supervised.pictures.cutouts import Composer, Scene, Scenes
from triathlon.training.supervised.pictures.map_head import MapNetwork
from triathlon.training.supervised.pictures.sources import read_picture
from triathlon.training.supervised.task import Picture, Task, TaskConfig

NUM_VALIDATION, NUM_TEST = 300, 1000
WIDEST_TURNED = 1.42  # side of a square that holds a square, however it is turned


@dataclass(frozen=True)
class CutoutConfig(TaskConfig):
    """Settings of a task on cut-outs."""

    source: Annotated[str, MinLen(1), "emoji, or a folder with a folder of transparent pictures for each class"] = (
        "emoji"
    )
    classes: Annotated[tuple[str, ...], "which classes of the source; empty: eight emoji, or all folders"] = ()
    photos: Annotated[str, MinLen(1), "scikit-image, or a folder of photos to put the objects on"] = "scikit-image"
    size: Annotated[int, Ge(16), "side of a picture in pixels"] = 64
    smallest: Annotated[int, Ge(4), "longer side of the smallest object in pixels"] = 16
    largest: Annotated[int, Ge(4), "longer side of the largest object in pixels, before it is turned"] = 32
    most_objects: Annotated[int, Gt(0), "objects on a picture at most"] = 4
    num_examples: Annotated[int, Gt(0), "pictures in an epoch"] = 12_000
    head_channels: Annotated[int, Gt(0), "channels inside the head"] = 32
    dropout: Annotated[float, Ge(0), Lt(1), "share of the head's channels and places that is left out"] = 0.0

    def __post_init__(self) -> None:
        if self.smallest > self.largest:
            raise SettingError(f"smallest is {self.smallest}, more than largest ({self.largest}); make it less")
        if self.largest * WIDEST_TURNED > self.size:
            most = int(self.size / WIDEST_TURNED)
            raise SettingError(
                f"largest is {self.largest}, but turned objects of more than {most} do not fit into pictures of "
                f"{self.size}; make it less, or size more"
            )


class CutoutTask(Task):
    """Pictures `[S, S, 3]` of bytes, and the truth about each of their places.

    Photos that are learned on are not tested on; nor is the same scene.
    """

    config: CutoutConfig

    def __init__(self, config: CutoutConfig, facts: dict[str, Any] | None = None) -> None:
        self.config, self.data = config, None
        if facts is None:
            cutouts, photos = read_cutouts(config.source, config.classes), read_photos(config.photos)
            objects, parts = list(cutouts.values()), (photos.train, photos.validation, photos.test)
            sizes = (config.smallest, config.largest)
            composer = Composer(objects, parts, config.size, sizes, config.most_objects)
            numbers = (config.num_examples, NUM_VALIDATION, NUM_TEST)
            self.data = Splits(*(Scenes(composer, part, num, self.target) for part, num in enumerate(numbers)))
            pixels = [np.asarray(cutout) for kind in objects for cutout in kind] + [p for part in parts for p in part]
            digest = hashlib.sha256(b"".join(array.tobytes() for array in pixels)).hexdigest()
            facts = {"classes": list(cutouts), "size": config.size, "sha256": digest}
        self.facts = facts
        self.space = spaces.Box(0, 255, (facts["size"], facts["size"], 3), np.uint8)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.facts["classes"]
        return names

    @abstractmethod
    def target(self, scene: Scene) -> NDArray[Any]:
        """What is to be answered, of one shape for all scenes."""

    @abstractmethod
    def make_map_head(self, shapes: tuple[MapShape, ...]) -> nn.Module:
        """What stands on the maps: `head(maps, generator)`."""

    def make_network(self, backbone: Backbone) -> MapNetwork:
        return MapNetwork(backbone, self.make_map_head, self.config.kind)


def read_whole(file: Path) -> Picture:
    """A person's photo in its own size, `[H, W, 3]`; raises RunError where there is none."""
    return read_picture(file, None, is_grey=False)


def scaled(picture: Picture, side: int) -> Picture:
    """`[H, W, 3]` as the square `[S, S, 3]` that a network reads."""
    return np.array(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))


__all__ = ["CutoutConfig", "CutoutTask", "read_whole", "scaled"]
