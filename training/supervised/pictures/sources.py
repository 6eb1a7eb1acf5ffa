"""Labelled pictures: sets that come with packages, IDX files, and a person's own folders.

N pictures, H height, W width, C channels.
"""

from __future__ import annotations

import gzip
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from triathlon.networks.errors import nearest
from triathlon.training.errors import RunError
from triathlon.training.supervised.sources import USUAL_PARTS, PartsConfig, class_names, three_parts

SOURCES = ("digits", "fashion_mnist")
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
NO_PICTURE = (OSError, ValueError, Image.DecompressionBombError)  # what reading a file raises that is no picture

Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]  # [N, H, W] grey or [N, H, W, 3], and the class of each [N]


@dataclass(frozen=True)
class PictureData:
    """Pictures in three parts."""

    classes: list[str]
    train: Pictures
    validation: Pictures
    test: Pictures


def read_pictures(source: str, size: int | None, parts: PartsConfig = USUAL_PARTS) -> PictureData:
    """The pictures of a source: `digits`, `fashion_mnist`, a folder of IDX files, or one with a folder for each class.

    What parts a source does not have are split off as `parts` says, by a seed that is always the same. `size` is
    the side to which a person's pictures are scaled, which the sources that have a size of their own do not read.

    Raises:
        RunError: no such source or folder, a package or file is missing, or `size` or `parts` is missing or not read.
    """
    folder = Path(source).expanduser()
    is_own = folder.is_dir() and source not in SOURCES and not _idx(folder, "train-images")
    if size is None and is_own:
        raise RunError(f"task.size is missing: pictures in {source} are scaled to a square of so many pixels, e.g. 64")
    if size is not None and not is_own:
        raise RunError(f"task.size is {size}, but it is read for a folder of pictures only; leave it out")
    if source == "digits":
        return _digits(parts)
    if source == "fashion_mnist":
        if not FASHION_MNIST.is_dir():
            raise RunError(
                f"task.source: Fashion-MNIST is not in {FASHION_MNIST}; on Debian and Ubuntu 'apt-get install "
                "dataset-fashion-mnist' puts it there, or give the folder with its four .gz files as the source"
            )
        return _idx_data(FASHION_MNIST, list(FASHION_CLASSES), parts)
    if not folder.is_dir():
        raise RunError(
            f"task.source: there is no folder '{source}' and no source of that name{nearest(source, SOURCES)}; "
            f"there are {', '.join(SOURCES)}"
        )
    if size is None:
        return _idx_data(folder, None, parts)
    return _folder_data(folder, size, parts)


def read_picture(path: Path, size: tuple[int, int] | None, is_grey: bool) -> NDArray[np.uint8]:
    """A file as `[H, W]` or `[H, W, 3]` of `size` (height, width; None: its own), upright as its EXIF says.

    Its transparent parts become white.

    Raises:
        RunError: there is no such file or it is no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = _upright(opened)
            # 16 bits of grey, of which Pillow's own conversion makes white from 255 on; older ones call a PNG's just I.
            if picture.mode.startswith("I;16") or (opened.format, picture.mode) == ("PNG", "I"):
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture)
            picture = picture.convert("L" if is_grey else "RGB")
            if size is not None and picture.size != size[::-1]:
                picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
            return np.array(picture)
    except FileNotFoundError as error:
        raise RunError(f"there is no file {path}") from error
    except NO_PICTURE as error:
        raise RunError(f"{path} cannot be read as a picture: {error}") from error


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is where that is damaged, as other programs show it."""
    try:
        return ImageOps.exif_transpose(picture)
    except (SyntaxError, struct.error, KeyError, TypeError, ValueError):
        return picture


def _digits(parts: PartsConfig) -> PictureData:
    """1,797 digits of 8 x 8 pixels (Alpaydin & Kaynak 1998), which come with scikit-learn."""
    if importlib.util.find_spec("sklearn") is None:
        raise RunError("task.source: digits come with scikit-learn; install it with: pip install scikit-learn")
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    pictures = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return _split([str(k) for k in range(10)], (pictures, target.astype(np.int64)), None, None, parts)


def _idx(folder: Path, name: str) -> Path | None:
    """The IDX file of that name, packed or not."""
    return next((path for path in sorted(folder.glob(f"{name}*ubyte*")) if path.is_file()), None)


def _idx_data(folder: Path, classes: list[str] | None, parts: PartsConfig) -> PictureData:
    train, test = ((_read_idx(folder, f"{p}-images"), _read_idx(folder, f"{p}-labels")) for p in ("train", "t10k"))
    names = classes or [str(k) for k in range(int(train[1].max()) + 1)]
    return _split(names, (train[0], train[1].astype(np.int64)), (test[0], test[1].astype(np.int64)), None, parts)


def _read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """An IDX file of bytes: 00 00 08, the number of axes, each axis as four bytes, then the data (LeCun, MNIST)."""
    path = _idx(folder, name)
    if path is None:
        raise RunError(f"task.source: {folder} has no file {name}-idx…-ubyte(.gz)")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if content[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as an IDX file of bytes does")
        num_axes = content[3]
        shape = np.frombuffer(content, ">i4", num_axes, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape).copy()
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def _folder_data(folder: Path, size: int, config: PartsConfig) -> PictureData:
    """`folder/class/picture`, or the same in `train`, `test` and perhaps `val` (or `valid`, `validation`)."""
    if not (folder / "train").is_dir():
        classes = class_names(folder)
        return _split(classes, _read_classes(folder, classes, size), None, None, config)
    classes = class_names(folder / "train")
    parts = [part for part in ("train", "val", "valid", "validation", "test") if (folder / part).is_dir()]
    for part in parts:
        found = {path.name for path in (folder / part).iterdir() if not path.name.startswith(".") and _files(path)}
        unknown = sorted(found - set(classes))
        if unknown:
            raise RunError(
                f"task.source: {folder / part} has classes that the training part lacks: {', '.join(unknown)}"
            )
    pictures = {part: _read_classes(folder / part, classes, size) for part in parts}
    validation = next((pictures[part] for part in ("val", "valid", "validation") if part in pictures), None)
    return _split(classes, pictures["train"], pictures.get("test"), validation, config)


def _read_classes(folder: Path, classes: list[str], size: int) -> Pictures:
    files = [(path, k) for k, name in enumerate(classes) for path in _files(folder / name)]
    if not files:
        raise RunError(f"task.source: there are no pictures ({', '.join(sorted(SUFFIXES))}) in the folders of {folder}")
    pictures = np.empty((len(files), size, size, 3), np.uint8)
    for i, (path, _) in enumerate(files):
        pictures[i] = read_picture(path, (size, size), is_grey=False)
    return pictures, np.array([k for _, k in files], np.int64)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _split(
    classes: list[str], train: Pictures, test: Pictures | None, validation: Pictures | None, parts: PartsConfig
) -> PictureData:
    """The parts that are there, and those that are not taken from `train`."""
    return PictureData(
        classes,
        *three_parts(
            train,
            test,
            validation,
            parts,
            lambda pictures, chosen: (pictures[0][chosen], pictures[1][chosen]),
            lambda pictures: len(pictures[0]),
            "pictures",
        ),
    )


__all__ = ["NO_PICTURE", "SUFFIXES", "PictureData", "Pictures", "read_picture", "read_pictures"]
