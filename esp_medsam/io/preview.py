"""Draw a preview of a result: contours, names, sizes, orientation and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from esp_medsam.image import Image, Segmentation, size_text
from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.contour import outline
from esp_medsam.io.marks import mark, sides_of
from esp_medsam.io.output_path import PREVIEW_ENDINGS
from esp_medsam.io.page import Picture, Row, Shown, draw_page, in_columns
from esp_medsam.io.picture_file import png_with_mark, write_jpeg
from esp_medsam.io.slice_choice import Cut, cuts_through, profiles
from esp_medsam.io.tile import Rgb, gray_to_rgb, scaled
from esp_medsam.modality import Target
from esp_medsam.orientation import Display, display_of_image


LONGEST = 2048
"""Maximum longer side of a picture, in pixels; those of a volume together are as wide."""

SHORTEST = 1024
"""Pictures whose longer side is shorter are enlarged to this, so that they are seen in print."""

FEW, LARGE, SMALL = 2, 640, 320
"""Up to ``FEW`` targets have two rows of three large slices each, more targets a row of six small
ones; longer sides in pixels."""

MOST_ROWS = 12
"""Most targets that have rows of their own, the largest ones; the legend has all."""

NOTABLE = 0.2
"""Least jump that is shown: 95 % of reference masks stay below 0.21 (benchmarks/slice_jumps.py)."""

MOST_BYTES = 1_000_000
"""Maximum size of a PNG; a larger picture becomes a JPEG."""

_LETTERS = 18
"""Size of the letters and numbers in a picture, in pixels."""


def shown_targets(
    targets: Sequence[Target], segmentation: Segmentation, image: Image
) -> list[Shown]:
    """Return targets as the legend of a picture shows them."""
    unknown = [None] * len(targets)
    shown = []
    for target, voxels, confidence, jump in zip(
        targets,
        segmentation.voxels or unknown,
        segmentation.confidence or unknown,
        segmentation.jumps or unknown,
        strict=True,
    ):
        size = "" if voxels is None else size_text(voxels, image.grid.ml_of(voxels))
        place = None if jump is None else (jump.index, jump.share)
        shown.append(Shown(target, size, confidence, place, is_found=voxels != 0))
    return shown


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

    PNG keeps lines and letters exactly; JPEG without subsampled colors comes close at a fraction
    of the size, which counts for thousands of results.

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
    encoded = png_with_mark(picture)
    if len(encoded) <= MOST_BYTES:
        with atomic_file(png, root) as file:
            file.write(encoded)
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
    """Draw the contours of masks over an image, on a page with a legend.

    A 2-D picture is shown whole. For a volume, each target that was found is shown in three planes
    and in the slices that matter, see :func:`~esp_medsam.io.slice_choice.cuts_through`; if nothing
    was found, the middle of the volume is. The page holds nothing that a header or a file name
    says of a patient. Arguments are those of :func:`write_preview`.
    """
    view = _View(pixels, labelmap, record, [one.target for one in shown])
    if display_of_image(record, slice_axis).slice_axis is None:
        heading = "" if labelmap.any() else "Nothing found"
        rows = [Row(heading, None, [[Picture(view.whole())]])]
    else:
        rows = _rows_of_volume(view, shown, slice_axis)
    return draw_page(_caption(record), shown, rows)


def _rows_of_volume(view: _View, shown: Sequence[Shown], slice_axis: str | None) -> list[Row]:
    """Return a row or two for each target that was found, or for the middle of the volume."""
    found = profiles(view.labelmap[0])
    here = [one for one in shown if one.target.label in found]
    largest = sorted(here, key=lambda one: -int(found[one.target.label][0].sum()))[:MOST_ROWS]
    side, columns = (LARGE, 3) if len(largest) <= FEW else (SMALL, 6)
    if not here:
        cuts = cuts_through(view.record, slice_axis, None)
        heading = "Nothing found; the middle is shown"
        return _rows([view.tile(cut, side) for cut in cuts], columns, heading, None)
    rows = []
    for one in here:
        if one not in largest:
            continue
        jump = one.jump if one.jump and one.jump[1] >= NOTABLE else None
        profile = found[one.target.label]
        cuts = cuts_through(view.record, slice_axis, profile, jump and jump[0])
        heading = one.text if len(here) > 1 else ""
        if jump:
            heading = f"{one.text}; jumps from slice to slice by up to {jump[1]:.2f}"
        tiles = [view.tile(cut, side) for cut in cuts]
        rows += _rows(tiles, columns, heading, one.target.color)
    return rows


def _rows(
    tiles: Sequence[Picture], columns: int, heading: str, color: tuple[int, int, int] | None
) -> list[Row]:
    """Return tiles in rows, flat ones last; the first row has the heading."""
    rows = in_columns(sorted(tiles, key=_is_flat), columns)
    return [Row("" if number else heading, color, row) for number, row in enumerate(rows)]


def _is_flat(tile: Picture) -> bool:
    return bool(tile.pixels.shape[0] < tile.pixels.shape[1] // 2)


@dataclass(frozen=True)
class _View:
    """An image with its masks, to draw slices from."""

    pixels: npt.NDArray[np.generic]
    labelmap: npt.NDArray[np.uint8]
    record: Image
    targets: Sequence[Target]

    def whole(self) -> Rgb:
        """Return a 2-D picture at its own size, unless that is too large or too small."""
        return self._drawn(display_of_image(self.record), 0, None)

    def tile(self, cut: Cut, side: int) -> Picture:
        """Return a slice of a volume, its longer side ``side`` pixels long."""
        assert cut.display.slice_axis is not None, "a volume has one"
        count = self.record.grid.shape[cut.display.slice_axis]
        text = f"{cut.plane} {cut.index + 1} of {count}, {cut.reason}"
        return Picture(self._drawn(cut.display, cut.index, side), text)

    def _drawn(self, display: Display, index: int, side: int | None) -> Rgb:
        values = display.show(self.pixels, index)
        labels = display.show(self.labelmap, index)[0]
        per_axis = self.record.grid.spacing
        spacing = None if per_axis is None else display.shown(per_axis)
        size, mm_per_pixel = _size(labels.shape, spacing, side)
        # Subsample first: as float, a photograph of many megapixels would fill the memory.
        step = max(1, max(labels.shape) // (2 * max(size)))
        limits = self.record.intensity_range or (0.0, 1.0)
        rgb = scaled(gray_to_rgb(values[:, ::step, ::step], limits), size)
        drawn = outline(rgb, ((labels == one.label, one.color) for one in self.targets))
        affine = self.record.grid.display_affine
        sides = None if affine is None else sides_of(display, affine)
        return mark(drawn, sides=sides, mm_per_pixel=mm_per_pixel, text_size=_LETTERS)


def _size(
    shape: tuple[int, ...], spacing: tuple[float, float] | None, side: int | None
) -> tuple[tuple[int, int], float | None]:
    """Return width and height of a slice as drawn, true to scale, and the mm per drawn pixel."""
    height, width = (n * mm for n, mm in zip(shape, spacing or (1.0, 1.0), strict=True))
    longest = max(height, width)
    if side is None:
        finest = min(spacing) if spacing else 1.0
        scale = min(max(1.0 / finest, SHORTEST / longest), LONGEST / longest)
    else:
        scale = side / longest
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return size, None if spacing is None else 1.0 / scale


def _caption(record: Image) -> str:
    """Return the text at the top of the page: modality, window, and grid."""
    black, white = record.intensity_range or (0.0, 1.0)
    low, high = sorted((black, white))
    if record.unit == "HU":
        window = f"window level {(low + high) / 2:g}, width {high - low:g} HU"
    else:
        window = f"window {low:.5g} to {high:.5g}"
        window += f" ({record.intensity_origin})" if record.intensity_origin else ""
    shown = ", low values white" if black > white else ""
    lengths = " x ".join(str(length) for length in record.grid.shape)
    spacing = record.grid.spacing
    mm = "" if spacing is None else _spacing_text(record, spacing)
    name = (record.modality or "").upper() if record.modality in ("ct", "mri") else record.modality
    kind = "pixels" if record.grid.affine is None else "voxels"
    return f"{name}; {window}{shown}; {lengths} {kind}{mm}"


def _spacing_text(record: Image, spacing: Sequence[float]) -> str:
    """Return the spacing in words, without that between frames and uneven slices."""
    known = spacing if record.grid.affine is not None else spacing[:2]
    return " of " + " x ".join(f"{mm:.3g}" for mm in known) + " mm"
