"""Lay out captioned pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from esp_medsam.errors import one_line
from esp_medsam.io.picture_file import write_png
from esp_medsam.io.tile import font_of


BAR = 24
"""Height of the caption above a tile, in pixels."""

GAP = 4
"""Space between tiles, in pixels."""

_FONT_SIZE = 14
_BACKGROUND = (32, 36, 42)
"""Neither black nor gray, so that the edges of a tile stand out."""
_INK = (235, 235, 235)


class Tile(NamedTuple):
    """One picture of a sheet.

    Attributes:
        name: What the picture shows; shortened at its beginning if there is no room.
        place: Which part of it is shown; never shortened before the name.
        pixels: ``(rows, columns, 3)`` uint8.
    """

    name: str
    place: str
    pixels: npt.NDArray[np.uint8]


def write_sheet(path: Path, tiles: Sequence[Tile]) -> None:
    """Write a sheet as PNG, atomically.

    Args:
        path: File to write.
        tiles: At least one; laid out row by row, in a sheet as square as possible.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_png(path, draw_sheet(tiles))


def draw_sheet(tiles: Sequence[Tile], columns: int | None = None) -> PIL.Image.Image:
    """Lay tiles out row by row, each below its caption.

    Args:
        tiles: At least one.
        columns: Tiles per row; None makes the sheet as square as possible.
    """
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [BAR + max(tile.pixels.shape[0] for tile in row) for row in rows]
    width = max(tile.pixels.shape[1] for tile in tiles)
    size = (GAP + columns * (width + GAP), GAP + sum(heights) + len(rows) * GAP)
    sheet = PIL.Image.new("RGB", size, _BACKGROUND)
    draw, font = PIL.ImageDraw.Draw(sheet), font_of(_FONT_SIZE)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            left = GAP + column * (width + GAP)
            text = _fitting(one_line(tile.name), tile.place, width - 8, font)
            draw.text((left + 4, top + BAR // 2), text, fill=_INK, font=font, anchor="lm")
            picture = PIL.Image.fromarray(np.ascontiguousarray(tile.pixels))
            sheet.paste(picture, (left + (width - picture.width) // 2, top + BAR))
        top += height + GAP
    return sheet


def _fitting(
    name: str,
    place: str,
    width: int,
    font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont,
) -> str:
    """Return name and place, with the beginning of the name cut off if both are too wide."""
    end = f"  {place}" if place else ""
    shortened = name
    for start in range(len(name) + 1):
        shortened = f"…{name[start:]}" if start else name
        if font.getlength(shortened + end) <= width:
            return shortened + end
    return place or shortened
