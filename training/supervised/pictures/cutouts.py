"""Objects put on photos: pictures of which every pixel's class and every object's box are known exactly.

B pictures, S their side in pixels, M objects on a picture, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from triathlon.training.supervised.examples import SPLIT_SEED, Batch, Indices
from triathlon.training.supervised.pictures.cutout_sources import Photo

ANGLES = range(-30, 31, 5)  # degrees
SMALLEST_SHARE = 0.6  # of an object that must stay in sight when others are put upon it
TRIES = 8  # places that are tried before an object is left out
ZOOMS = (1.0, 1.5, 2.0, 3.0, 4.0)  # shorter side of a photo, in windows
LIGHT = (0.75, 1.25)  # what each colour of a picture is multiplied with
CONTRAST = (0.5, 1.5)  # of each colour of a photo that is learned on
BRIGHTNESS = 60.0  # what is added to it at most, of 255
LEARNED = 0  # the part that is learned on
PHOTO = -1  # the owner of a pixel where no object is
NUM_REMEMBERED = 16_384  # turned objects, which take longer to make than all the rest of a scene


@dataclass(frozen=True)
class Scene:
    """One picture and the truth about it."""

    picture: NDArray[np.uint8]  # [S, S, 3]
    mask: NDArray[np.int64]  # [S, S]: 0 for the photo, 1 + class for an object
    boxes: NDArray[np.float32]  # [M, 4]: left, top, right, bottom in pixels around what is seen of each object
    classes: NDArray[np.int64]  # [M]


class _Canvas:
    """A photo with objects upon each other, and which of them is seen at each pixel."""

    def __init__(self, photo: NDArray[np.float32]) -> None:
        self.picture = photo
        self.owner = np.full(photo.shape[:2], PHOTO)
        self._areas: list[int] = []  # pixels of each object, seen or not
        self._seen = np.zeros(0, np.int64)  # pixels of each object that are seen

    def put(self, cutout: NDArray[np.uint8], rng: np.random.Generator) -> bool:
        """Put `[h, w, 4]` on top where it leaves enough of the others; False if no such place was found."""
        solid = cutout[..., 3] >= 128
        if not solid.any():  # so thin that nothing is left of it when it is made small
            return False
        room = np.subtract(self.owner.shape, solid.shape)
        for _ in range(TRIES):
            top, left = (int(rng.integers(pixels + 1)) for pixels in room)
            place = np.s_[top : top + solid.shape[0], left : left + solid.shape[1]]
            hidden = np.bincount(self.owner[place][solid] - PHOTO, minlength=len(self._areas) + 1)[1:]
            left_over = self._seen - hidden
            if (left_over >= SMALLEST_SHARE * np.array(self._areas)).all():
                alpha = cutout[..., 3:].astype(np.float32) / 255
                self.picture[place] += alpha * (cutout[..., :3] - self.picture[place])
                self.owner[place][solid] = len(self._areas)
                self._areas.append(int(solid.sum()))
                self._seen = np.append(left_over, self._areas[-1])
                return True
        return False

    def boxes(self) -> NDArray[np.float32]:
        """`[M, 4]` around what is seen of each object."""
        found = np.zeros((len(self._areas), 4), np.float32)
        for i in range(len(found)):
            rows, columns = (np.flatnonzero((self.owner == i).any(axis)) for axis in (1, 0))
            found[i] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return found


class Composer:
    """Makes scenes. Scene `index` of a `part` is always the same, whatever was made before it.

    One to `most_objects` objects of sizes, angles and places that are drawn evenly; half of them are mirrored, and all
    stand in light of a random colour. The photos that are learned on are turned and given other colours too: a few of
    them have to do for all that photos may show.

    Args:
        cutouts: of each class its objects, RGBA, no pixel wider than what is seen of them.
        photos: of each part its backgrounds.
        side: of a picture, in pixels.
        sizes: shortest and longest side that an object's longer side is scaled to, before it is turned; with the
            corners of what is turned it has to fit into the picture.
    """

    def __init__(
        self,
        cutouts: Sequence[Sequence[Image.Image]],
        photos: Sequence[Sequence[Photo]],
        side: int,
        sizes: tuple[int, int],
        most_objects: int,
    ) -> None:
        self._cutouts, self._side, self._sizes, self._most_objects = cutouts, side, sizes, most_objects
        self._turned = lru_cache(NUM_REMEMBERED)(self._turn)
        self._photos = [[scaled for photo in part for scaled in _zoomed(photo, side)] for part in photos]

    def scene(self, part: int, index: int) -> Scene:
        """Scene `index` (from 0) of a part."""
        rng = np.random.default_rng(np.random.SeedSequence(SPLIT_SEED, spawn_key=(part, index)))
        canvas = _Canvas(self._window(part, rng))
        low, high = self._sizes
        classes: list[int] = []
        for _ in range(int(rng.integers(1, self._most_objects + 1))):
            kind = int(rng.integers(len(self._cutouts)))
            which, scaled = int(rng.integers(len(self._cutouts[kind]))), int(rng.integers(low, high + 1))
            turned = self._turned(kind, which, scaled, bool(rng.random() < 0.5), ANGLES[int(rng.integers(len(ANGLES)))])
            if canvas.put(turned, rng):
                classes.append(kind)
        lit = canvas.picture * rng.uniform(*LIGHT, 3).astype(np.float32)
        mask = np.array([0, *(kind + 1 for kind in classes)])[canvas.owner - PHOTO]
        return Scene(lit.clip(0, 255).astype(np.uint8), mask, canvas.boxes(), np.array(classes, np.int64))

    def _window(self, part: int, rng: np.random.Generator) -> NDArray[np.float32]:
        photo = self._photos[part][int(rng.integers(len(self._photos[part])))]
        top, left = (int(rng.integers(pixels - self._side + 1)) for pixels in photo.shape[:2])
        window = photo[top : top + self._side, left : left + self._side]
        square: NDArray[np.float32] = (window[:, ::-1] if rng.random() < 0.5 else window).astype(np.float32)
        return _changed(square, rng) if part == LEARNED else square

    def _turn(self, kind: int, which: int, longer: int, mirrored: bool, angle: int) -> NDArray[np.uint8]:
        """An object of a class in a size and an attitude, `[h, w, 4]`."""
        cutout = self._cutouts[kind][which]
        width, height = (max(1, round(pixels * longer / max(cutout.size))) for pixels in cutout.size)
        cutout = cutout.resize((width, height), Image.Resampling.BILINEAR)
        if mirrored:
            cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(cutout.rotate(angle, Image.Resampling.BILINEAR, expand=True))


def _changed(window: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A square of a photo turned by right angles, its colours exchanged and each of them changed."""
    window = np.rot90(window, int(rng.integers(4)))[..., rng.permutation(3)]
    mean = window.mean((0, 1))
    changed = mean + rng.uniform(*CONTRAST, 3) * (window - mean) + rng.uniform(-BRIGHTNESS, BRIGHTNESS, 3)
    recoloured: NDArray[np.float32] = changed.clip(0, 255).astype(np.float32)
    return recoloured


def _zoomed(photo: Photo, side: int) -> list[Photo]:
    """A photo in several sizes, each at least as large as a window."""
    image, scaled = Image.fromarray(photo), []
    for zoom in ZOOMS:
        scale = zoom * side / min(image.size)
        if scale <= 1.0 or zoom == ZOOMS[0]:  # nothing is gained by making a photo larger than it is
            size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
            scaled.append(np.asarray(image.resize(size, Image.Resampling.BILINEAR)))
    return scaled


@dataclass(frozen=True)
class Scenes:
    """N scenes as examples, made when they are asked for: `obs [1, B, S, S, 3]` and what `target` takes from each."""

    composer: Composer
    part: int
    num_examples: int
    target: Callable[[Scene], NDArray[Any]]  # arrays of one shape

    def __len__(self) -> int:
        return self.num_examples

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Indices]:
        """A shuffled epoch. Scenes beyond the last whole batch are left for another epoch's shuffle."""
        size = min(batch_size, len(self))
        indices = rng.permutation(len(self))
        return [indices[i : i + size] for i in range(0, len(self) - size + 1, size)]

    def batch(self, indices: Indices) -> Batch:
        """These scenes."""
        scenes = [self.composer.scene(self.part, int(i)) for i in indices]
        pictures = torch.from_numpy(np.stack([scene.picture for scene in scenes]))
        return Batch(pictures.unsqueeze(0), torch.from_numpy(np.stack([self.target(scene) for scene in scenes])))

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All scenes, one batch after another."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))


__all__ = ["Composer", "Scene", "Scenes"]
