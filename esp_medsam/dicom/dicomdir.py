"""Count the files that a DICOMDIR names, without opening them."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path, PurePosixPath

from esp_medsam.dicom.dicom_file import is_dicom, opened
from esp_medsam.dicom.elements import tags_of
from esp_medsam.dicom.header import sop_class_of
from esp_medsam.errors import EspMedSamError


_DICOMDIR = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage."""

_READ = tags_of("DirectoryRecordSequence", "ReferencedFileID")


def is_dicomdir(path: Path) -> bool:
    """Whether a file is a DICOMDIR, whatever its name; False if it cannot be read."""
    try:
        return is_dicom(path) and sop_class_of(path) == _DICOMDIR
    except EspMedSamError:
        return False


def note_on_missing(path: Path, there: Container[str]) -> str:
    """Return a note on missing files that a DICOMDIR names; empty if all are there.

    Names are compared but never followed: a name that leads outside the folder is only counted.

    Args:
        path: The DICOMDIR.
        there: Paths below the DICOMDIR's folder, relative to it, as :func:`place_of` writes them.
    """
    try:
        names = _names(path)
    except EspMedSamError:
        return f"{path.name} is damaged, so it is not known whether files are missing"
    inside = {place for place in names if place is not None}
    outside, missing = names.count(None), sum(place not in there for place in inside)
    told = []
    if missing:
        told.append(f"{missing} of {len(inside)} files that {path.name} lists are missing")
    if outside:
        told.append(f"{outside} that {path.name} lists outside its folder were ignored")
    return ", ".join(told)


def place_of(relative: PurePosixPath | Path) -> str:
    """Return a path below a folder in the form used for comparison: media ignore case."""
    return relative.as_posix().casefold()


def _names(path: Path) -> list[str | None]:
    """Return the files that a DICOMDIR names below its folder; None for each that leads outside.

    Raises:
        EspMedSamError: If the DICOMDIR cannot be read.
    """
    names: list[str | None] = []
    with opened(path) as file:
        for record in file.elements(_READ).items("DirectoryRecordSequence"):
            parts = record.texts("ReferencedFileID")
            if not parts:
                continue
            is_inside = all(p not in ("", ".", "..") and not set(p) & set("/:\0") for p in parts)
            names.append(place_of(PurePosixPath(*parts)) if is_inside else None)
    return names
