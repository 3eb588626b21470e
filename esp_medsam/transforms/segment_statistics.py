"""Measure the segments of a labelmap: size, place, shape and intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError  # type: ignore[import-untyped]  # ships no types
from scipy.spatial.distance import pdist  # type: ignore[import-untyped]  # ships no types
from skimage.measure import label

from esp_medsam.grid import Grid
from esp_medsam.transforms.label_boxes import label_boxes


PERCENTILES = (5, 25, 50, 75, 95)

DIGITS = 6
"""Significant digits that are kept."""


@dataclass(frozen=True, kw_only=True)
class SegmentStatistics:
    """Statistics of one segment; None where the image or its grid does not allow a value.

    Places are indices along the axes of the file's array, from 0.

    Attributes:
        voxels: Number of voxels, or pixels.
        ml: Volume in milliliters; None for pictures and unevenly stacked slices.
        area_mm2: Area of a picture's segment in square millimeters; None without pixel spacing.
        box_first: First index along each axis of the smallest box around it.
        box_last: Last index along each axis, inclusive.
        centroid: Mean index along each axis.
        centroid_mm: The same in mm, RAS+; None without an affine.
        components: Number of components that touch by faces, edges or corners.
        diameter_mm: Largest distance between centers of its voxels in mm; None without spacing.
        mean: Mean intensity, in the unit of the image: HU, or the values of the file. None, like
            all below, without an image and for color.
        standard_deviation: Standard deviation of the intensity.
        minimum: Lowest intensity.
        maximum: Highest intensity.
        percentiles: Intensities at :data:`PERCENTILES`.
    """

    voxels: int
    ml: float | None = None
    area_mm2: float | None = None
    box_first: tuple[int, ...] | None = None
    box_last: tuple[int, ...] | None = None
    centroid: tuple[float, ...] | None = None
    centroid_mm: tuple[float, ...] | None = None
    components: int = 0
    diameter_mm: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    percentiles: tuple[float, ...] | None = None


def segment_statistics(
    labelmap: npt.NDArray[np.uint8],
    labels: Sequence[int],
    grid: Grid,
    pixels: npt.NDArray[Any] | None = None,
) -> list[SegmentStatistics]:
    """Return the statistics of the segments of a labelmap, in the order of the labels.

    Args:
        labelmap: ``(*spatial)``.
        labels: Values of the segments; one without a voxel has a size of 0 and no more.
        grid: Grid of the image.
        pixels: Intensities, ``(C, *spatial)``; None leaves them out.

    Raises:
        ValueError: If labelmap, grid and pixels do not have the same shape.
    """
    shapes = {labelmap.shape, grid.shape, *(() if pixels is None else (pixels.shape[1:],))}
    if len(shapes) > 1:
        msg = f"labelmap, grid and pixels must have one shape; got {shapes}."
        raise ValueError(msg)
    boxes = label_boxes(labelmap, max(labels, default=0))
    gray = pixels[0] if pixels is not None and len(pixels) == 1 else None
    found = []
    for value in labels:
        box = boxes[value - 1]
        if box is None:
            empty = 0.0 if grid.voxel_ml is not None else None
            found.append(SegmentStatistics(voxels=0, ml=empty, area_mm2=_area(0, grid)))
            continue
        found.append(_of_segment(labelmap[box] == value, box, grid, gray))
    return found


def _of_segment(
    mask: npt.NDArray[np.bool_],
    box: tuple[slice, ...],
    grid: Grid,
    gray: npt.NDArray[Any] | None,
) -> SegmentStatistics:
    """Return the statistics of the mask in its smallest box."""
    first = np.array([part.start for part in box])
    places = np.argwhere(mask)
    voxels, centroid = len(places), places.mean(axis=0) + first
    _, components = label(mask, return_num=True, connectivity=mask.ndim)  # type: ignore[no-untyped-call]
    values = {} if gray is None else _intensities(gray[box][mask])
    ml = grid.ml_of(voxels)
    return SegmentStatistics(
        voxels=voxels,
        ml=None if ml is None else _rounded(ml),
        area_mm2=_area(voxels, grid),
        box_first=tuple(int(part.start) for part in box),
        box_last=tuple(int(part.stop) - 1 for part in box),
        centroid=_all_rounded(centroid),
        centroid_mm=_in_mm(centroid, grid),
        components=int(components),
        diameter_mm=_diameter(places, grid),
        **values,
    )


def _area(voxels: int, grid: Grid) -> float | None:
    if grid.is_volume or grid.spacing is None:
        return None
    return _rounded(voxels * float(np.prod(grid.spacing)))


def _in_mm(centroid: npt.NDArray[np.float64], grid: Grid) -> tuple[float, ...] | None:
    if grid.affine is None or not grid.is_volume:
        return None
    return _all_rounded(grid.affine[:3, :3] @ centroid + grid.affine[:3, 3])


def _diameter(places: npt.NDArray[np.intp], grid: Grid) -> float | None:
    """Return the largest distance between voxels, which is one between corners of their hull."""
    if grid.spacing is None or (grid.is_volume and grid.affine is None):
        return None
    axes = np.diag(grid.spacing) if grid.affine is None else grid.affine[:3, : places.shape[1]]
    # Along the first axis, only the ends of each run can be corners.
    points = _ends(places) @ axes.T
    if len(points) < 2:
        return 0.0
    try:
        points = points[ConvexHull(points).vertices]
    except QhullError:  # flat, or a line
        points = _of_flat(points)
    return _rounded(float(pdist(points).max()))


def _ends(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the first and last place of each line along the last axis."""
    is_first = np.ones(len(places), dtype=bool)
    is_first[1:] = (places[1:, :-1] != places[:-1, :-1]).any(axis=1)
    is_last = np.roll(is_first, -1)
    return places[is_first | is_last]


def _of_flat(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the corners of points that lie in a plane or on a line."""
    centered = points - points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    spanned = centered @ directions[sizes > 1e-6 * sizes[0]].T
    if spanned.shape[1] == 1:
        return points[[int(spanned.argmin()), int(spanned.argmax())]]
    corners: npt.NDArray[np.float64] = points[ConvexHull(spanned).vertices]
    return corners


def _intensities(values: npt.NDArray[Any]) -> dict[str, Any]:
    numbers = values.astype(np.float64)
    return {
        "mean": _rounded(float(numbers.mean())),
        "standard_deviation": _rounded(float(numbers.std())),
        "minimum": _rounded(float(numbers.min())),
        "maximum": _rounded(float(numbers.max())),
        "percentiles": _all_rounded(np.percentile(numbers, PERCENTILES)),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _all_rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(_rounded(float(value)) for value in values)
