"""Write a labelmap in the file type that a client asks for, on the grid of its image."""

from __future__ import annotations

from pathlib import Path

import SimpleITK

from esp_medsam.errors import GeometryError, OptionError
from esp_medsam.workflows.one_image import Segmented, save_one


PICTURE, VOLUME = ".png", ".nii.gz"
"""File types that are usual for labelmaps of pictures and of volumes."""

NAME = "label"


def write_label_file(made: Segmented, folder: Path, extension: str | None) -> Path:
    """Write the labelmap of a result, and return the file.

    Args:
        made: The result.
        folder: Folder to write into.
        extension: Ending of the file; None for the usual one.

    Raises:
        EspMedSamError: If the labelmap cannot be written on its grid.
    """
    labelmap = made.labelmap[0].numpy()
    is_picture = labelmap.ndim == 2
    extension = extension or (PICTURE if is_picture else VOLUME)
    if extension == PICTURE and not is_picture:
        msg = f"result_extension must be a volume's, such as {VOLUME}; got {extension}."
        raise OptionError(msg)
    file = folder / f"{NAME}{extension}"
    if is_picture:
        # SimpleITK's first axis runs along a row, NumPy's down the rows.
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labelmap), file)
        return file
    written, *_ = save_one(made, output_dir=str(folder), output_format="nifti")
    if extension == VOLUME:
        return written.rename(file)
    try:
        SimpleITK.WriteImage(SimpleITK.ReadImage(written), file)
    except RuntimeError as error:  # its grids are never sheared
        msg = f"{extension} must be able to hold the image's grid, and is not. Ask for {VOLUME}."
        raise GeometryError(msg) from error
    return file
