"""Refuse images that must not be read."""

from __future__ import annotations

import math
from pathlib import Path

from esp_medsam.errors import FormatError, TooLargeError
from esp_medsam.grid import Grid
from esp_medsam.io.formats import files_of
from esp_medsam.io.read import read_grid


def check_image(image: Path, most_voxels: int) -> Grid | None:
    """Refuse an image that is too large, or whose header names a file in another folder.

    Args:
        image: A file, or the folder of a DICOM series.
        most_voxels: Limit of its voxels.

    Returns:
        Its grid, if the header states it.

    Raises:
        EspMedSamError: If it is refused.
    """
    if not image.is_dir() and any(file.parent != image.parent for file in files_of(image)):
        msg = "image must be a file of its own; its header names one in another folder."
        raise FormatError(msg)
    grid = read_grid(str(image))
    voxels = 0 if grid is None else math.prod(grid.shape)
    if voxels > most_voxels:
        msg = f"image must have at most {most_voxels:,} voxels on this server; got {voxels:,}."
        raise TooLargeError(msg)
    return grid
