"""Which files are read, told by their endings."""

from __future__ import annotations

from pathlib import Path

from esp_medsam.io.itk_image import files_of_itk
from esp_medsam.regular_file import unreadable


NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES = VOLUME_SUFFIXES + RASTER_SUFFIXES
"""Endings of the files that are read, in lower case, the longer before the shorter. DICOM is told
by its content, since its files have any ending or none."""


def is_image(path: str | Path) -> bool:
    """Whether the ending of ``path`` says a format that is read here."""
    return bool(split_suffix(path)[1])


def is_volume(path: str | Path) -> bool:
    """Whether the ending of ``path`` says a format of volumes, not of pictures."""
    return split_suffix(path)[1] in VOLUME_SUFFIXES


def name_of(path: str | Path) -> str:
    """Return the file's name without the ending that says its format: what outputs are called."""
    return split_suffix(path)[0]


def split_suffix(path: str | Path) -> tuple[str, str]:
    """Return the name without the ending that says the format, and that, in lower case or empty."""
    path = Path(path)
    name = path.name.lower()
    suffix = next((s for s in SUFFIXES if name.endswith(s) and len(name) > len(s)), "")
    return path.name[: -len(suffix)] if suffix else path.stem, suffix


def files_of(path: str | Path) -> tuple[Path, ...]:
    """Return the files that an image is read from: its own, and one that holds its voxels.

    Raises:
        EspMedSamError: If its header, which names the latter, cannot be read.
    """
    path = Path(path)
    if split_suffix(path)[1] not in ITK_SUFFIXES:
        return (path,)
    try:
        return files_of_itk(path)
    except OSError as error:
        raise unreadable(path, error) from error
