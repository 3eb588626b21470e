"""Where the voxels of an image lie, and how its array is ordered.

World coordinates are RAS+ in mm: they rise to the patient's right, to anterior and to superior.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import GeometryError


GRID_TOLERANCE = 0.02
"""Part of a voxel that a mask may lie off its image: NIfTI keeps positions in 32 bits."""

_UNAMBIGUOUS = 0.4
"""Part of a voxel up to which it is certain which one is meant, however positions are rounded."""

SHEAR_TOLERANCE = 1e-4
"""Cosine between two array axes from which an affine counts as sheared."""

_SHEAR_WARNING = (
    "The axes are not at right angles (sheared affine); the mask has the same affine, which "
    "some viewers cannot show."
)

_ALONG = 1e-3
"""Difference from 1 of the cosine between an axis and a direction that are the same."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Where the voxels of an image lie.

    Attributes:
        shape: Voxels along each axis of the array, without channels: ``(rows, columns)`` of a
            picture as shown upright; ``(columns, rows, slices)`` of slices of DICOM that lie
            somewhere, ``(rows, columns, frames)`` of frames that do not; the three axes as stored
            of other volumes.
        affine: ``(4, 4)``, voxel index to mm; None where the file states no geometry, as
            photographs do not, and where slices are not evenly stacked.
        slice_affines: ``(N, 4, 4)``, of each slice along the last axis the affine that maps its
            ``(i, j, 0)`` to mm; the third column is the unit normal that points the way the slices
            are ordered. None where the file does not position slices one by one.
        stack_axis: The only axis that slices may be taken along: that of frames, and of slices
            that are not evenly stacked; None where any will do, and of a picture.
        pixel_spacing: Distance in mm between neighbors along the first two array axes, where a
            file states it without a position; None otherwise.
        rounding: How far in mm a slice may lie off ``affine``, because positions are rounded; 0
            where they are not.
    """

    shape: tuple[int, ...]
    affine: Array | None = None
    slice_affines: Array | None = None
    stack_axis: int | None = None
    pixel_spacing: tuple[float, float] | None = None
    rounding: float = 0.0

    @property
    def is_volume(self) -> bool:
        """Whether it has three axes, be it of one slice: no picture."""
        return len(self.shape) == 3

    @property
    def is_positioned(self) -> bool:
        """Whether its file says of each slice where it lies, as DICOM does."""
        return self.slice_affines is not None

    @property
    def display_affine(self) -> Array | None:
        """What tells how slices are turned to be shown: ``affine``, or the middle slice's own.

        Positions come from ``affine`` and ``slice_affines`` alone.
        """
        if self.affine is not None or self.slice_affines is None:
            return self.affine
        middle: Array = self.slice_affines[len(self.slice_affines) // 2]
        return middle

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Distance in mm between neighbors along each array axis.

        Of slices that are not evenly stacked, and of frames, the last is 1; None where the file
        states no distance.
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
        """Volume of a voxel in milliliters; None of pictures, and of slices not evenly stacked."""
        if not self.is_volume or self.affine is None:
            return None
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def cleaned_ml(self) -> float | None:
        """Volume of a voxel where least volumes apply: None where a stack has but one slice.

        A lone slice's thickness is no distance to a neighbor, and may be made up.
        """
        return None if min(self.shape, default=0) < 2 else self.voxel_ml

    def ml_of(self, voxels: int) -> float | None:
        """Return the volume of so many voxels in milliliters; None where it is not known."""
        return None if self.voxel_ml is None else voxels * self.voxel_ml

    @property
    def count(self) -> int:
        """Number of planes along the last axis; one of a picture."""
        return self.shape[2] if self.is_volume else 1

    @property
    def plane_size(self) -> tuple[int, int]:
        """Rows and columns of a plane along the last axis, as its file holds it."""
        first, second = self.shape[:2]
        return (second, first) if self.is_positioned else (first, second)

    def plane(self, array: npt.NDArray[Any], index: int) -> npt.NDArray[Any]:
        """Return one plane of an array as its file holds it, ``(rows, columns)``.

        Args:
            array: ``shape``.
            index: Its place along the last axis.
        """
        chosen: npt.NDArray[Any] = array[..., index] if self.is_volume else array
        return chosen.T if self.is_positioned else chosen

    def from_planes(self, planes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return planes in the order of the array; a view.

        Args:
            planes: ``(N, rows, columns, *more)``, as the file holds them.

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
        """Return what maps ``(i, j, 0)`` of a plane along the last axis to mm.

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
        """Return where slices along an axis lie on the way along it, in mm.

        Args:
            axis: Of the array; None of a picture.

        Returns:
            One position a slice, of unevenly stacked ones along the middle one's normal; None where
            nothing places them: of pictures, and of frames in time.
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
        """Return the distance in mm of voxels along a direction; None where no axis has it."""
        if self.affine is None:
            return None
        axes = self.affine[:3, :3]
        lengths = np.linalg.norm(axes, axis=0)
        cosines = np.abs(direction @ axes) / (lengths * np.linalg.norm(direction))
        best = int(cosines.argmax())
        return float(lengths[best]) if cosines[best] > 1 - _ALONG else None

    @property
    def off_even(self) -> float:
        """How far in mm a slice lies off the even grid of ``affine``; 0 without one of the two.

        Positions are rounded in some series, and so are those of masks that were drawn on them.
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
        """Return masks on this grid, to which their own is turned, flipped or cut.

        Voxels are taken over as they are, slice by slice where the image has gaps; nothing is
        interpolated. Where the masks' grid ends, they are empty.

        Args:
            masks: ``(i, j, k)`` of one mask, or labelmap; ``(T, i, j, k)`` of several.
            affine: ``(4, 4)``, from the masks' voxels to RAS+ in mm.
            what: The image whose grid this is, for messages.
            rounding: How far in mm the positions of its slices are rounded, and so those of a mask
                that was made of some of them; None takes :attr:`rounding`.

        Returns:
            ``(*shape)``, or ``(T, *shape)``.

        Raises:
            GeometryError: If the grid has no position; if a voxel of it lies off the masks' grid
                by more than :data:`GRID_TOLERANCE` voxels and the rounding; or if a mask holds
                anything that the image does not cover.
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
    """Fill one plane ``(T, i, j)`` with the plane of the masks that it lies in."""
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
    """Return which of ``length`` places from ``start`` on, by steps of 1 or -1, lie in ``extent``.

    Returns:
        Their numbers, and the places themselves.
    """
    low = max(0, -start if step > 0 else start - extent + 1)
    high = max(low, min(length, extent - start if step > 0 else start + 1))
    if low == high:
        return slice(0, 0), slice(0, 0)
    end = start + step * high
    return slice(low, high), slice(start + step * low, end if end >= 0 else None, step)


def check_affine(affine: npt.NDArray[np.float64], path: Path) -> tuple[str, ...]:
    """Return what to know of an affine, which must place every voxel at a point of its own.

    Args:
        affine: ``(4, 4)``, voxel index to mm.
        path: The file that states it, for the message.

    Raises:
        GeometryError: If it holds NaN or infinity, or is singular.
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
    """Whether two axes of a usable affine are not at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = directions.T @ directions
    return bool(np.abs(cosines - np.eye(3)).max() > SHEAR_TOLERANCE)


def refuse_affine(path: Path, found: str) -> NoReturn:
    """Raise GeometryError that says what is wrong with the affine of ``path``."""
    msg = f"{path} must have a usable affine; {found}. Correct its header first."
    raise GeometryError(msg)
