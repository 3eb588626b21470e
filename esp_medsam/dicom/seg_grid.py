"""Masks that came back on another grid, as through NIfTI: the same voxels, or refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import GeometryError
from esp_medsam.image import Image


GRID_TOLERANCE = 0.02
"""Part of a voxel that a mask may lie off its image: NIfTI keeps positions in 32 bits."""

_UNAMBIGUOUS = 0.4
"""Part of a voxel up to which it is certain which one is meant, however positions are rounded."""


def masks_on_grid(
    masks: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    image: Image,
    *,
    rounding: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Return masks on the grid of an image, to which their own is turned, flipped or cut.

    Voxels are taken over as they are, slice by slice where the image has gaps; nothing is
    interpolated. Where the masks' grid ends, they are empty.

    Args:
        masks: ``(T, i, j, k)``, of targets on one grid.
        affine: ``(4, 4)``, from the masks' voxels to RAS+ in mm.
        image: Record of a DICOM stack whose slices lie somewhere.
        rounding: How far in mm the positions of its slices are rounded, and so those of a mask
            that was made of some of them.

    Returns:
        ``(T, *image.spatial_shape)``.

    Raises:
        GeometryError: If the image has no position; if a voxel of it lies off the masks' grid by
            more than :data:`GRID_TOLERANCE` voxels and the rounding; or if a mask holds anything
            that the image does not cover.
    """
    if image.slice_affines is None:
        msg = f"{image.path} ({image.name}) must state positions to match a mask by; it does not."
        raise GeometryError(msg)
    if masks.ndim != 4:
        msg = f"masks must be (T, i, j, k); got the shape {masks.shape}."
        raise GeometryError(msg)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        msg = f"affine must be one that can be inverted; got {np.asarray(affine).tolist()}."
        raise GeometryError(msg)
    out = np.zeros((len(masks), *image.spatial_shape), dtype=masks.dtype)
    inverse = np.linalg.inv(affine)
    voxel = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    tolerance = min(GRID_TOLERANCE + rounding / voxel, _UNAMBIGUOUS)
    for k, slice_affine in enumerate(image.slice_affines):
        _take_slice(masks, inverse @ slice_affine, out[..., k], image, tolerance)
    lost = int(np.count_nonzero(masks)) - int(np.count_nonzero(out))
    if lost:
        msg = (
            f"A mask must lie within {image.path} ({image.name}); {lost} voxels of it lie where "
            "the image has none, or is known twice."
        )
        raise GeometryError(msg)
    return out


def _take_slice(
    masks: npt.NDArray[np.uint8],
    to_mask: npt.NDArray[np.float64],
    out: npt.NDArray[np.uint8],
    image: Image,
    tolerance: float,
) -> None:
    """Fill one slice ``(T, columns, rows)`` with the plane of the masks that it lies in."""
    columns, rows = image.spatial_shape[:2]
    turn = to_mask[:3, :2].round()
    corners = np.array([[i, j, 0, 1] for i in (0, columns - 1) for j in (0, rows - 1)]).T
    exact = (to_mask @ corners)[:3]
    start = to_mask[:3, 3].round()
    off = np.abs(exact - (turn @ corners[:2] + start[:, None])).max()
    if off > tolerance or (np.abs(turn).sum(axis=0) != 1).any():
        msg = (
            f"A mask must lie on the grid of {image.path} ({image.name}), within "
            f"{tolerance:.2g} voxels; it is off by {off:.3g}. Resample it to the image, to "
            "nearest neighbors."
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
