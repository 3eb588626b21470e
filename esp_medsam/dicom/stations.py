"""Find slices of a series that lie side by side: stations of a table that moves in their plane.

Coronal stacks of a whole body, for example, share depths but lie far apart along the body. A gantry
tilt also moves slices sideways, but evenly with their depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.geometry import depths
from esp_medsam.dicom.volume import DicomSlice


Array = npt.NDArray[np.float64]

_APART = 0.1
"""Fraction of a slice's shorter side; a slice shifted by more belongs to another station."""

_STEEPEST = 1.0
"""Most mm sideways per mm along the normal for slices to count as tilted, not moved."""


def stations(
    slices: Sequence[DicomSlice], places: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.intp]:
    """Number the stations of slices of one orientation; all are 0 if there is only one.

    Args:
        slices: Slices that each have a position and an orientation.
        places: Number of each slice's place along the normal. If given, slices at one depth that
            lie a pixel or more apart are two stations; otherwise a tenth of a side is needed.
    """
    one = np.zeros(len(slices), dtype=np.intp)
    spacings = [part.pixel_spacing for part in slices if part.pixel_spacing is not None]
    if len(spacings) < len(slices):
        return one
    pixel = max(max(spacing) for spacing in spacings)
    aside = _aside(slices)
    if places is None:
        first, spacing = slices[0], spacings[0]
        reach = _APART * min(first.rows * spacing[0], first.columns * spacing[1])
        if np.ptp(aside, axis=0).max() <= reach or _is_tilted(aside, depths(slices), pixel):
            return one
    else:
        order = np.lexsort((aside[:, 1], aside[:, 0], places))
        steps = np.linalg.norm(np.diff(aside[order], axis=0), axis=1)
        apart = steps[(np.diff(places[order]) == 0) & (steps >= pixel)]
        if not apart.size:
            return one
        reach = float(apart.min()) / 2
    return chain_labels(aside, reach)


def chain_labels(points: Array, reach: float) -> npt.NDArray[np.intp]:
    """Number groups of points, each within ``reach`` of another of its group in all coordinates.

    Args:
        points: ``(N, d)``.
        reach: In the unit of ``points``.

    Returns:
        For each point, the index of the first point of its group: ``(N,)``.
    """
    labels = np.full(len(points), -1, dtype=np.intp)
    left = np.arange(len(points))  # shrinks, so that points that lie together cost little
    while left.size:
        start = left[0]
        pending, left = [start], left[1:]
        while pending:
            k = pending.pop()
            labels[k] = start
            near = np.abs(points[left] - points[k]).max(axis=1) <= reach if left.size else left > 0
            pending += left[near].tolist()
            left = left[~near]
    return labels


def _aside(slices: Sequence[DicomSlice]) -> Array:
    """Return slice positions along the row and column axes of the first: ``(N, 2)``, mm."""
    positions = np.array([part.position for part in slices], dtype=np.float64)
    axes = np.array(slices[0].orientation, dtype=np.float64).reshape(2, 3)
    aside: Array = positions @ axes.T
    return aside


def _is_tilted(aside: Array, along: Array, pixel: float) -> bool:
    """Whether slices shift sideways evenly with their depth, as with a gantry tilt."""
    lines = np.column_stack([np.ones_like(along), along])
    solution = np.linalg.lstsq(lines, aside, rcond=None)[0]
    off = np.abs(aside - lines @ solution).max()
    return bool(off <= pixel and np.linalg.norm(solution[1]) <= _STEEPEST)
