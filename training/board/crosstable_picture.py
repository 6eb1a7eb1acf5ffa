"""A crosstable as a picture: red where the row lost, green where it won. P players."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from triathlon.training.atomic_write import write_beside
from triathlon.training.board.arena import Crosstable
from triathlon.training.board.ratings import Rating

CELL, LINE, MARGIN, FONT_SIZE = 76, 34, 16, 15  # pixels
PAPER, INK, FAINT = (255, 255, 255), (30, 30, 35), (150, 150, 155)
LOST, EVEN, WON = (233, 120, 108), (250, 244, 224), (116, 190, 125)


def draw_crosstable(path: Path, table: Crosstable, title: str, ratings: Sequence[Rating] | None = None) -> None:
    """Write `[P, P]` scores of the row against the column, with games won, drawn and lost, and Elo ratings, as a PNG.

    Raises:
        RunError: the file cannot be written.
    """
    font, small = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(FONT_SIZE - 4)
    labels = [f"{number}  {name}" for number, name in enumerate(table.names, start=1)]
    rated = [f"{r.elo:+.0f} ({r.interval[0]:+.0f} to {r.interval[1]:+.0f})" for r in ratings or []]
    left = MARGIN + max(int(font.getlength(label)) for label in labels) + MARGIN
    right = max([int(font.getlength(text)) for text in ["Elo", *rated]]) + 2 * MARGIN if rated else MARGIN
    top = MARGIN + 2 * LINE
    width = max(left + CELL * len(labels) + right, int(font.getlength(title)) + 2 * MARGIN)
    picture = Image.new("RGB", (width, top + CELL * len(labels) + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, MARGIN), title, INK, font)
    if rated:
        pen.text((left + CELL * len(labels) + MARGIN, top - LINE / 2), "Elo", INK, font, anchor="lm")
    for i, row in enumerate(table.tallies()):
        y = top + i * CELL
        pen.text((MARGIN, y + CELL / 2), labels[i], INK, font, anchor="lm")
        pen.text((left + (i + 0.5) * CELL, top - LINE / 2), str(i + 1), INK, font, anchor="mm")
        for j, tally in enumerate(row):
            x = left + j * CELL
            pen.rectangle([x, y, x + CELL, y + CELL], _colour(tally.score) if tally.num_games else PAPER, FAINT)
            if tally.num_games:
                pen.text((x + CELL / 2, y + 0.4 * CELL), f"{tally.score:.1%}", INK, font, anchor="mm")
                counts = f"+{tally.wins} ={tally.draws} -{tally.losses}"
                pen.text((x + CELL / 2, y + 0.7 * CELL), counts, INK, small, anchor="mm")
        if rated:
            pen.text((left + CELL * len(labels) + MARGIN, y + CELL / 2), rated[i], INK, font, anchor="lm")
    with write_beside(path) as temporary:
        picture.save(temporary, "PNG")


def _colour(score: float) -> tuple[int, int, int]:
    towards, share = (WON, 2 * score - 1) if score > 0.5 else (LOST, 1 - 2 * score)
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(EVEN, towards, strict=True))
    return red, green, blue


__all__ = ["draw_crosstable"]
