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
    """Yield the mask of each segment, or for 0 the labelmap of all; a labelmap is decoded once."""
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
    """Write one file, of the segment of that number or of all.

    Args:
        path: File to write.
        array: As :func:`arrays_of` yields it.
        segmentation: What it is of.
        grid: Grid to write it on; None is its own.
        number: Number of the segment; 0 of all.
        root: Folder above the file, below which no link is followed.

    Returns:
        Number of voxels of each segment in it, by its number.

    Raises:
        GeometryError: If it lies off the grid.
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
    """Return how many voxels hold each number, plane by plane: counting takes 64 bits a voxel."""
    last = max(numbers, default=0)
    planes = (array[..., k].ravel() for k in range(array.shape[-1]))
    total = sum(np.bincount(plane, minlength=last + 1) for plane in planes)
    return {number: int(np.asarray(total)[number]) for number in numbers}


def _shown(segment: SegSegment) -> _Shown:
    """Return name and color; without one a hue of its own, the golden ratio on from the last."""
    if segment.color is not None:
        return _Shown(segment.label, segment.color)
    hue = segment.number * 0.618034 % 1
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.7, 1))
    return _Shown(segment.label, (red, green, blue))
