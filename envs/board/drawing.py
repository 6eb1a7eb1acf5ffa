"""Pictures of positions: the board with its pieces where its planes are known, else what open_spiel prints.

C planes, H rows, W columns.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from triathlon.envs.board.planes import Planes

SIDE = 384  # pixels
WOOD, LINE, INK = (222, 184, 125), (120, 90, 50), (40, 30, 20)
PIECES = ((35, 35, 40), (245, 245, 240))  # of players 0 and 1
MARKS = (PIECES[1], PIECES[0])  # letters on them
# What Pillow's own font lacks.
PLAIN = str.maketrans("┌┐└┘├┤┬┴┼─╴╶│", "+++++++++---|")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal


def draw(state: Any, planes: Planes) -> NDArray[np.uint8]:
    """The position as `[384, 384, 3]` RGB; player 0's pieces are dark, kinds of pieces have letters."""
    picture = Image.new("RGB", (SIDE, SIDE), WOOD)
    if planes.layout.glyphs:
        _draw_board(ImageDraw.Draw(picture), state, planes)
    else:
        _draw_text(ImageDraw.Draw(picture), COLOURS.sub("", str(state)).translate(PLAIN))
    return np.asarray(picture)


def _draw_board(pen: ImageDraw.ImageDraw, state: Any, planes: Planes) -> None:
    layout = planes.layout
    shown = 1 - layout.turned  # whose view is not turned
    board = planes.see([state], np.array([shown]))[0]
    if layout.rows_up:
        board = board[:, ::-1]
    rows, columns = board.shape[1:]
    cell = SIDE / max(rows, columns)
    left, top = (SIDE - columns * cell) / 2, (SIDE - rows * cell) / 2
    for row in range(rows + 1):
        pen.line([left, top + row * cell, left + columns * cell, top + row * cell], LINE)
    for column in range(columns + 1):
        pen.line([left + column * cell, top, left + column * cell, top + rows * cell], LINE)
    for plane, row, column in np.argwhere(board[: 2 * len(layout.glyphs)] > 0).tolist():
        kind = plane % len(layout.glyphs)
        player = shown if plane < len(layout.glyphs) else 1 - shown
        x, y = left + (column + 0.5) * cell, top + (row + 0.5) * cell
        pen.ellipse([x - 0.4 * cell, y - 0.4 * cell, x + 0.4 * cell, y + 0.4 * cell], PIECES[player], LINE)
        if layout.glyphs[kind] != ".":
            pen.text((x, y), layout.glyphs[kind], MARKS[player], ImageFont.load_default(0.5 * cell), anchor="mm")


def _draw_text(pen: ImageDraw.ImageDraw, text: str) -> None:
    """Each letter in a cell of its own: the printed boards count on letters of the same width."""
    lines = text.splitlines()
    height = SIDE / max(len(lines), 8)
    width = min(0.6 * height, SIDE / max(*map(len, lines), 8))
    font = ImageFont.load_default(max(6.0, min(0.8 * height, 1.5 * width)))
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            pen.text(((column + 0.5) * width, (row + 0.5) * height), letter, INK, font, anchor="mm")


__all__ = ["draw"]
