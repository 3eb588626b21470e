"""What a format reader returns, before it becomes an Image record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Content(NamedTuple):
    """What one file says, in terms common to all formats.

    Attributes:
        pixels: ``(C, *spatial)``, see :class:`esp_medsam.image.Image`.
        affine: ``(4, 4)`` float64, voxel index to RAS+ in mm, or None.
        warnings: What a user should know, a sentence each.
        file_shape: Shape of an output file where it is not that of ``pixels``.
        nifti_geometry: Geometry fields of a NIfTI header, as stored.
    """

    pixels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None = None
    warnings: tuple[str, ...] = ()
    file_shape: tuple[int, ...] | None = None
    nifti_geometry: Mapping[str, tuple[float, ...]] | None = None
