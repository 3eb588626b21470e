"""Lay out the page of a preview: what is shown, the legend, and rows of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw

from esp_medsam.io.tile import Font, Rgb, font_of
from esp_medsam.modality import Target


TEXT = 20
"""Size of text, in pixels."""

GAP = 8
"""Space between pictures, and around the page, in pixels."""

NOTE = "esp-medsam, for research only"

_LINE = 32
_LEAST_WIDTH = 512
"""Least width of what is on the page, in pixels, so that texts have room."""

_PAPER, _INK, _FAINT = (32, 36, 42), (240, 240, 240), (170, 175, 180)
"""Background, neither black nor gray so that the edges of pictures stand out, and texts."""


class Shown(NamedTuple):
    """A target as the legend shows it.

    Attributes:
        target: The target.
        size: How much of it was found, in words; empty if it was not counted.
        confidence: Mean probability inside its mask; None if it is empty or unknown.
        jump: Slice in which its mask jumps most from its neighbors, and how much; None if unknown.
        is_found: Whether anything of it was found, or may have been.
    """

    target: Target
    size: str = ""
    confidence: float | None = None
    jump: tuple[int, float] | None = None
    is_found: bool = True

    @property
    def name(self) -> str:
        """Name in words."""
        return self.target.name.replace("_", " ")

    @property
    def text(self) -> str:
        """Entry of the legend: ``liver 1,580.8 ml, confidence 0.97``."""
        told = [f"{self.name} {self.size}" if self.size else self.name]
        if self.confidence is not None:
            told.append(f"confidence {self.confidence:.2f}")
        return ", ".join(told)


class Picture(NamedTuple):
    """A picture with the line above it; ``pixels`` is ``(rows, columns, 3)``."""

    pixels: Rgb
    text: str = ""


class Row(NamedTuple):
    """A heading, with the color of what it is about, and columns of pictures side by side."""

    heading: str
    color: tuple[int, int, int] | None
    columns: Sequence[Sequence[Picture]]


def draw_page(caption: str, shown: Sequence[Shown], rows: Sequence[Row]) -> PIL.Image.Image:
    """Draw a page.

    Args:
        caption: Text at the top.
        shown: The targets of the legend.
        rows: Rows of pictures, from top to bottom.
    """
    font = font_of(TEXT)
    width = max(_LEAST_WIDTH, *(_width_of(row, font) for row in rows)) + 2 * GAP
    entries = _rows_of_legend([one for one in shown if one.is_found], width, font)
    absent = [one.name for one in shown if not one.is_found]
    lines = _wrapped(caption, width, font)
    ends = _wrapped(f"Not found: {', '.join(absent)}", width, font) if absent else []
    head = GAP + _LINE * (len(lines) + len(entries) + len(ends)) + GAP
    height = head + sum(_height_of(row) for row in rows) + _LINE
    page = PIL.Image.new("RGB", (width, height), _PAPER)
    draw = PIL.ImageDraw.Draw(page)
    top = _draw_lines(draw, lines, GAP, font)
    for entry in entries:
        left = GAP
        for one in entry:
            left = _draw_entry(draw, (left, top), one.text, one.target.color, font)
        top += _LINE
    top = _draw_lines(draw, ends, top, font) + GAP
    for row in rows:
        _draw_row(page, draw, row, top, font)
        top += _height_of(row)
    draw.text((GAP, height - _LINE // 2), NOTE, _FAINT, font, "lm")
    return page


def _draw_lines(draw: PIL.ImageDraw.ImageDraw, lines: Sequence[str], top: int, font: Font) -> int:
    """Draw lines of text, and return where the next may begin."""
    for line in lines:
        draw.text((GAP, top + _LINE // 2), line, _INK, font, "lm")
        top += _LINE
    return top


def _draw_entry(
    draw: PIL.ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    color: tuple[int, int, int],
    font: Font,
) -> int:
    """Draw a key and a text, and return where the next may begin."""
    left, middle = place[0], place[1] + _LINE // 2
    draw.rectangle((left, middle - 9, left + 18, middle + 9), color)
    draw.text((left + 28, middle), text, _INK, font, "lm")
    return left + _entry_width(text, font)


def _entry_width(text: str, font: Font) -> int:
    return 28 + round(font.getlength(text)) + 2 * TEXT


def _rows_of_legend(shown: Sequence[Shown], width: int, font: Font) -> list[list[Shown]]:
    """Return the entries of the legend, as many in a row as have room."""
    rows: list[list[Shown]] = []
    left = width
    for one in shown:
        needed = _entry_width(one.text, font)
        if left + needed > width - GAP:
            rows.append([])
            left = GAP
        rows[-1].append(one)
        left += needed
    return rows


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """Return a text as lines that have room."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else ""
        if longer and font.getlength(longer) <= width - 2 * GAP:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def in_columns(pictures: Sequence[Picture], most: int) -> list[list[list[Picture]]]:
    """Return pictures as rows of columns, flat ones below each other where that takes no room.

    Args:
        pictures: In the order in which they are read.
        most: Most columns of a row.
    """
    rows: list[list[list[Picture]]] = []
    for one in pictures:
        if rows:
            tallest = max(_column_height(column) for column in rows[-1])
            if _column_height([*rows[-1][-1], one]) <= tallest:
                rows[-1][-1].append(one)
                continue
        if not rows or len(rows[-1]) == most:
            rows.append([])
        rows[-1].append([one])
    return rows


def _column_height(column: Sequence[Picture]) -> int:
    return sum(int(one.pixels.shape[0]) + (_LINE if one.text else 0) + GAP for one in column)


def _column_width(column: Sequence[Picture], font: Font) -> int:
    """Return the width of the widest picture, or of the line above it if that is wider."""
    texts = (round(font.getlength(one.text)) + GAP for one in column)
    return max(*texts, *(int(one.pixels.shape[1]) for one in column))


def _width_of(row: Row, font: Font) -> int:
    return sum(_column_width(column, font) + GAP for column in row.columns) - GAP


def _height_of(row: Row) -> int:
    return _LINE * bool(row.heading) + max(_column_height(column) for column in row.columns)


def _draw_row(
    page: PIL.Image.Image, draw: PIL.ImageDraw.ImageDraw, row: Row, top: int, font: Font
) -> None:
    """Draw a heading and columns of pictures, each below its line."""
    if row.heading and row.color:
        _draw_entry(draw, (GAP, top), row.heading, row.color, font)
    elif row.heading:
        draw.text((GAP, top + _LINE // 2), row.heading, _INK, font, "lm")
    left = GAP
    for column in row.columns:
        below = top + _LINE * bool(row.heading)
        for one in column:
            if one.text:
                draw.text((left, below + _LINE // 2), one.text, _FAINT, font, "lm")
                below += _LINE
            page.paste(PIL.Image.fromarray(np.ascontiguousarray(one.pixels)), (left, below))
            below += one.pixels.shape[0] + GAP
        left += _column_width(column, font) + GAP
