"""Volumes as NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt


def save_nifti(
    path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None = None
) -> Path:
    """Save an array with its affine to RAS+, that of voxels of 1 mm where none is given."""
    affine = np.eye(4) if affine is None else affine
    nib.save(nib.Nifti1Image(array, affine), path)  # type: ignore[no-untyped-call]  # states none
    return path


def filled_places(
    mask: npt.NDArray[Any], affine: npt.NDArray[np.float64]
) -> set[tuple[float, ...]]:
    """Return where voxels that hold anything lie, RAS+ to 0.01 mm."""
    places = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return set(map(tuple, places.round(2).tolist()))
