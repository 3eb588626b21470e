"""Draw the contours of masks over a picture."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy.ndimage import (  # type: ignore[import-untyped]  # ships no types
    binary_dilation,
    binary_erosion,
)


LINE = 2
"""Width of a contour, in pixels of the picture."""

OUTLINE = 0.7
"""Opacity of the dark pixel outside of a contour, which sets it off from bright tissue."""

_SMOOTH = 700
"""Longest side of a picture whose contours are drawn at twice its size, and smoothed."""

_KEPT = 96
"""Share of a pixel, of 255, that a mask must cover to have it, in a picture smaller than it."""

Rgb = npt.NDArray[np.uint8]
Color = tuple[int, int, int]
Mask = npt.NDArray[np.bool_]


def outline(rgb: Rgb, masks: Iterable[tuple[Mask, Color]]) -> Rgb:
    """Return a picture with the contour of each mask, just inside it, and nothing else changed.

    Contours are open where a mask is cut off by the edge of the picture. All dark lines are drawn
    before the colored ones, so that neighbors do not hide each other.

    Args:
        rgb: ``(rows, columns, 3)``.
        masks: ``(rows, columns)`` each, of any size that covers the same area, with their colors.
    """
    height, width = rgb.shape[:2]
    lines = [(*_lines(mask, (width, height)), color) for mask, color in masks if mask.any()]
    drawn: Rgb = rgb.copy()
    for _, dark, box, _ in lines:
        _blend(drawn[box], dark, (0, 0, 0))
    for bright, _, box, color in lines:
        _blend(drawn[box], bright, color)
    return drawn


def _blend(part: Rgb, opacity: npt.NDArray[np.float32], color: Color) -> None:
    """Lay a color over a part of a picture, in place."""
    where = opacity > 0
    shares = opacity[where][:, np.newaxis]
    mixed = part[where] * (1 - shares) + np.array(color, np.float32) * shares
    part[where] = mixed.round().astype(np.uint8)


def _lines(
    mask: Mask, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], tuple[slice, slice]]:
    """Return the opacity of a mask's contour and of its outline, and the box that they cover."""
    finer = 2 if max(size) <= _SMOOTH else 1
    raised = resized(mask, (finer * size[0], finer * size[1]))
    rows, columns = (np.flatnonzero(raised.any(axis=axis)) for axis in (1, 0))
    box = tuple(
        slice(max(0, int(found[0]) // finer - 2), int(found[-1]) // finer + 3)
        for found in (rows, columns)
    )
    inside = raised[tuple(slice(finer * part.start, finer * part.stop) for part in box)]
    # Beyond the edge of the picture a mask goes on, so that no line closes it there.
    wide = np.pad(inside, finer * (LINE + 2), mode="edge")
    core = wide & ~binary_erosion(wide, iterations=finer * LINE, border_value=1)
    dark = binary_dilation(wide, iterations=finer) & ~wide
    margin = finer * (LINE + 2)
    bright, outer = (_reduced(line[margin:-margin, margin:-margin], finer) for line in (core, dark))
    clipped = (
        slice(box[0].start, min(box[0].stop, size[1])),
        slice(box[1].start, min(box[1].stop, size[0])),
    )
    return bright, OUTLINE * outer, clipped


def _reduced(line: Mask, finer: int) -> npt.NDArray[np.float32]:
    """Return which share of each pixel of the picture a finer line covers."""
    rows, columns = line.shape[0] // finer, line.shape[1] // finer
    blocks = line[: rows * finer, : columns * finer].reshape(rows, finer, columns, finer)
    shares: npt.NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return shares


def resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """Return a mask resized to ``(width, height)``; its edge is where it covers half a pixel.

    A mask that is made smaller keeps parts that are thinner than a pixel.
    """
    if mask.shape[::-1] == size:
        return mask
    picture = PIL.Image.fromarray(np.ascontiguousarray(mask).astype(np.uint8) * 255)
    is_smaller = size[0] < mask.shape[1] or size[1] < mask.shape[0]
    kind = PIL.Image.Resampling.BOX if is_smaller else PIL.Image.Resampling.BILINEAR
    shares = np.asarray(picture.resize(size, kind))
    found: Mask = shares >= (_KEPT if is_smaller else 128)
    if not found.any():  # far smaller than a pixel
        rows, columns = np.nonzero(mask)
        scale = size[1] / mask.shape[0], size[0] / mask.shape[1]
        found[(rows * scale[0]).astype(int), (columns * scale[1]).astype(int)] = True
    return found
