"""Write the NIfTI files of ``seg2nifti``."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom import DicomSegmentation, SegSegment
from esp_medsam.io.label_names import label_extension
from esp_medsam.io.like import OutputGrid
from esp_medsam.io.nifti import write_nifti
from esp_medsam.io.nifti_header import geometry_of


@dataclass(frozen=True)
class _Shown:
    """Name and color of a label value."""

    name: str
    color: tuple[int, int, int]


def arrays_of(
    segmentation: DicomSegmentation, numbers: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield the mask of each segment, or the full labelmap for 0; a labelmap is decoded once."""
    labels = segmentation.labelmap() if segmentation.kind == "labelmap" or 0 in numbers else None
    for number in numbers:
        if labels is None:
            yield number, segmentation.mask(number)
        else:
            yield number, (labels == number).view(np.uint8) if number else labels


def write_array(
    path: Path,
    array: npt.NDArray[Any],
    segmentation: DicomSegmentation,
    grid: OutputGrid | None,
    number: int,
    root: Path,
) -> dict[int, int]:
    """Write one file, for a single segment or for all of them.

    Args:
        path: File to write.
        array: Array as :func:`arrays_of` yields it.
        segmentation: Segmentation that the array comes from.
        grid: Grid to write the array on; None keeps the segmentation's grid.
        number: Number of the segment; 0 for all.
        root: Folder above the file; links below it are not followed.

    Returns:
        Number of voxels of each segment in the file, by segment number.

    Raises:
        GeometryError: If the array lies off the grid.
        OutputError: If the file cannot be written.
    """
    by_number = {segment.number: segment for segment in segmentation.segments}
    affine = segmentation.grid.affine
    assert affine is not None, "checked before"
    geometry = geometry_of(affine) if grid is None else grid.geometry
    if grid is not None:
        array = grid.take(array, affine)
    is_fraction = not segmentation.is_whole
    shown = [(1, by_number[number])] if number else list(by_number.items())
    labels = [(value, _shown(segment)) for value, segment in shown]
    write_nifti(
        path,
        array,
        geometry=geometry,
        extension=b"" if is_fraction else label_extension(labels),
        slope=1 / segmentation.maximum if is_fraction else 1.0,
        root=root,
    )
    if number:
        return {number: int(np.count_nonzero(array))}
    return _counts(array, list(by_number))


def _counts(array: npt.NDArray[Any], numbers: Sequence[int]) -> dict[int, int]:
    """Return the voxel count of each number, plane by plane: counting takes 64 bits per voxel."""
    last = max(numbers, default=0)
    planes = (array[..., k].ravel() for k in range(array.shape[-1]))
    total = sum(np.bincount(plane, minlength=last + 1) for plane in planes)
    return {number: int(np.asarray(total)[number]) for number in numbers}


def _shown(segment: SegSegment) -> _Shown:
    """Return a segment's name and color; without a color, hues step by the golden ratio."""
    if segment.color is not None:
        return _Shown(segment.label, segment.color)
    hue = segment.number * 0.618034 % 1
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.7, 1))
    return _Shown(segment.label, (red, green, blue))
