"""Write a labelmap in the file type that a client asks for, on the grid of its image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import SimpleITK
from torch import Tensor

from esp_medsam.errors import GeometryError, OptionError
from esp_medsam.image import Image
from esp_medsam.integrations.monai_label.slicer_segments import write_segments
from esp_medsam.io.dicom_seg import SegOptions
from esp_medsam.io.output_files import OutputFile, write_file
from esp_medsam.modality import Target


PICTURE, VOLUME, SEGMENTS = ".png", ".nii.gz", ".seg.nrrd"
"""File types: usual for labelmaps of pictures, and of volumes; segmentations of 3D Slicer."""

NAME = "label"


def write_label_file(
    labelmap: Tensor,
    image: Image,
    targets: Sequence[Target],
    folder: Path,
    extension: str | None = None,
) -> Path:
    """Write a labelmap, and return the file.

    A picture in a file type of volumes has one slice, as clients of volumes show it.

    Args:
        labelmap: uint8, ``(1, *spatial)``.
        image: Record of its image.
        targets: Its targets.
        folder: Folder to write into.
        extension: Ending of the file; None for the usual one.

    Raises:
        EspMedSamError: If the labelmap cannot be written on its grid.
    """
    is_picture = not image.grid.is_volume
    extension = extension or (PICTURE if is_picture else VOLUME)
    check_extension(extension, is_picture=is_picture)
    file = folder / f"{NAME}{extension}"
    if is_picture:
        # SimpleITK's first axis runs along a row, NumPy's down the rows.
        rows = labelmap[0].numpy()
        array = rows if extension == PICTURE else rows[None]
        _write(SimpleITK.GetImageFromArray(array), file, targets)
        return file
    if image.grid.affine is None:
        msg = "image must have one affine to be labeled as a volume; frames in time and unevenly "
        raise GeometryError(msg + "stacked slices have none. Use `esp-medsam segment`.")
    volume = OutputFile(folder / f"{NAME}{VOLUME}", "labelmap")
    write_file(volume, image, targets, labelmap=labelmap, probability=None, seg=SegOptions())
    if extension != VOLUME:
        _write(SimpleITK.ReadImage(volume.path), file, targets)
    return file


def check_extension(extension: str | None, *, is_picture: bool) -> None:
    """Refuse a file type that cannot hold the labelmap of a volume.

    Raises:
        OptionError: If it is that of pictures.
    """
    if extension == PICTURE and not is_picture:
        msg = f"result_extension must be a volume's, such as {VOLUME}; got {extension}."
        raise OptionError(msg)


def _write(image: SimpleITK.Image, file: Path, targets: Sequence[Target]) -> None:
    if file.name.endswith(SEGMENTS):
        write_segments(image, file, targets)
        return
    try:
        SimpleITK.WriteImage(image, file)
    except RuntimeError as error:  # its grids are never sheared
        msg = f"{file.suffix} must be able to hold the image's grid, and is not. Ask for {VOLUME}."
        raise GeometryError(msg) from error
