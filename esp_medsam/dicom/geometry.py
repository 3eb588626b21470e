"""Slice geometry: positions and orientations of a stack, and its affine if evenly spaced.

DICOM's patient coordinates are LPS; affine coordinates are RAS+; both are in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.rounding import last_digits, rounded_grid
from esp_medsam.dicom.volume import DicomSlice, Orientation
from esp_medsam.errors import GeometryError
from esp_medsam.grid import Array, Grid


UNEVEN = 1e-2
"""Fraction of the median gap above which gaps are uneven, and of a pixel that separates places."""

SHEARED = 1e-4
"""Difference of direction cosines above which directions count as different."""

TURNED = 2e-2
"""Difference of direction cosines, about one degree, above which slices form different stacks."""

_DRIFT = 0.1
"""Fraction of a gap that a slice may lie off the even grid if deviations within `UNEVEN` add up;
above `UNEVEN`, a warning reports it."""

_UNUSABLE = 1e-2
"""Error of the length or right angle above which an orientation is invalid."""

_FARTHEST = 1e7
"""Distance in mm beyond which a position is invalid."""


def stack_grid(
    slices: Sequence[DicomSlice], digits: Array | None = None
) -> tuple[tuple[DicomSlice, ...], Grid, tuple[str, ...]]:
    """Return the slices in order along their normal, their grid, and warnings.

    Slices are sorted by position along the normal of their planes, ascending. If they are evenly
    spaced, within 1 % of the median gap, and do not drift sideways, within 1e-4 in direction, one
    affine describes them all. This is also so if their positions differ from an even grid only by
    rounding (see :func:`rounded_grid`): the affine is that grid's, and a warning says how far
    slices lie off it. Otherwise, or if slices are slightly rotated or scaled against one another,
    each slice keeps its own affine, and a warning says why.

    Args:
        slices: One or more slices of a volume, in any order.
        digits: Last digit in mm that each coordinate of the positions is rounded to, 0 if it is
            not rounded; None derives it from the positions.

    Returns:
        The slices in order, their grid, and warnings, a sentence each.

    Raises:
        GeometryError: If a slice states no usable position, orientation or spacing; if matrix,
            spacing or orientation differ, or slices cross; or if two lie at the same place.
    """
    for part in slices:
        check_stated(part)
        check_usable(part)
    check_alike(slices)
    normal = _normal(_orientation(slices[0]))
    positions = np.array([part.position for part in slices], dtype=np.float64)
    order = sorted(
        range(len(slices)),
        key=lambda k: (float(positions[k] @ normal), slices[k].source.path, _frame(slices[k])),
    )
    ordered = tuple(slices[k] for k in order)
    positions = positions[order]
    _check_apart(ordered, positions @ normal)
    slice_affines = np.stack([_slice_affine(part) for part in ordered])
    unlike = _unlike(ordered, slice_affines)
    step, warnings = (None, (unlike,)) if unlike else _step(ordered, positions, normal)
    start, rounding = positions[0], 0.0
    if step is None and not unlike and _is_square(ordered[0]):
        digits = last_digits(positions) if digits is None else digits
        even = rounded_grid(positions, normal, digits)
        if even is not None:
            start, step, rounding = even.start, even.gap * normal, float(np.linalg.norm(digits))
            warnings = (_rounding_note(digits, even.off),)
    elif step is not None:
        off = _off(positions, step)
        if off > UNEVEN * float(np.linalg.norm(step)):
            rounding, warnings = off, (*warnings, _drifting(off))
    affine = None
    if step is not None:
        affine = slice_affines[0].copy()
        affine[:3, 2], affine[:3, 3] = _ras(step), _ras(start)
    grid = Grid(
        shape=(slices[0].columns, slices[0].rows, len(ordered)),
        affine=affine,
        slice_affines=slice_affines,
        stack_axis=2 if affine is None else None,
        rounding=rounding,
    )
    return ordered, grid, warnings


def picture_grid(slices: Sequence[DicomSlice]) -> Grid:
    """Return the grid of an image, or of the frames of a cine, without stated positions."""
    first, frames = slices[0], (len(slices),) if len(slices) > 1 else ()
    return Grid(
        shape=(first.rows, first.columns, *frames),
        stack_axis=2 if frames else None,
        pixel_spacing=first.pixel_spacing,
    )


def depths(slices: Sequence[DicomSlice]) -> Array:
    """Return the position of each slice along the normal of the first, in mm.

    All slices must state position and orientation.
    """
    positions = np.array([part.position for part in slices], dtype=np.float64)
    along: Array = positions @ _normal(_orientation(slices[0]))
    return along


def closest(slices: Sequence[DicomSlice]) -> float:
    """Return the distance in mm below which two slices lie at the same place."""
    spacings = [min(part.pixel_spacing) for part in slices if part.pixel_spacing is not None]
    return UNEVEN * min(spacings, default=0.1)


def check_usable(part: DicomSlice) -> None:
    """Refuse a stated position, orientation or spacing that is invalid.

    Raises:
        GeometryError: If a value is not finite or is out of range, or the orientation is invalid.
    """
    for name, value in _stated_geometry(part).items():
        if value is None:
            continue
        if not np.isfinite(value).all() or np.abs(value).max() > _FARTHEST:
            msg = f"{name} of {part.where} must be finite numbers; got {value}."
            raise GeometryError(msg)
    if part.pixel_spacing is not None and min(part.pixel_spacing) <= 0:
        msg = f"PixelSpacing of {part.where} must be positive; got {part.pixel_spacing}."
        raise GeometryError(msg)
    if part.orientation is None:
        return
    across, down = np.array(part.orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(across), np.linalg.norm(down)
    if max(abs(length - 1) for length in lengths) > _UNUSABLE or abs(across @ down) > _UNUSABLE:
        msg = (
            f"ImageOrientationPatient of {part.where} must be two unit vectors at right angles; "
            f"got {part.orientation}."
        )
        raise GeometryError(msg)


def is_usable(part: DicomSlice) -> bool:
    """Whether a slice states its position, orientation and spacing with usable numbers."""
    try:
        check_stated(part)
        check_usable(part)
    except GeometryError:
        return False
    return True


def check_stated(part: DicomSlice) -> None:
    """Refuse a slice that does not state where it lies, as positions are never made up."""
    for name, value in _stated_geometry(part).items():
        if value is None:
            msg = (
                f"{part.where} must state {name}, which places it in the patient. Export the "
                "series again, or take this file out."
            )
            raise GeometryError(msg)


def _stated_geometry(part: DicomSlice) -> dict[str, tuple[float, ...] | None]:
    return {
        "ImagePositionPatient (0020,0032)": part.position,
        "ImageOrientationPatient (0020,0037)": part.orientation,
        "PixelSpacing (0028,0030)": part.pixel_spacing,
    }


def check_alike(slices: Sequence[DicomSlice]) -> None:
    """Refuse slices that are not a stack, because matrix, spacing or orientation differ.

    Spacings may differ by 1 %, and direction cosines by :data:`TURNED`.
    """
    first = slices[0]
    spacing = np.array(first.pixel_spacing)
    for part in slices[1:]:
        if (part.rows, part.columns) != (first.rows, first.columns):
            what = "matrix"
            values = f"{first.rows} x {first.columns}", f"{part.rows} x {part.columns}"
        elif np.abs(np.array(part.pixel_spacing) / spacing - 1).max() > UNEVEN:
            what, values = "PixelSpacing", (str(first.pixel_spacing), str(part.pixel_spacing))
        elif np.abs(_orientation(part) - _orientation(first)).max() > TURNED:
            what, values = "orientation", (str(first.orientation), str(part.orientation))
        else:
            continue
        msg = (
            f"Slices of a stack must have one {what}; got {values[0]} in {first.where} "
            f"and {values[1]} in {part.where}."
        )
        raise GeometryError(msg)


def is_alike(slice_affines: Array) -> bool:
    """Whether slices have the same rotation and scale, within 1e-4.

    Args:
        slice_affines: ``(N, 4, 4)``, as in :class:`esp_medsam.grid.Grid`.
    """
    turned, scaled = _unlikeness(slice_affines)
    return max(turned, scaled) <= SHEARED


def _unlikeness(slice_affines: Array) -> tuple[float, float]:
    """Return how far direction cosines and relative spacing differ from the first slice's."""
    axes = slice_affines[:, :3, :2]
    spacings = np.linalg.norm(axes, axis=1, keepdims=True)
    cosines = axes / spacings
    turned = float(np.abs(cosines - cosines[0]).max())
    return turned, float(np.abs(spacings / spacings[0] - 1).max())


def _unlike(ordered: Sequence[DicomSlice], slice_affines: Array) -> str:
    """Return a warning that slices differ in rotation or scale; empty if they are alike.

    Raises:
        GeometryError: If slices cross, so that they have no order.
    """
    if is_alike(slice_affines):
        return ""
    rows, columns = ordered[0].rows, ordered[0].columns
    corners = np.array([[i, j, 0, 1] for i in (0, columns - 1) for j in (0, rows - 1)]).T
    along = np.einsum("c,ncp->np", slice_affines[0, :3, 2], (slice_affines @ corners)[:, :3])
    for k in np.flatnonzero((np.diff(along, axis=0) <= 0).any(axis=1)).tolist():
        msg = (
            f"Slices of a stack must have one orientation; {ordered[k].where} and "
            f"{ordered[k + 1].where} cross."
        )
        raise GeometryError(msg)
    turned, scaled = _unlikeness(slice_affines)
    differences = [
        *([f"orientation (by {np.degrees(turned):.2g} degrees)"] if turned > SHEARED else []),
        *([f"PixelSpacing (by {100 * scaled:.2g} %)"] if scaled > SHEARED else []),
    ]
    return (
        f"The slices differ in {' and '.join(differences)}, so no single affine fits: each "
        "keeps its own position."
    )


def _check_apart(ordered: Sequence[DicomSlice], along: Array) -> None:
    """Refuse two slices at the same place, whatever their input order."""
    nearest = closest(ordered)
    for k in np.flatnonzero(np.diff(along) < nearest).tolist():
        msg = (
            f"Slices of a stack must lie apart; {ordered[k].where} and {ordered[k + 1].where} "
            "lie at the same place and nothing in their headers tells them apart. Take one of "
            "them out."
        )
        raise GeometryError(msg)


def _step(
    ordered: Sequence[DicomSlice], positions: Array, normal: Array
) -> tuple[Array | None, tuple[str, ...]]:
    """Return the step from slice to slice, LPS in mm, and warnings for the user.

    The step is None if no single step fits.
    """
    if not _is_square(ordered[0]):
        warning = "Rows and columns are not at right angles, so no affine fits."
        return None, (warning,)
    if len(ordered) == 1:
        return _lone_step(ordered[0], normal)
    along = positions @ normal
    gaps = np.diff(along)
    median = float(np.sort(gaps)[(len(gaps) - 1) // 2])  # the lower of two: a gap, never a mean
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    even = along[0] + np.arange(len(along)) * (step @ normal)
    uneven = np.abs(gaps - median) > UNEVEN * median
    if uneven.any() or np.abs(along - even).max() > _DRIFT * median:
        return None, (_uneven(ordered, gaps, median, uneven),)
    return _straight(ordered, positions, normal, step)


def _straight(
    ordered: Sequence[DicomSlice], positions: Array, normal: Array, step: Array
) -> tuple[Array | None, tuple[str, ...]]:
    """Return the step of slices evenly spaced along the normal; None if they drift sideways."""
    gap = float(step @ normal)
    off = positions - positions[0]
    sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    if sideways.max() <= SHEARED * gap * (len(ordered) - 1):
        return step, ()
    if sideways.max() <= closest(ordered):
        return gap * normal, ()  # positions rounded to few digits
    tilt = np.degrees(np.arctan2(sideways[-1], off[-1] @ normal))
    warning = (
        f"The slices are not stacked along their normal (gantry tilt, {tilt:.1f} degrees, "
        f"{sideways.max():.2f} mm sideways), so no affine fits: each keeps its own position."
    )
    return None, (warning,)


def _lone_step(part: DicomSlice, normal: Array) -> tuple[Array, tuple[str, ...]]:
    if part.thickness is not None:
        warning = (
            f"There is one slice; its depth was taken from SliceThickness, {part.thickness:g} mm."
        )
        return part.thickness * normal, (warning,)
    return normal, ("There is one slice, of unstated thickness; its depth was taken as 1 mm.",)


def _off(positions: Array, step: Array) -> float:
    """Return the largest distance in mm of slices from equal steps starting at the first slice."""
    led = positions[0] + np.outer(np.arange(len(positions)), step)
    return float(np.linalg.norm(positions - led, axis=1).max())


def _drifting(off: float) -> str:
    """Return a note on how far slices with slightly uneven gaps lie off the affine's even grid."""
    return (
        "The gaps between slices differ by less than 1 %; the affine is that of an even grid, "
        f"from which slices are off by up to {off:.3f} mm."
    )


def _rounding_note(digits: Array, off: float) -> str:
    """Return a note that positions are rounded, and how far slices lie off the affine's grid."""
    return (
        f"Slice positions are rounded to {digits.max():g} mm; the affine is that of the even "
        f"grid they were rounded from, from which slices are off by up to {off:.3f} mm."
    )


def _uneven(
    ordered: Sequence[DicomSlice], gaps: Array, median: float, uneven: npt.NDArray[np.bool_]
) -> str:
    """Return a warning that says where the slices are not evenly spaced."""
    where = np.flatnonzero(uneven)
    if not where.size:
        return "The slices drift off an even spacing, so no affine fits."
    k = int(where[0])
    more = f", and {where.size - 1} more such gaps" if where.size > 1 else ""
    return (
        f"Slices are missing or not evenly spaced: {gaps[k]:.3f} mm between {ordered[k].where} "
        f"and {ordered[k + 1].where}{more}, {median:.3f} mm elsewhere. No affine fits: each "
        "slice keeps its own position."
    )


def _slice_affine(part: DicomSlice) -> Array:
    across, down = _orientation(part)
    between_rows, between_columns = part.pixel_spacing or (0.0, 0.0)
    affine = np.eye(4)
    affine[:3, 0] = _ras(across * between_columns)
    affine[:3, 1] = _ras(down * between_rows)
    affine[:3, 2] = _ras(_normal(np.stack([across, down])))
    affine[:3, 3] = _ras(np.array(part.position, dtype=np.float64))
    return affine


def _orientation(part: DicomSlice) -> Array:
    """Return the two direction vectors, each of length 1: ``(2, 3)``, LPS."""
    vectors = np.array(cast(Orientation, part.orientation), dtype=np.float64).reshape(2, 3)
    return cast(Array, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _is_square(part: DicomSlice) -> bool:
    """Whether rows and columns are at right angles."""
    return abs(float(np.dot(*_orientation(part)))) <= SHEARED


def _normal(orientation: Array) -> Array:
    normal = np.cross(orientation[0], orientation[1])
    return cast(Array, normal / np.linalg.norm(normal))


def _ras(vector: Array) -> Array:
    return vector * (-1.0, -1.0, 1.0)


def _frame(part: DicomSlice) -> int:
    return part.source.frame or 0
