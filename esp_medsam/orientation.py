"""Slice volumes and show slices as a radiologist views them, by flips and transposes only.

World axes are those of an affine from voxel indices to RAS+ millimeters: 0 points to the patient's
right, 1 to anterior, 2 to superior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import GeometryError, check_one_of
from esp_medsam.image import Image


if TYPE_CHECKING:  # reading alone must not wait for torch
    from torch import Tensor

ArrayOrTensor = TypeVar("ArrayOrTensor", npt.NDArray[np.generic], "Tensor")

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""World axis along which slices of each plane are stacked."""

_NAMES = {axis: plane for plane, axis in PLANES.items()}

_SHOWN = {0: (2, 1), 1: (2, 0), 2: (1, 0)}
"""For each sliced world axis, the world axes of the row index and the column index, both shown in
the negative direction. Axial: down to posterior, across to patient left; coronal: down to feet,
across to left; sagittal: down to feet, across to posterior."""

NEARLY_ISOTROPIC = 1.5
"""Largest ratio of the coarsest to the finest spacing at which slices are taken along head-foot.

``benchmarks/slice_axis.py`` measured it: on CT made coarser along one axis, head-foot slices kept
their Dice up to this ratio, and slices along that axis found nothing.
"""

_SPACING_TOLERANCE = 0.01
"""Relative difference below which two spacings count as equal."""

_NEARLY = 0.05
"""Relative change of a spacing that should not change the slice axis without a warning."""


@dataclass(frozen=True)
class Display:
    """Axis along which an array is sliced, and how each slice is turned for display.

    A slice keeps the order of the array's other two axes; then it is transposed, then its rows and
    columns are flipped. ``slice_axis`` None means that the array itself is the only slice.
    """

    slice_axis: int | None = None
    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def count(self, spatial_shape: Sequence[int]) -> int:
        """Return the number of slices in an array of this shape."""
        return 1 if self.slice_axis is None else int(spatial_shape[self.slice_axis])

    def shown(self, per_axis: Sequence[float]) -> tuple[float, float]:
        """Return the values for the shown rows and columns, given one value per array axis."""
        rows, columns = (value for axis, value in enumerate(per_axis) if axis != self.slice_axis)
        return (columns, rows) if self.transpose else (rows, columns)

    def show(self, array: ArrayOrTensor, index: int) -> ArrayOrTensor:
        """Return slice ``index`` of ``(C, *spatial)`` as it is shown, ``(C, rows, columns)``."""
        if self.slice_axis is not None:
            array = array[(slice(None),) * (self.slice_axis + 1) + (index,)]
        return self.turn(array)

    def turn(self, image: ArrayOrTensor) -> ArrayOrTensor:
        """Turn an image ``(..., rows, columns)`` from array order to display order."""
        if self.transpose:
            image = image.swapaxes(-2, -1)
        return _flip(image, rows=self.flip_rows, columns=self.flip_columns)

    def turn_back(self, image: ArrayOrTensor) -> ArrayOrTensor:
        """Undo :meth:`turn` exactly."""
        image = _flip(image, rows=self.flip_rows, columns=self.flip_columns)
        return image.swapaxes(-2, -1) if self.transpose else image

    def put(self, array: ArrayOrTensor, index: int, image: ArrayOrTensor) -> None:
        """Write a shown slice ``(C, rows, columns)`` in place, to where :meth:`show` reads it."""
        image = self.turn_back(image)
        if self.slice_axis is None:
            array[...] = image
        else:
            array[(slice(None),) * (self.slice_axis + 1) + (index,)] = image


def display_of(
    spatial_shape: Sequence[int],
    affine: npt.NDArray[np.float64] | None,
    plane: str | None = None,
    *,
    acquired_axis: int | None = None,
    stack_axis: int | None = None,
) -> Display:
    """Decide how an image is sliced and shown.

    A photograph (two axes, no affine) is shown as stored. A volume is sliced along an axis of
    length 1; else, if the spacings are within :data:`NEARLY_ISOTROPIC`, along the axis closest to
    head-foot; else, for a DICOM stack, along its acquired axis, and for other volumes along the
    axis whose spacing differs most from the other two (on a tie, the coarser).

    Args:
        spatial_shape: Voxels along each of the two or three axes.
        affine: Voxel indices to RAS+ mm, ``(4, 4)``; None if the file states no geometry.
        plane: ``axial``, ``coronal`` or ``sagittal`` instead of the rule; None applies the rule.
        acquired_axis: The axis along which a stack was acquired; None if it is not known.
        stack_axis: The only axis that may be sliced: that of frames in time, or of slices with
            gaps. Without an affine, each frame is shown as stored.

    Raises:
        OptionError: If ``plane`` is not one of the three.
        GeometryError: If a volume has no affine, if its affine's columns do not span space, or if
            a stack with gaps would be cut across.
    """
    if plane is not None:
        check_one_of("slice_axis", plane, sorted(PLANES))
    if len(spatial_shape) == 2:
        if affine is None:
            return Display()
        shown = _turned(closest_world_axes(affine), 2)
        return Display(None, shown.transpose, shown.flip_rows, shown.flip_columns)
    if affine is None and stack_axis is not None and plane is None:
        return Display(stack_axis)
    if affine is None:
        msg = "A volume must state where its voxels lie; got no affine."
        raise GeometryError(msg)
    world = closest_world_axes(affine)
    if plane is not None:
        slice_axis = [axis for axis, _ in world].index(PLANES[plane])
    elif stack_axis is not None:
        slice_axis = stack_axis
    else:
        slice_axis = _axis_by_rule(spatial_shape, _spacing_of(affine), world, acquired_axis)
    if stack_axis is not None and slice_axis != stack_axis:
        own = _NAMES[world[stack_axis][0]]
        msg = f"slice_axis must be {own}, as acquired, for slices with gaps; got {plane}."
        raise GeometryError(msg)
    return _turned(world, slice_axis)


def display_of_image(record: Image, plane: str | None = None) -> Display:
    """Decide how the image of a record is sliced and shown, see :func:`display_of`."""
    return display_of(
        record.grid.shape,
        record.grid.display_affine,
        plane,
        acquired_axis=_acquired_axis(record),
        stack_axis=record.grid.stack_axis,
    )


def plane_of(record: Image, display: Display) -> str | None:
    """Return the plane of the slices of an image; None for a picture or without positions.

    Args:
        record: Record of the image.
        display: How the image is sliced.
    """
    affine = record.grid.display_affine
    if affine is None or display.slice_axis is None:
        return None
    return _NAMES[closest_world_axes(affine)[display.slice_axis][0]]


def nearly_otherwise(record: Image) -> str | None:
    """Return a warning if slightly different spacings would have changed the slice axis.

    Args:
        record: Record of the image.

    Returns:
        A sentence for the user; None if the rule leaves no doubt.
    """
    affine = record.grid.affine
    if affine is None or record.grid.stack_axis is not None or not record.grid.is_volume:
        return None
    world, acquired = closest_world_axes(affine), _acquired_axis(record)
    spacing = _spacing_of(affine)
    chosen = _axis_by_rule(record.grid.shape, spacing, world, acquired)
    for axis, change in product(range(3), (1 - _NEARLY, 1 + _NEARLY)):
        changed = spacing.copy()
        changed[axis] *= change
        other = _axis_by_rule(record.grid.shape, changed, world, acquired)
        if other != chosen:
            lengths = " x ".join(f"{length:.4g}" for length in spacing)
            planes = [_NAMES[world[place][0]] for place in (chosen, other)]
            return (
                f"The volume was cut into {planes[0]} slices; with its spacing, {lengths} mm, "
                f"{planes[1]} ones are almost as good. Set slice_axis to choose."
            )
    return None


def _acquired_axis(record: Image) -> int | None:
    """Return the axis along which a DICOM stack was acquired: the last axis of its array."""
    return 2 if record.sources and record.grid.is_volume else None


def closest_world_axes(affine: npt.NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """Return, for each array axis, the closest world axis and its direction (1 or -1) along it.

    Every world axis is assigned once, so that an oblique volume also has three planes.

    Raises:
        GeometryError: If the affine's columns do not span space.
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(columns).all() or (lengths == 0).any() or np.linalg.det(columns) == 0:
        msg = (
            "affine must map the voxel axes to three independent directions; got a singular matrix."
        )
        raise GeometryError(msg)
    cosines = columns / lengths
    # Rounded, so that the last bits do not decide at exactly 45 degrees.
    best = max(
        permutations(range(3)),
        key=lambda order: round(sum(abs(cosines[w, a]) for a, w in enumerate(order)), 6),
    )
    return tuple((w, 1 if cosines[w, a] >= 0 else -1) for a, w in enumerate(best))


def _spacing_of(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    return lengths


def _axis_by_rule(
    spatial_shape: Sequence[int],
    spacing: npt.NDArray[np.float64],
    world: tuple[tuple[int, int], ...],
    acquired_axis: int | None,
) -> int:
    """Return the array axis along which the slices run."""
    head_foot = [axis for axis, _ in world].index(PLANES["axial"])
    single = [axis for axis in range(3) if spatial_shape[axis] == 1]
    if single:
        return head_foot if head_foot in single else max(single, key=lambda axis: spacing[axis])

    finest, middle, coarsest = (int(axis) for axis in np.argsort(spacing, kind="stable"))
    if spacing[coarsest] <= spacing[finest] * NEARLY_ISOTROPIC:
        return head_foot
    if acquired_axis is not None:
        return acquired_axis
    finer, coarser = spacing[middle] - spacing[finest], spacing[coarsest] - spacing[middle]
    # The middle spacing never differs most; on a tie, the thicker slices are the acquired ones.
    return finest if finer - coarser > _SPACING_TOLERANCE * spacing[middle] else coarsest


def _turned(world: tuple[tuple[int, int], ...], slice_axis: int) -> Display:
    """Return the flips and the transpose that show the slices along ``slice_axis``."""
    rows, columns = _SHOWN[world[slice_axis][0]]
    in_plane = [world[axis] for axis in range(3) if axis != slice_axis]
    signs = dict(in_plane)
    return Display(
        slice_axis,
        transpose=in_plane[0][0] != rows,
        flip_rows=signs[rows] > 0,
        flip_columns=signs[columns] > 0,
    )


def _flip(image: ArrayOrTensor, *, rows: bool, columns: bool) -> ArrayOrTensor:
    """Reverse the last two axes as requested; return the image itself if neither is."""
    axes = tuple(axis for axis, reverse in ((-2, rows), (-1, columns)) if reverse)
    if not axes:
        return image
    if isinstance(image, np.ndarray):
        return np.flip(image, axes)
    return image.flip(axes)
