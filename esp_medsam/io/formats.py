"""Which files are read, told by their endings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esp_medsam.errors import EspMedSamError
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
    return bool(suffix_of(Path(path)))


def is_volume(path: str | Path) -> bool:
    """Whether the ending of ``path`` says a format of volumes, not of pictures."""
    return suffix_of(Path(path)) in VOLUME_SUFFIXES


def name_of(path: str | Path) -> str:
    """Return the file's name without the ending that says its format: what outputs are called."""
    path = Path(path)
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def suffix_of(path: Path) -> str:
    """Return the ending that says the format, in lower case; empty where none does."""
    name = path.name.lower()
    return next((s for s in SUFFIXES if name.endswith(s) and len(name) > len(s)), "")


def files_of(path: str | Path) -> tuple[Path, ...]:
    """Return the files that an image is read from: its own, and one that holds its voxels.

    Raises:
        EspMedSamError: If its header, which names the latter, cannot be read.
    """
    path = Path(path)
    if suffix_of(path) not in ITK_SUFFIXES:
        return (path,)
    with readable(path):
        return files_of_itk(path)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be read into a :class:`ReadError`."""
    try:
        yield
    except EspMedSamError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
