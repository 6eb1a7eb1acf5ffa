"""Objects and photos that tests draw themselves, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `objects/ball`, `objects/brick` and `objects/wedge`, transparent around, and six `photos`."""
    folder = tmp_path_factory.mktemp("drawn")
    for name, colour in (("ball", (250, 60, 40, 255)), ("brick", (40, 220, 70, 255)), ("wedge", (60, 90, 250, 255))):
        (folder / "objects" / name).mkdir(parents=True)
        image = Image.new("RGBA", (40, 40))
        pen = ImageDraw.Draw(image)
        if name == "ball":
            pen.ellipse((4, 4, 35, 35), fill=colour)
        elif name == "brick":
            pen.rectangle((2, 12, 37, 27), fill=colour)
        else:
            pen.polygon([(4, 35), (35, 35), (20, 4)], fill=colour)
        image.save(folder / "objects" / name / "1.png")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        smooth = Image.fromarray(rng.integers(60, 160, (5, 6, 3), np.uint8)).resize((90, 70), Image.Resampling.BICUBIC)
        smooth.save(folder / "photos" / f"{i}.png")
    return folder
