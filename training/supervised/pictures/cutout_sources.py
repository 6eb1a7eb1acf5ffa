"""Pictures of objects without a background, and photos to put them on.

H height, W width of a picture, which differ from picture to picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.pictures.sources import NO_PICTURE, SUFFIXES, read_picture
from triathlon.training.supervised.sources import PartsConfig, packaged, pick, three_parts

EMOJI = "emoji-datasource-twitter"
EMOJI_CLASSES = ("cat", "dog", "octopus", "apple", "pizza", "soccer", "bus", "sunflower")
SMALLEST_PHOTO = 32  # pixels; less is no place to put anything

# Photos that come with scikit-image and scikit-learn: what is learned on, what chooses the checkpoint, what tests.
PHOTOS = (
    (
        *(f"skimage/data/{name}.png" for name in ("astronaut", "camera", "brick", "grass", "ihc", "coins")),
        *(f"skimage/data/{name}" for name in ("hubble_deep_field.jpg", "rocket.jpg", "motorcycle_left.png")),
        "sklearn/datasets/images/china.jpg",
    ),
    ("skimage/data/retina.jpg", "skimage/data/gravel.png", "skimage/data/moon.png"),
    ("skimage/data/chelsea.png", "skimage/data/coffee.png", "sklearn/datasets/images/flower.jpg"),
)

Photo = NDArray[np.uint8]  # [H, W, 3]


@dataclass(frozen=True)
class Photos:
    """Backgrounds in three parts: no photo is in two of them."""

    train: list[Photo]
    validation: list[Photo]
    test: list[Photo]


def emoji_folder() -> Path:
    """Where `npm install --prefix ~/.local/share/triathlon emoji-datasource-twitter` puts the package."""
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "triathlon" / "node_modules" / EMOJI


def read_cutouts(source: str, classes: Sequence[str] = ()) -> dict[str, list[Image.Image]]:
    """Objects of each class, RGBA and cut to what can be seen of them.

    Args:
        source: `emoji`, a folder of that package, or a folder with a folder of pictures for each class.
        classes: which of them; empty: eight emoji, or all folders.

    Raises:
        RunError: no such source or class, or a picture cannot be read, has nothing on it or no transparent pixel.
    """
    folder = emoji_folder() if source == "emoji" else Path(source).expanduser()
    if source == "emoji" and not folder.is_dir():
        raise RunError(
            f"task.source: the emoji are not in {folder}; get them with 'npm install --prefix "
            f"{folder.parent.parent} {EMOJI}@16.0.0', or give a folder of your own as the source"
        )
    if not folder.is_dir():
        raise RunError(
            f"task.source: there is no folder '{source}'{nearest(source, ['emoji'])}; give one with a folder of "
            "pictures for each class, or 'emoji'"
        )
    if (folder / "emoji.json").is_file():
        files = _emoji(folder)
        classes = classes or EMOJI_CLASSES
    else:
        files = _folders(folder)
        classes = classes or sorted(files)
    for name in classes:
        if name not in files:
            raise RunError(f"task.classes: {folder} has no '{name}'{nearest(name, files)}")
    if len(set(classes)) < len(classes):
        raise RunError(f"task.classes names a class twice: {', '.join(classes)}")
    return {name: [_read_cutout(file) for file in files[name]] for name in classes}


def _emoji(folder: Path) -> dict[str, list[Path]]:
    try:
        entries = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
        pictures = folder / "img" / "twitter" / "64"
        return {entry["short_name"]: [pictures / entry["image"]] for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"task.source: {folder / 'emoji.json'} is no list of emoji: {error}") from error


def _folders(folder: Path) -> dict[str, list[Path]]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = {name: _pictures(folder / name) for name in names}
    empty = [name for name in names if not files[name]]
    if empty or not names:
        found = f"nothing in {empty[0]}" if empty else "none"
        raise RunError(f"task.source: {folder} should have a folder of pictures for each class; it has {found}")
    return files


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _read_cutout(path: Path) -> Image.Image:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except NO_PICTURE as error:
        raise RunError(f"{path} cannot be read as a picture: {error}") from error
    visible = np.asarray(picture)[..., 3] >= 128
    if visible.all() or not visible.any():
        found = "no transparent pixel, so nothing says where the object ends" if visible.all() else "nothing on it"
        raise RunError(f"task.source: {path} has {found}")
    rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
    return picture.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def read_photos(source: str) -> Photos:
    """The photos of a source: `scikit-image` (with two of scikit-learn), or a folder of at least three.

    Those of a folder are parted by a seed that is always the same.

    Raises:
        RunError: no such source, too few photos, a package is missing, or one cannot be read.
    """
    if source == "scikit-image":
        return Photos(*([_read_photo(_packaged(inside)) for inside in part] for part in PHOTOS))
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise RunError(
            f"task.photos: there is no folder '{source}'{nearest(source, ['scikit-image'])}; give a folder of photos, "
            "or 'scikit-image'"
        )
    files = _pictures(folder)
    if len(files) < 3:
        raise RunError(f"task.photos: {folder} has {len(files)} photos; to learn, choose and test takes three or more")
    parted = three_parts(files, None, None, PartsConfig(), pick, len, "photos")
    return Photos(*([_read_photo(file) for file in part] for part in parted))


def _packaged(inside: str) -> Path:
    """A file of an installed package, found without importing it."""
    module, _, rest = inside.partition("/")
    return packaged(
        module,
        rest,
        "task.photos: these come with scikit-image and scikit-learn; install them with: "
        "pip install scikit-image scikit-learn",
    )


def _read_photo(path: Path) -> Photo:
    photo = read_picture(path, None, is_grey=False)
    if min(photo.shape[:2]) < SMALLEST_PHOTO:
        raise RunError(f"task.photos: {path} is smaller than {SMALLEST_PHOTO} x {SMALLEST_PHOTO} pixels")
    return photo


__all__ = ["EMOJI_CLASSES", "Photo", "Photos", "emoji_folder", "read_cutouts", "read_photos"]
