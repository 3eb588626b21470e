"""What an affine must be to place voxels."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import GeometryError


SHEAR_TOLERANCE = 1e-4
"""Cosine between two array axes from which an affine counts as sheared."""

SHEAR_WARNING = (
    "Its axes are not at right angles (sheared affine); the mask has the same affine, "
    "which some viewers cannot show."
)


def check_affine(affine: npt.NDArray[np.float64], path: Path) -> None:
    """Refuse an affine that does not place every voxel at a point of its own.

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


def is_sheared(affine: npt.NDArray[np.float64]) -> bool:
    """Whether two axes of a usable affine are not at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = directions.T @ directions
    return bool(np.abs(cosines - np.eye(3)).max() > SHEAR_TOLERANCE)


def refuse_affine(path: Path, found: str) -> NoReturn:
    """Raise GeometryError that says what is wrong with the affine of ``path``."""
    msg = f"{path} must have a usable affine; {found}. Mend its header first."
    raise GeometryError(msg)
