"""Write a labelmap in the file type that a client asks for, on the grid of its image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import SimpleITK

from esp_medsam.errors import GeometryError, OptionError
from esp_medsam.integrations.monai_label.slicer_segments import write_segments
from esp_medsam.modality import Target
from esp_medsam.workflows.one_image import Segmented, save_one


PICTURE, VOLUME, SEGMENTS = ".png", ".nii.gz", ".seg.nrrd"
"""File types: usual for labelmaps of pictures, and of volumes; segmentations of 3D Slicer."""

NAME = "label"


def write_label_file(made: Segmented, folder: Path, extension: str | None) -> Path:
    """Write the labelmap of a result, and return the file.

    A picture in a file type of volumes has one slice, as clients of volumes show it.

    Args:
        made: The result.
        folder: Folder to write into.
        extension: Ending of the file; None for the usual one.

    Raises:
        EspMedSamError: If the labelmap cannot be written on its grid.
    """
    is_picture = made.labelmap.ndim == 3
    extension = extension or (PICTURE if is_picture else VOLUME)
    if extension == PICTURE and not is_picture:
        msg = f"result_extension must be a volume's, such as {VOLUME}; got {extension}."
        raise OptionError(msg)
    file = folder / f"{NAME}{extension}"
    if is_picture:
        # SimpleITK's first axis runs along a row, NumPy's down the rows.
        rows = made.labelmap[0].numpy()
        array = rows if extension == PICTURE else rows[None]
        _write(SimpleITK.GetImageFromArray(array), file, made.targets)
        return file
    written, *_ = save_one(made, output_dir=str(folder), output_format="nifti")
    if extension == VOLUME:
        return written.rename(file)
    _write(SimpleITK.ReadImage(written), file, made.targets)
    return file


def _write(image: SimpleITK.Image, file: Path, targets: Sequence[Target]) -> None:
    if file.name.endswith(SEGMENTS):
        write_segments(image, file, targets)
        return
    try:
        SimpleITK.WriteImage(image, file)
    except RuntimeError as error:  # its grids are never sheared
        msg = f"{file.suffix} must be able to hold the image's grid, and is not. Ask for {VOLUME}."
        raise GeometryError(msg) from error
