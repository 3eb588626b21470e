"""Draw one slice: gray or color, contours, orientation, scale bar."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from scipy.ndimage import binary_erosion  # type: ignore[import-untyped]  # ships no types

from esp_medsam.modality import Target


FILL = 0.15
"""Opacity of a mask's inside: faint, so that the image below stays visible."""

LINE = 2
"""Width of a contour, in pixels of the picture."""

INK, EDGE = (255, 255, 255), (0, 0, 0)
"""Colors of letters, and of their outline, which keeps them readable on white too."""

_FONT_SIZE = 15
_MARGIN = 6

_STEPS = (1, 2, 5, 10, 20, 50, 100, 200)
"""Possible lengths of a scale bar, in mm."""

Rgb = npt.NDArray[np.uint8]
Color = tuple[int, int, int]


def gray_to_rgb(values: npt.NDArray[np.generic], limits: tuple[float, float]) -> Rgb:
    """Return ``(C, rows, columns)`` as ``(rows, columns, 3)``, black to white within the limits."""
    low, high = limits
    unit = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)
    rgb = np.broadcast_to(unit, (3, *unit.shape[1:])).transpose(1, 2, 0)
    drawn: Rgb = (255.0 * rgb).round().astype(np.uint8)
    return drawn


def scaled(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """Return a picture resized to ``(width, height)``."""
    if rgb.shape[1::-1] == size:
        return rgb
    return np.array(PIL.Image.fromarray(rgb).resize(size, PIL.Image.Resampling.BILINEAR))


def scaled_labels(labels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return label values resized to ``(width, height)``, without mixing them."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(labels))
    return np.array(picture.resize(size, PIL.Image.Resampling.NEAREST))


def overlay(rgb: Rgb, labels: npt.NDArray[np.uint8], targets: Sequence[Target]) -> Rgb:
    """Return a picture with each target's contour in its color, and its inside tinted.

    Args:
        rgb: ``(rows, columns, 3)``.
        labels: ``(rows, columns)``, label values.
        targets: Labels and colors.
    """
    return outline(rgb, ((labels == target.label, target.color) for target in targets))


def outline(rgb: Rgb, masks: Iterable[tuple[npt.NDArray[np.bool_], Color]]) -> Rgb:
    """Return a picture with the contour of each mask in its color, and its inside tinted.

    Args:
        rgb: ``(rows, columns, 3)``.
        masks: ``(rows, columns)`` each, with their colors.
    """
    result = rgb.astype(np.float32)
    for mask, line in masks:
        if not mask.any():
            continue
        contour = mask & ~binary_erosion(mask, iterations=LINE, border_value=1)
        color = np.array(line, np.float32)
        result[mask] += FILL * (color - result[mask])
        result[contour] = color
    drawn: Rgb = result.round().astype(np.uint8)
    return drawn


def png_bytes(picture: PIL.Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    return encoded.getvalue()


def mark(rgb: Rgb, *, sides: str | None, mm_per_pixel: float | None) -> Rgb:
    """Return a picture with letters at its sides, and a labeled scale bar.

    Args:
        rgb: ``(rows, columns, 3)``.
        sides: Letters for the left, right, top and bottom, such as ``"RLAP"``; None if the file
            does not state them.
        mm_per_pixel: Size of a pixel of the picture; None if the file does not state it.
    """
    picture = PIL.Image.fromarray(rgb)
    draw, font = PIL.ImageDraw.Draw(picture), font_of(_FONT_SIZE)
    width, height = picture.size
    places = [
        (_MARGIN, height // 2, "lm"),
        (width - _MARGIN, height // 2, "rm"),
        (width // 2, _MARGIN, "mt"),
        (width // 2, height - _MARGIN, "mb"),
    ]
    for letter, (x, y, anchor) in zip(sides or "", places, strict=False):
        draw.text((x, y), letter, INK, font, anchor, stroke_width=2, stroke_fill=EDGE)
    if mm_per_pixel is not None:
        _draw_bar(draw, font, (width, height), mm_per_pixel)
    return np.array(picture)


def _draw_bar(
    draw: PIL.ImageDraw.ImageDraw,
    font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont,
    size: tuple[int, int],
    mm_per_pixel: float,
) -> None:
    """Draw a bar of a round length, about a quarter of the width, at the lower right."""
    width, height = size
    fitting = [step for step in _STEPS if step <= 0.3 * width * mm_per_pixel]
    if not fitting:
        return
    millimeters = fitting[-1]
    right, bottom = width - 2 * _MARGIN, height - 2 * _MARGIN
    left = right - round(millimeters / mm_per_pixel)
    draw.rectangle((left - 1, bottom - 4, right + 1, bottom + 1), EDGE)
    draw.rectangle((left, bottom - 3, right, bottom), INK)
    text = f"{millimeters} mm" if millimeters < 10 else f"{millimeters // 10} cm"
    draw.text((right, bottom - 6), text, INK, font, "rb", stroke_width=2, stroke_fill=EDGE)


def font_of(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    """Return Pillow's own font, which every machine has."""
    return PIL.ImageFont.load_default(size)
