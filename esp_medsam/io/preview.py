"""Draw a preview of a result: contours, names, sizes, orientation and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from esp_medsam.image import Image, Segmentation, size_text
from esp_medsam.io.contact_sheet import Tile, draw_sheet
from esp_medsam.io.raster import write_jpeg, write_png
from esp_medsam.io.tile import (
    Rgb,
    font_of,
    gray_to_rgb,
    mark,
    overlay,
    png_bytes,
    scaled,
    scaled_labels,
)
from esp_medsam.modality import Target
from esp_medsam.orientation import (
    Display,
    display_of,
    display_of_image,
    plane_of,
)


PREVIEW_ENDINGS = ("_preview.png", "_preview.jpg")
"""Endings that the stem of a result may get for its picture."""

TILES = 9
"""Most slices of a volume that are shown, unless there are more targets."""

TILE_SIDE = 320
"""Longer side of a slice in the sheet, in pixels."""

LONGEST = 2048
"""Maximum longer side of the picture, in pixels."""

MOST_BYTES = 1_000_000
"""Maximum size of a PNG; a larger picture becomes a JPEG."""

SIDES = {"axial": "RLAP", "coronal": "RLHF", "sagittal": "APHF"}
"""Sides of the patient at the left, right, top and bottom of a displayed slice."""

_THIN = 8
"""Fewest voxels that every axis must have for the three planes to be shown."""

_LEGEND_SIZE = 16
_ROW = 24
_PAPER, _INK, _FAINT = (32, 36, 42), (235, 235, 235), (170, 175, 180)


class Shown(NamedTuple):
    """A target as the legend shows it.

    Attributes:
        target: The target.
        size: How much of it was found, in words; empty if it was not counted.
    """

    target: Target
    size: str = ""


def shown_targets(
    targets: Sequence[Target], segmentation: Segmentation, image: Image
) -> list[Shown]:
    """Return targets as the legend of a picture shows them."""
    if not segmentation.voxels:
        return [Shown(target) for target in targets]
    sizes = zip(targets, segmentation.voxels, strict=True)
    return [Shown(target, size_text(voxels, image.grid.ml_of(voxels))) for target, voxels in sizes]


def previews_of(stem: Path) -> list[Path]:
    """Return the possible paths of the picture of a result."""
    return [stem.with_name(f"{stem.name}{ending}") for ending in PREVIEW_ENDINGS]


def write_preview(
    stem: Path,
    pixels: npt.NDArray[np.generic],
    labelmap: npt.NDArray[np.uint8],
    record: Image,
    shown: Sequence[Shown],
    slice_axis: str | None = None,
    root: Path | None = None,
) -> Path:
    """Write the picture of a result, as PNG if that is small enough, else as JPEG.

    Args:
        stem: Common beginning of the paths of the result.
        pixels: ``(C, *spatial)`` in their own dtype.
        labelmap: ``(1, *spatial)`` on the same grid.
        record: Record of the image; its measured intensities define black and white.
        shown: The targets, in the order of the legend.
        slice_axis: As for the inferer.
        root: Folder above it, below which no link is followed; None means the file's own folder.

    Returns:
        Path of the file that was written.

    Raises:
        OutputError: If the file cannot be written.
    """
    picture = preview(pixels, labelmap, record, shown, slice_axis)
    png, jpeg = previews_of(stem)
    if len(png_bytes(picture)) <= MOST_BYTES:
        write_png(png, picture, root)
        return png
    write_jpeg(jpeg, picture, root)
    return jpeg


def preview(
    pixels: npt.NDArray[np.generic],
    labelmap: npt.NDArray[np.uint8],
    record: Image,
    shown: Sequence[Shown],
    slice_axis: str | None = None,
) -> PIL.Image.Image:
    """Draw masks over an image, with a legend.

    A 2-D picture is shown whole, at its own size. For a volume, slices spread over what was found
    are shown, at least one per target, and, if all three axes are long enough, the three planes
    through the largest target. Arguments are those of :func:`write_preview`.
    """
    display = display_of_image(record, slice_axis)
    view = _View(pixels, labelmap, record, [one.target for one in shown])
    if display.slice_axis is None:
        body = PIL.Image.fromarray(view.slice(display, 0, None, None))
    else:
        tiles = [*_planes(view), *_slices(view, display)]
        body = draw_sheet(tiles, columns=3 if len(tiles) > 4 else None)
    sheet = _with_legend(body, shown, _caption(record))
    sheet.thumbnail((LONGEST, LONGEST), PIL.Image.Resampling.LANCZOS)
    return sheet


@dataclass(frozen=True)
class _View:
    """An image with its masks, to draw slices from."""

    pixels: npt.NDArray[np.generic]
    labelmap: npt.NDArray[np.uint8]
    record: Image
    targets: Sequence[Target]

    def slice(self, display: Display, index: int, side: int | None, plane: str | None) -> Rgb:
        """Return a slice with contours, sides and scale, its longer side ``side`` pixels long."""
        values = display.show(self.pixels, index)
        labels = display.show(self.labelmap, index)[0]
        per_axis = self.record.grid.spacing
        spacing = None if per_axis is None else display.shown(per_axis)
        size, mm_per_pixel = _size(labels.shape, spacing, side)
        # Subsample first: as float, a photograph of many megapixels would fill the memory.
        step = max(1, max(labels.shape) // (2 * max(size)))
        limits = self.record.intensity_range or (0.0, 1.0)
        rgb = scaled(gray_to_rgb(values[:, ::step, ::step], limits), size)
        drawn = overlay(rgb, scaled_labels(labels, size), self.targets)
        return mark(drawn, sides=None if plane is None else SIDES[plane], mm_per_pixel=mm_per_pixel)


def _slices(view: _View, display: Display) -> list[Tile]:
    """Return slices along the axis of segmentation, spread over what was found."""
    assert display.slice_axis is not None, "a volume has one"
    plane = plane_of(view.record, display)
    count = display.count(view.record.grid.shape)
    return [
        Tile(
            plane or "frame",
            f"{index + 1} of {count}",
            view.slice(display, index, TILE_SIDE, plane),
        )
        for index in chosen_slices(view.labelmap[0], display.slice_axis, TILES)
    ]


def _planes(view: _View) -> list[Tile]:
    """Return the three planes at the positions that show most of the largest target.

    Without a target they go through the middle; if an axis is too short there are none.
    """
    record = view.record
    if record.grid.affine is None or min(record.grid.shape, default=0) < _THIN:
        return []
    sizes = profiles(view.labelmap[0])
    largest = max(sizes.values(), key=lambda axes: int(axes[0].sum()), default=None)
    tiles = []
    for plane in ("axial", "coronal", "sagittal"):
        display = display_of(record.grid.shape, record.grid.affine, plane)
        axis = display.slice_axis
        assert axis is not None, "a volume has one"
        count = record.grid.shape[axis]
        index = count // 2 if largest is None else int(largest[axis].argmax())
        drawn = view.slice(display, index, TILE_SIDE, plane)
        tiles.append(Tile(plane, f"{index + 1} of {count}", drawn))
    return tiles


Profile = tuple[npt.NDArray[np.int64], ...]
"""Number of voxels in each slice along each axis."""


def profiles(labelmap: npt.NDArray[np.uint8]) -> dict[int, Profile]:
    """Return the profile of each nonzero label, slice by slice to hold no second volume."""
    found: dict[int, Profile] = {}
    for index, one in enumerate(labelmap):
        for label in np.flatnonzero(np.bincount(one.ravel(), minlength=256)[1:]) + 1:
            mask = one == label
            profile = found.setdefault(
                int(label), tuple(np.zeros(length, np.int64) for length in labelmap.shape)
            )
            profile[0][index] = mask.sum()
            for axis in range(1, labelmap.ndim):
                others = tuple(other for other in range(mask.ndim) if other != axis - 1)
                profile[axis][:] += mask.sum(axis=others)
    return found


def chosen_slices(labelmap: npt.NDArray[np.uint8], axis: int, count: int) -> list[int]:
    """Return slices to show, in order: the fullest of each target, the others spread between.

    Args:
        labelmap: ``(*spatial)``, label values.
        axis: Axis along which the slices are taken.
        count: Maximum number, unless there are more targets.

    Returns:
        Distinct indices; evenly spread if nothing was found.
    """
    found = [profile[axis] for profile in profiles(labelmap).values()]
    if not found:
        return spread_indices(labelmap.shape[axis], count)
    chosen = {int(sizes.argmax()) for sizes in found}
    filled = np.flatnonzero(np.sum(found, axis=0))
    while len(chosen) < min(count, len(filled)):
        distance = np.abs(filled[:, None] - sorted(chosen)).min(axis=1)
        chosen.add(int(filled[distance.argmax()]))
    return sorted(chosen)


def spread_indices(count: int, most: int) -> list[int]:
    """Return up to ``most`` of ``count`` indices, in order, evenly spread, away from the ends."""
    return sorted({int((place + 0.5) * count / most) for place in range(most)})


def _size(
    shape: tuple[int, ...], spacing: tuple[float, float] | None, side: int | None
) -> tuple[tuple[int, int], float | None]:
    """Return width and height of a slice as drawn, true to scale, and the mm per drawn pixel.

    Without a side a picture keeps its own size, or is made smaller if it is too large.
    """
    height, width = (n * mm for n, mm in zip(shape, spacing or (1.0, 1.0), strict=True))
    if side is None:
        finest = min(spacing) if spacing else 1.0
        scale = min(1.0 / finest, LONGEST / max(height, width))
    else:
        scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return size, None if spacing is None else 1.0 / scale


def _caption(record: Image) -> str:
    """Return the caption: the name of the result, the modality, and the window."""
    black, white = record.intensity_range or (0.0, 1.0)
    unit = f" {record.unit}" if record.unit else ""
    return f"{record.name}   {record.modality}, {black:g} to {white:g}{unit} as black to white"


def _with_legend(body: PIL.Image.Image, shown: Sequence[Shown], caption: str) -> PIL.Image.Image:
    """Return a picture with its caption above it, and the legend of its colors below it."""
    font = font_of(_LEGEND_SIZE)
    names = [one.target.name.replace("_", " ") for one in shown]
    texts = [
        f"{name}: {one.size}" if one.size else name for name, one in zip(names, shown, strict=True)
    ]
    widths = [round(font.getlength(text)) + 3 * _ROW for text in texts]
    widest = max([*widths, round(font.getlength(caption)) + _ROW])
    width = max(body.width, min(LONGEST, widest))
    rows: list[list[int]] = [[]]
    for number, wide in enumerate(widths):
        if rows[-1] and sum(widths[n] for n in rows[-1]) + wide > width:
            rows.append([])
        rows[-1].append(number)
    sheet = PIL.Image.new("RGB", (width, body.height + _ROW * (len(rows) + 2)), _PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    draw.text((8, _ROW // 2), caption, _INK, font, "lm")
    sheet.paste(body, ((width - body.width) // 2, _ROW))
    for line, row in enumerate(rows):
        left, middle = 8, body.height + _ROW * (line + 1) + _ROW // 2
        for number in row:
            draw.rectangle((left, middle - 7, left + 14, middle + 7), shown[number].target.color)
            draw.text((left + 22, middle), texts[number], _INK, font, "lm")
            left += widths[number]
    note = "esp-medsam, for research only"
    draw.text((8, sheet.height - _ROW // 2), note, _FAINT, font, "lm")
    return sheet
