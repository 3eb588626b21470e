"""Letters of the patient's sides and scale bars on a picture of a slice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from esp_medsam.io.tile import Font, Rgb, font_of
from esp_medsam.orientation import Display


INK, EDGE = (255, 255, 255), (0, 0, 0)
"""Colors of letters, and of their outline, which keeps them readable on white too."""

_MARGIN = 8

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Possible lengths of a scale bar, in mm."""

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
"""Sides that each world axis, RAS+, comes from and points to."""

_SLANTED = 0.26
"""Smallest cosine with a world axis, that of 75 degrees, at which its letter is named too."""


class Sides(NamedTuple):
    """Letters at the edges of a picture, one or more each: ``R``, ``AL``."""

    left: str
    right: str
    top: str
    bottom: str


def sides_of(display: Display, affine: npt.NDArray[np.float64]) -> Sides:
    """Return the sides of the patient at the edges of a displayed slice.

    An oblique edge has the letters of all sides that it faces, the closest first.

    Args:
        display: How the slice is taken and turned.
        affine: ``(4, 4)``, voxel index to RAS+ in mm.
    """
    axes = [axis for axis in range(3) if axis != display.slice_axis][:2]
    rows, columns = axes[::-1] if display.transpose else axes
    down = affine[:3, rows] * (-1 if display.flip_rows else 1)
    across = affine[:3, columns] * (-1 if display.flip_columns else 1)
    return Sides(_facing(-across), _facing(across), _facing(-down), _facing(down))


def _facing(direction: npt.NDArray[np.float64]) -> str:
    """Return the letters of the sides that a direction points to, the closest first."""
    cosines = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(cosines).round(6), kind="stable")
    named = [axis for axis in order if abs(cosines[axis]) >= _SLANTED]
    return "".join(_LETTERS[axis][int(cosines[axis] > 0)] for axis in named)


def mark(rgb: Rgb, *, sides: Sides | None, mm_per_pixel: float | None, text_size: int) -> Rgb:
    """Return a picture with letters at its sides, and a labeled scale bar.

    Args:
        rgb: ``(rows, columns, 3)``.
        sides: Letters of the sides; None if the file does not state them.
        mm_per_pixel: Size of a pixel of the picture; None if the file does not state it.
        text_size: Size of letters, in pixels; a picture too small for them gets none.
    """
    picture = PIL.Image.fromarray(rgb)
    draw, font = PIL.ImageDraw.Draw(picture), font_of(text_size)
    width, height = picture.size
    if sides is not None and width > 6 * text_size:
        if height > 2 * text_size:
            _write(draw, (_MARGIN, height // 2), sides.left, font, "lm")
            _write(draw, (width - _MARGIN, height // 2), sides.right, font, "rm")
        if height > 5 * text_size:
            _write(draw, (width // 2, _MARGIN), sides.top, font, "mt")
            _write(draw, (width // 2, height - _MARGIN), sides.bottom, font, "mb")
    if mm_per_pixel is not None and height > 3 * text_size:
        _draw_bar(draw, font, (width, height), mm_per_pixel)
    return np.array(picture)


def _write(
    draw: PIL.ImageDraw.ImageDraw, place: tuple[int, int], text: str, font: Font, anchor: str
) -> None:
    draw.text(place, text, INK, font, anchor, stroke_width=2, stroke_fill=EDGE)


def _draw_bar(
    draw: PIL.ImageDraw.ImageDraw, font: Font, size: tuple[int, int], mm_per_pixel: float
) -> None:
    """Draw a bar of a round length, at most 30 % of the width, at the lower right."""
    width, height = size
    fitting = [step for step in _STEPS if step <= 0.3 * width * mm_per_pixel]
    if not fitting:
        return
    length = fitting[-1]
    # In a flat picture the bar keeps away from the letter at the right.
    aside = 48 if height < 110 else 0
    right, bottom = width - 2 * _MARGIN - aside, height - 2 * _MARGIN
    left = right - round(length / mm_per_pixel)
    draw.rectangle((left - 1, bottom - 4, right + 1, bottom + 1), EDGE)
    draw.rectangle((left, bottom - 3, right, bottom), INK)
    _write(draw, (right, bottom - 8), f"{length:g} mm", font, "rb")
