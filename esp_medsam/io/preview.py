"""A picture of a result: the masks' colors over the image as a radiologist sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy.ndimage import binary_erosion  # type: ignore[import-untyped]  # ships no types

from esp_medsam.image import Image
from esp_medsam.io.raster import write_png
from esp_medsam.modality import Target
from esp_medsam.transforms.orientation import Display, display_of_image


FILL = 0.35
"""Opacity of a mask's inside; its outline is opaque, so that the image stays readable below."""

TILES = 9
"""Slices of a volume that are shown: those with most foreground, or evenly spread ones."""

TILE_SIDE = 320
"""Longer side of a slice in the sheet, pixels."""

PHOTOGRAPH_SIDE = 1600
"""Longer side of a picture of one image, pixels, at most."""

_Rgb = npt.NDArray[np.uint8]


def write_preview(
    path: Path,
    pixels: npt.NDArray[np.generic],
    labelmap: npt.NDArray[np.uint8],
    record: Image,
    targets: Sequence[Target],
    slice_axis: str | None = None,
    root: Path | None = None,
) -> None:
    """Write the picture of a result: an image whole, of a volume up to nine slices.

    Args:
        path: File to write.
        pixels: ``(C, *spatial)`` in their own dtype.
        labelmap: ``(1, *spatial)`` on the same grid.
        record: What is known of the image.
        targets: Labels and colors.
        slice_axis: As the inferer's.
        root: Folder above it, below which no link is followed; None is its own.

    Raises:
        OutputError: If the file cannot be written.
    """
    display = display_of_image(record, slice_axis)
    picture = preview(pixels, labelmap, record, targets, display)
    write_png(path, PIL.Image.fromarray(picture), root)


def preview(
    pixels: npt.NDArray[np.generic],
    labelmap: npt.NDArray[np.uint8],
    record: Image,
    targets: Sequence[Target],
    display: Display,
) -> _Rgb:
    """Draw masks over an image.

    Args:
        pixels: ``(C, *spatial)`` in their own dtype.
        labelmap: ``(1, *spatial)`` on the same grid.
        record: What is known of the image; its measured intensities give black and white.
        targets: Labels and colors.
        display: How slices are shown.

    Returns:
        The picture, ``(rows, columns, 3)``.
    """
    spacing = None if record.spacing is None else display.shown(record.spacing)
    if display.slice_axis is None:
        indices, side = [0], PHOTOGRAPH_SIDE
    else:
        indices, side = fullest_slices(labelmap[0], display.slice_axis), TILE_SIDE
    tiles = []
    for index in indices:
        shown, labels = display.show(pixels, index), display.show(labelmap, index)[0]
        # Thinned first: as float a photograph of many megapixels would fill the memory.
        step = max(1, max(labels.shape) // (2 * side))
        size = _tile_size((labels.shape[0], labels.shape[1]), spacing, side)
        low, high = record.intensity_range or (0.0, 1.0)
        unit = np.clip((shown[:, ::step, ::step].astype(np.float32) - low) / (high - low), 0, 1)
        rgb = np.broadcast_to(unit, (3, *unit.shape[1:])).transpose(1, 2, 0)
        base = PIL.Image.fromarray((255.0 * rgb).round().astype(np.uint8))
        scaled = np.array(base.resize(size, PIL.Image.Resampling.BILINEAR))
        marks = PIL.Image.fromarray(np.ascontiguousarray(labels))
        tiles.append(
            overlay(scaled, np.array(marks.resize(size, PIL.Image.Resampling.NEAREST)), targets)
        )
    return _sheet(tiles)


def overlay(rgb: _Rgb, labels: npt.NDArray[np.uint8], targets: Sequence[Target]) -> _Rgb:
    """Return a picture with each target's mask filled lightly and outlined in its color."""
    result = rgb.astype(np.float32)
    for target in targets:
        mask = labels == target.label
        outline = mask & ~binary_erosion(mask, border_value=1)
        color = np.array(target.color, np.float32)
        result[mask] += FILL * (color - result[mask])
        result[outline] = color
    drawn: _Rgb = result.round().astype(np.uint8)
    return drawn


def fullest_slices(labelmap: npt.NDArray[np.uint8], axis: int, count: int = TILES) -> list[int]:
    """Return up to ``count`` slices with most foreground, in order; evenly spread ones without."""
    others = tuple(other for other in range(labelmap.ndim) if other != axis)
    foreground = np.count_nonzero(labelmap, axis=others)
    length = len(foreground)
    if not foreground.any():
        return spread(length, count)
    fullest = np.argsort(-foreground, kind="stable")[:count]
    return sorted(int(index) for index in fullest if foreground[index])


def spread(count: int, most: int) -> list[int]:
    """Return up to ``most`` of ``count`` indices, in order, evenly spread, none at an end."""
    return sorted({int((place + 0.5) * count / most) for place in range(most)})


def _tile_size(
    shape: tuple[int, int], spacing: tuple[float, float] | None, side: int
) -> tuple[int, int]:
    """Return width and height of a tile, aspect in mm; a photograph is never enlarged."""
    height, width = (n * mm for n, mm in zip(shape, spacing or (1.0, 1.0), strict=True))
    scale = side / max(height, width)
    if spacing is None:
        scale = min(scale, 1.0)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _sheet(tiles: Sequence[_Rgb]) -> _Rgb:
    """Lay equal tiles out in rows, as square as can be."""
    columns = int(np.ceil(np.sqrt(len(tiles))))
    rows = -(-len(tiles) // columns)
    height, width = tiles[0].shape[:2]
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        top, left = row * height, column * width
        sheet[top : top + height, left : left + width] = tile
    return sheet
