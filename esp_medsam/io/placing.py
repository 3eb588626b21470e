"""Where an array in memory lies in space, which only the caller knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel
import numpy as np
import numpy.typing as npt

from esp_medsam.errors import GeometryError, quoted


Affine = npt.NDArray[np.float64]
"""``(4, 4)``, from voxel index to RAS+ in mm."""

_PAIRS = ("LR", "AP", "IS")
"""Opposite sides of the patient."""

_nib: Any = nibabel  # it annotates only some of its functions


class Placing(NamedTuple):
    """Where an array of a volume lies in space: an affine, or spacing and axes.

    Attributes:
        affine: ``(4, 4)``, from voxel index to RAS+ in mm.
        spacing: Millimeters between voxels along each axis.
        axes: Side of the patient that each axis runs to, such as ``"LPS"``.
    """

    affine: npt.ArrayLike | None = None
    spacing: Sequence[float] | None = None
    axes: str | None = None

    @property
    def given(self) -> list[str]:
        """Names of the stated fields."""
        return [name for name, value in self._asdict().items() if value is not None]

    def checked_affine(self) -> Affine | None:
        """Return the affine; None if nothing is stated.

        Raises:
            GeometryError: If the stated fields are contradictory, incomplete or invalid.
        """
        if self.spacing is None and self.axes is None:
            return None if self.affine is None else _affine_of(self.affine)
        if self.affine is not None or self.spacing is None or self.axes is None:
            msg = f"affine, or spacing and axes, must be given; got {' and '.join(self.given)}."
            raise GeometryError(msg)
        return _affine_along(_steps_of(self.spacing), self.axes)


UNSTATED = Placing()
"""Placing of pictures, and of sources that state themselves where they lie."""


def _affine_of(affine: npt.ArrayLike) -> Affine:
    """Return an affine after checking that it is complete and invertible."""
    try:
        placed = np.asarray(affine)
        is_affine = (
            placed.shape == (4, 4)
            and placed.dtype.kind in "iuf"
            and bool(np.isfinite(placed).all())
            and placed[3].tolist() == [0, 0, 0, 1]
            and abs(np.linalg.det(placed[:3, :3].astype(np.float64))) > 0
        )
    except ValueError:
        is_affine = False
    if not is_affine:
        msg = (
            "affine must be an invertible 4 x 4 matrix of finite numbers with the last row 0 "
            f"0 0 1; got {quoted(affine)}."
        )
        raise GeometryError(msg)
    return placed.astype(np.float64)


def _steps_of(spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return a spacing after checking that it is valid."""
    try:
        steps = np.asarray(spacing, dtype=np.float64)
    except (TypeError, ValueError):
        steps = np.empty(0)
    if steps.shape != (3,) or not np.isfinite(steps).all() or not (steps > 0).all():
        msg = f"spacing must be three positive numbers, in mm; got {quoted(spacing)}."
        raise GeometryError(msg)
    return steps


def _affine_along(steps: npt.NDArray[np.float64], axes: str) -> Affine:
    """Return the affine of a volume whose first voxel is at the origin."""
    letters = str(axes).upper()
    if sorted(next((pair for pair in _PAIRS if x in pair), "") for x in letters) != sorted(_PAIRS):
        msg = (
            "axes must be three letters, one of L and R, one of A and P, one of I and S, in the "
            f"order of the array's axes; got {quoted(axes)}."
        )
        raise GeometryError(msg)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    ways = _nib.orientations.axcodes2ornt(letters)
    for axis, (way, sign) in enumerate(ways):
        affine[int(way), axis] = sign * steps[axis]
    return affine
