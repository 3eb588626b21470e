"""Tell by their file name endings which files are read."""

from __future__ import annotations

from pathlib import Path

from esp_medsam.io.itk_image import files_of_itk
from esp_medsam.regular_file import unreadable


NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES = VOLUME_SUFFIXES + RASTER_SUFFIXES
"""Endings of the files that are read, in lower case, longer before shorter. DICOM is recognized by
its content, because its files may have any ending or none."""


def is_image(path: str | Path) -> bool:
    """Whether ``path`` ends like a format that is read here."""
    return bool(split_suffix(path)[1])


def is_volume(path: str | Path) -> bool:
    """Whether ``path`` ends like a volume format, not a picture format."""
    return split_suffix(path)[1] in VOLUME_SUFFIXES


def name_of(path: str | Path) -> str:
    """Return the file's name without its format ending, which is what its outputs are called."""
    return split_suffix(path)[0]


def split_suffix(path: str | Path) -> tuple[str, str]:
    """Return the name without its format ending, and the ending, in lower case or empty."""
    path = Path(path)
    name = path.name.lower()
    suffix = next((s for s in SUFFIXES if name.endswith(s) and len(name) > len(s)), "")
    return path.name[: -len(suffix)] if suffix else path.stem, suffix


def files_of(path: str | Path) -> tuple[Path, ...]:
    """Return the files that an image is read from: the file itself, and any separate data file.

    Raises:
        EspMedSamError: If the header, which names the data file, cannot be read.
    """
    path = Path(path)
    if split_suffix(path)[1] not in ITK_SUFFIXES:
        return (path,)
    try:
        return files_of_itk(path)
    except OSError as error:
        raise unreadable(path, error) from error
