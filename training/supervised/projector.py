"""Features of examples as TensorBoard's projector reads them. N examples, D features, H, W, C a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triathlon.training.atomic_write import write_beside, write_text
from triathlon.training.supervised.drawing import colour, enlarge
from triathlon.training.supervised.task import Embeddings

SIDE = 32  # pixels, about, of a picture in the projector


def write_projector(folder: Path, batches: Sequence[Embeddings]) -> None:
    """Write `projector_config.pbtxt` beside the event files in `folder`, and what it names to `folder/projector`.

    Raises:
        RunError: a file cannot be written.
    """
    vectors = np.concatenate([batch.vectors.float().cpu().numpy() for batch in batches])
    rows = ("\t".join(f"{value:.6g}" for value in vector) for vector in vectors)
    write_text(folder / "projector" / "features.tsv", "\n".join(rows) + "\n")
    # A tab in a name would begin another column.
    labels = (" ".join(label.split()) for batch in batches for label in batch.labels)
    write_text(folder / "projector" / "labels.tsv", "\n".join(labels) + "\n")
    lines = [
        f'{name}: "projector/{file}.tsv"' for name, file in (("tensor_path", "features"), ("metadata_path", "labels"))
    ]
    pictures = [picture for batch in batches if batch.pictures is not None for picture in batch.pictures]
    if pictures:
        sprites, (height, width) = _sprites(pictures)
        with write_beside(folder / "projector" / "pictures.png") as path:
            sprites.save(path, "PNG")
        sides = f"single_image_dim: {width} single_image_dim: {height}"
        lines.append(f'sprite {{ image_path: "projector/pictures.png" {sides} }}')
    inside = "\n".join(f"  {line}" for line in ('tensor_name: "features"', *lines))
    write_text(folder / "projector_config.pbtxt", f"embeddings {{\n{inside}\n}}\n")


def _sprites(pictures: Sequence[NDArray[np.uint8]]) -> tuple[Image.Image, tuple[int, int]]:
    """All pictures in one, row by row in a square, as TensorBoard cuts them out again; height and width of each."""
    tiles = [enlarge(colour(picture), SIDE) for picture in pictures]
    height, width = tiles[0].shape[:2]
    columns = int(np.ceil(np.sqrt(len(tiles))))
    sheet = np.zeros((columns * height, columns * width, 3), np.uint8)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return Image.fromarray(sheet), (height, width)


__all__ = ["write_projector"]
