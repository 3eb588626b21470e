"""Write a DICOM series as a file that annotation clients show."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import PIL.Image

from esp_medsam.errors import GeometryError
from esp_medsam.io.read import read


def write_volume(series: Path, folder: Path, name: str) -> Path:
    """Write a volume as NIfTI or a picture as PNG, with the values and grid as they were read.

    Args:
        series: Folder of the series.
        folder: Folder to write into.
        name: Name of the file, without its ending.

    Raises:
        GeometryError: If no affine describes the slices, as those are unevenly stacked.
        EspMedSamError: If the series cannot be read.
    """
    image = read(series)
    assert image.pixels is not None, "it was read with them"
    pixels = image.pixels
    if not image.grid.is_volume:
        file = folder / f"{name}.png"
        PIL.Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1).squeeze())).save(file)
        return file
    if image.grid.affine is None:
        msg = "The slices of the series must be evenly stacked to be shown as a volume; they are "
        raise GeometryError(msg + "not. Segment it with `esp-medsam segment`.")
    file = folder / f"{name}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(pixels[0], image.grid.affine), file)  # type: ignore[no-untyped-call]
    return file
