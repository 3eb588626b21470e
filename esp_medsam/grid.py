"""Positions of the voxels of an image, and the order of its array.

World coordinates are RAS+ in mm: they increase to the patient's right, anterior and superior.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import GeometryError


GRID_TOLERANCE = 0.02
"""Fraction of a voxel a mask may be off its image, as NIfTI stores positions in 32 bits."""

_UNAMBIGUOUS = 0.4
"""Largest offset, in voxels, at which the matching voxel is certain despite rounded positions."""

SHEAR_TOLERANCE = 1e-4
"""Cosine between two array axes above which an affine counts as sheared."""

_SHEAR_WARNING = (
    "The axes are not at right angles (sheared affine); the mask has the same affine, which "
    "some viewers cannot show."
)

_ALONG = 1e-3
"""How far the cosine of an axis and a direction may be from 1 if the two are the same."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Where the voxels of an image lie.

    Attributes:
        shape: Voxels along each axis of the array, without channels: ``(rows, columns)`` for a
            picture shown upright; ``(columns, rows, slices)`` for DICOM slices with positions,
            ``(rows, columns, frames)`` for frames without; the three axes as stored for other
            volumes.
        affine: ``(4, 4)``, voxel index to mm; None if the file states no geometry, as for
            photographs, or if slices are not evenly stacked.
        slice_affines: ``(N, 4, 4)``, for each slice along the last axis the affine that maps its
            ``(i, j, 0)`` to mm; the third column is the unit normal that points in the order of
            the slices. None if the file does not position each slice.
        stack_axis: The only axis along which slices may be taken, for frames and for unevenly
            stacked slices; None if any axis will do, and for a picture.
        pixel_spacing: Distance in mm between neighbors along the first two array axes, if a file
            states it without a position; None otherwise.
        rounding: How far in mm a slice may lie off ``affine`` because positions are rounded; 0
            if they are not rounded.
    """

    shape: tuple[int, ...]
    affine: Array | None = None
    slice_affines: Array | None = None
    stack_axis: int | None = None
    pixel_spacing: tuple[float, float] | None = None
    rounding: float = 0.0

    @property
    def is_volume(self) -> bool:
        """Whether the grid has three axes, even with one slice; otherwise it is a picture."""
        return len(self.shape) == 3

    @property
    def is_positioned(self) -> bool:
        """Whether the file states the position of each slice, as DICOM does."""
        return self.slice_affines is not None

    @property
    def display_affine(self) -> Array | None:
        """Affine that decides how slices are turned for display: ``affine`` or the middle slice's.

        Do not take positions from it; use ``affine`` and ``slice_affines``.
        """
        if self.affine is not None or self.slice_affines is None:
            return self.affine
        middle: Array = self.slice_affines[len(self.slice_affines) // 2]
        return middle

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Distance in mm between neighbors along each array axis.

        The last distance is 1 for frames and for unevenly stacked slices. None if the file states
        no distance.
        """
        axes = len(self.shape)
        affine = self.display_affine
        if affine is not None:
            columns = affine[:3, :axes]
            return tuple(float(length) for length in np.linalg.norm(columns, axis=0))
        if self.pixel_spacing is None:
            return None
        return (*self.pixel_spacing, 1.0)[:axes]

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel in milliliters; None for pictures and unevenly stacked slices."""
        if not self.is_volume or self.affine is None:
            return None
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def cleaned_ml(self) -> float | None:
        """Voxel volume in milliliters for minimum component volumes; None for a single slice.

        The thickness of a single slice is not a distance to a neighbor, and may be made up.
        """
        return None if min(self.shape, default=0) < 2 else self.voxel_ml

    def ml_of(self, voxels: int) -> float | None:
        """Return the volume of a number of voxels in milliliters; None if it is not known."""
        return None if self.voxel_ml is None else voxels * self.voxel_ml

    @property
    def count(self) -> int:
        """Number of planes along the last axis; 1 for a picture."""
        return self.shape[2] if self.is_volume else 1

    @property
    def plane_size(self) -> tuple[int, int]:
        """Rows and columns of a plane along the last axis, as stored in the file."""
        first, second = self.shape[:2]
        return (second, first) if self.is_positioned else (first, second)

    def plane(self, array: npt.NDArray[Any], index: int) -> npt.NDArray[Any]:
        """Return one plane of an array as stored in the file, ``(rows, columns)``.

        Args:
            array: Array of shape ``shape``.
            index: Index of the plane along the last axis.
        """
        chosen: npt.NDArray[Any] = array[..., index] if self.is_volume else array
        return chosen.T if self.is_positioned else chosen

    def from_planes(self, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of planes in the order of the array.

        Args:
            planes: ``(N, rows, columns, *more)``, as stored in the file.

        Returns:
            ``(*shape, *more)``.
        """
        more = range(3, planes.ndim)
        if not self.is_volume:
            picture: npt.NDArray[Any] = planes[0]
            return picture
        order = (2, 1, 0) if self.is_positioned else (1, 2, 0)
        arranged: npt.NDArray[Any] = planes.transpose(*order, *more)
        return arranged

    def plane_affine(self, index: int) -> Array:
        """Return the affine that maps ``(i, j, 0)`` of a plane along the last axis to mm.

        Raises:
            GeometryError: If the grid states no position.
        """
        if self.slice_affines is not None:
            own: Array = self.slice_affines[index]
            return own
        if self.affine is None:
            msg = "A grid must state positions to match a mask by; it does not."
            raise GeometryError(msg)
        placed: Array = self.affine.copy()
        placed[:3, 3] += index * self.affine[:3, 2]
        return placed

    def positions_along(self, axis: int | None) -> Array | None:
        """Return the positions in mm of the slices along an axis.

        Args:
            axis: Array axis; None for a picture.

        Returns:
            One position for each slice, measured along the normal of the middle slice if slices
            are unevenly stacked; None without positions, as for pictures and frames in time.
        """
        if axis is None:
            return None
        if self.affine is not None:
            step = float(np.linalg.norm(self.affine[:3, axis]))
            return np.arange(self.shape[axis], dtype=np.float64) * step
        if self.slice_affines is None:
            return None
        middle = self.slice_affines[len(self.slice_affines) // 2]
        normal = np.cross(middle[:3, 0], middle[:3, 1])
        normal /= np.linalg.norm(normal)
        positions: Array = self.slice_affines[:, :3, 3] @ normal
        return positions

    def spacing_along(self, direction: Array) -> float | None:
        """Return the voxel spacing in mm along a direction; None if no axis has that direction."""
        if self.affine is None:
            return None
        axes = self.affine[:3, :3]
        lengths = np.linalg.norm(axes, axis=0)
        cosines = np.abs(direction @ axes) / (lengths * np.linalg.norm(direction))
        best = int(cosines.argmax())
        return float(lengths[best]) if cosines[best] > 1 - _ALONG else None

    @property
    def off_even(self) -> float:
        """Largest distance in mm of a slice from the even grid of ``affine``.

        0 if ``affine`` or ``slice_affines`` is None. Some series have rounded positions, and masks
        drawn on them are rounded likewise.
        """
        if self.affine is None or self.slice_affines is None:
            return 0.0
        steps = np.arange(len(self.slice_affines))[:, None] * self.affine[:3, 2]
        off = self.slice_affines[:, :3, 3] - self.affine[:3, 3] - steps
        return float(np.linalg.norm(off, axis=1).max())

    def take(
        self,
        masks: npt.NDArray[Any],
        affine: Array,
        *,
        what: str,
        rounding: float | None = None,
    ) -> npt.NDArray[Any]:
        """Return masks on this grid, by turning, flipping or cropping their own grid.

        Voxels are copied without interpolation, slice by slice if the image has gaps. Masks are
        empty beyond their own grid.

        Args:
            masks: ``(i, j, k)`` for one mask or labelmap; ``(T, i, j, k)`` for several masks.
            affine: ``(4, 4)``, from the masks' voxels to RAS+ in mm.
            what: The image that has this grid, for messages.
            rounding: How far in mm slice positions are rounded, both in the image and in a mask
                made from some of its slices; None takes :attr:`rounding`.

        Returns:
            ``(*shape)``, or ``(T, *shape)``.

        Raises:
            GeometryError: If the grid has no position; if one of its voxels lies off the masks'
                grid by more than :data:`GRID_TOLERANCE` voxels plus the rounding; or if a mask
                marks anything outside the image.
        """
        if self.affine is None and self.slice_affines is None:
            msg = f"{what} must state positions to match a mask by; it does not."
            raise GeometryError(msg)
        if masks.ndim not in (3, 4):
            msg = f"masks must be (T, i, j, k), or (i, j, k); got the shape {masks.shape}."
            raise GeometryError(msg)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            msg = f"affine must be one that can be inverted; got {np.asarray(affine).tolist()}."
            raise GeometryError(msg)
        several = masks if masks.ndim == 4 else masks[None]
        out: npt.NDArray[Any] = np.zeros((len(several), *self.shape), dtype=masks.dtype)
        inverse = np.linalg.inv(affine)
        voxel = float(np.linalg.norm(affine[:3, :3], axis=0).min())
        rounded = self.rounding if rounding is None else rounding
        tolerance = min(GRID_TOLERANCE + rounded / voxel, _UNAMBIGUOUS)
        for k in range(self.count):
            _take_plane(several, inverse @ self.plane_affine(k), out[..., k], what, tolerance)
        lost = int(np.count_nonzero(masks)) - int(np.count_nonzero(out))
        if lost:
            msg = (
                f"A mask must lie within {what}; {lost} voxels of it lie outside the image, or "
                "where slices overlap."
            )
            raise GeometryError(msg)
        return out.reshape(*masks.shape[:-3], *self.shape)


def _take_plane(
    masks: npt.NDArray[Any], to_mask: Array, out: npt.NDArray[Any], what: str, tolerance: float
) -> None:
    """Fill one plane ``(T, i, j)`` from the plane of the masks at the same position."""
    columns, rows = out.shape[1:]
    turn = to_mask[:3, :2].round()
    corners = np.array([[i, j, 0, 1] for i in (0, columns - 1) for j in (0, rows - 1)]).T
    exact = (to_mask @ corners)[:3]
    start = to_mask[:3, 3].round()
    off = np.abs(exact - (turn @ corners[:2] + start[:, None])).max()
    if off > tolerance or (np.abs(turn).sum(axis=0) != 1).any():
        msg = (
            f"A mask must lie on the grid of {what}, within {tolerance:.2g} voxels; it is off by "
            f"{off:.3g}. Resample it to the image, to nearest neighbors."
        )
        raise GeometryError(msg)
    first, second = (int(axis) for axis in np.abs(turn).argmax(axis=0))
    across = 3 - first - second
    depth = int(start[across])
    if not 0 <= depth < masks.shape[1 + across]:
        return
    taken: list[slice | int] = [slice(None), depth, depth, depth]
    given = [slice(None)]
    for axis, step, length in ((first, turn[first, 0], columns), (second, turn[second, 1], rows)):
        inside, place = _overlap(int(start[axis]), int(step), length, masks.shape[1 + axis])
        given.append(inside)
        taken[1 + axis] = place
    plane = masks[tuple(taken)]
    out[tuple(given)] = plane if first < second else plane.swapaxes(1, 2)


def _overlap(start: int, step: int, length: int, extent: int) -> tuple[slice, slice]:
    """Return which of ``length`` indices, from ``start`` in steps of 1 or -1, lie in ``extent``.

    Returns:
        Slice of the numbers of those indices, and slice of the indices themselves.
    """
    low = max(0, -start if step > 0 else start - extent + 1)
    high = max(low, min(length, extent - start if step > 0 else start + 1))
    if low == high:
        return slice(0, 0), slice(0, 0)
    end = start + step * high
    return slice(low, high), slice(start + step * low, end if end >= 0 else None, step)


def check_affine(affine: npt.NDArray[np.float64], path: Path) -> tuple[str, ...]:
    """Return warnings about an affine, which must map every voxel to a distinct point.

    Args:
        affine: ``(4, 4)``, voxel index to mm.
        path: The file that states the affine, for the message.

    Raises:
        GeometryError: If the affine holds NaN or infinity, or is singular.
    """
    if not np.all(np.isfinite(affine)):
        refuse_affine(path, "it holds NaN or infinity")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(lengths == 0):
        refuse_affine(path, "one of its axes has no length")
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        refuse_affine(path, "it is singular: two of its axes point the same way")
    return (_SHEAR_WARNING,) if is_sheared(affine) else ()


def is_sheared(affine: npt.NDArray[np.float64]) -> bool:
    """Whether any two axes of a usable affine are not at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = directions.T @ directions
    return bool(np.abs(cosines - np.eye(3)).max() > SHEAR_TOLERANCE)


def refuse_affine(path: Path, found: str) -> NoReturn:
    """Raise a GeometryError that states what is wrong with the affine of ``path``."""
    msg = f"{path} must have a usable affine; {found}. Correct its header first."
    raise GeometryError(msg)
