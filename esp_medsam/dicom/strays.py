"""Unreadable files in a series folder that may be missing slices.

A copy that failed leaves an empty file, or one of zeros, and a bad disk one whose header is
damaged before it names its series. Without it the others may look whole, so each volume of the
folder says that it is there, and one that lacks something where it would fit is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from esp_medsam.dicom.header import Header
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import CorruptFileError
from esp_medsam.regular_file import open_regular


_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Endings of DICOM files in lower case; many have none, or digits of a UID."""

_OTHERS = ("readme", "license", "lockfile", "version", "md5sums", "sha256sums")
"""Names, in lower case, of files without an ending that lie beside DICOM, and are none."""

_PREAMBLE, _MAGIC, _START = bytes(128), b"DICM", 512
"""What DICOM files begin with; and the bytes in which the magic word is looked for."""

_GAP = 1.5
"""Median gaps from which on there is room for a slice."""

_NAMED = 3
"""Strays, and numbers of instances, that a message names; the rest is counted."""

DAMAGED = "is damaged before it names its series"


@dataclass(frozen=True)
class Stray:
    """A file that may be a slice of a series in its folder.

    Attributes:
        path: The file.
        reason: Why it is not known to be one, as it follows its path in a sentence.
    """

    path: str
    reason: str


def find_strays(files: Iterable[Path], siblings: Iterable[str]) -> list[Stray]:
    """Return which files of a folder may be slices, of those that are no DICOM by their content.

    Args:
        files: What is no DICOM by its content, or cannot be opened.
        siblings: Names of the files beside them that hold DICOM images.
    """
    names = _Names(siblings)
    strays = []
    for file in files:
        reason = "" if file.name.startswith(".") else _reason(file, names)
        if reason:
            strays.append(Stray(str(file), reason))
    return strays


class _Names:
    """What DICOM files may be called, beside others of a folder.

    Args:
        siblings: Names of those others.
    """

    def __init__(self, siblings: Iterable[str]) -> None:
        names = set(siblings)
        self._suffixes = {Path(name).suffix.lower() for name in names} | set(_SUFFIXES)
        self._patterns = {_without_digits(name) for name in names}

    def allow(self, file: Path) -> bool:
        """Whether a DICOM file may be called so."""
        suffix = file.suffix.lower()
        if file.stem.lower() in _OTHERS and suffix not in _SUFFIXES:
            return False
        return not suffix or suffix[1:].isdigit() or suffix in self._suffixes

    def expect(self, file: Path) -> bool:
        """Whether a DICOM file is called so, or as one of the others but for digits."""
        return file.suffix.lower() in _SUFFIXES or _without_digits(file.name) in self._patterns


def _reason(file: Path, names: _Names) -> str:
    """Return why a file may be a slice; empty where it is none."""
    try:
        with open_regular(file) as content:
            start = content.read(_START)
    except OSError:
        is_other = file.exists() and not file.is_file()
        return "cannot be opened" if not is_other and names.allow(file) else ""
    if not start:
        return "is empty" if names.allow(file) else ""
    if start.startswith(_PREAMBLE) or not start.strip(b"\0"):
        return "begins with zeros"
    if _MAGIC in start:
        return "has DICOM's mark in the wrong place"
    return "has content that is not DICOM" if names.expect(file) else ""


def _without_digits(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def with_strays(
    volume: DicomVolume, series: Sequence[Header], strays: Sequence[Stray]
) -> DicomVolume:
    """Return a volume that says which files may be slices of it.

    Args:
        volume: The volume.
        series: All files of its series, of its other volumes too.
        strays: What lies in their folders.

    Raises:
        CorruptFileError: If the volume, or its series, lacks what one of them may be.
    """
    if not strays:
        return volume
    told = _list_of_strays(strays)
    paths = {piece.source.path for piece in volume.slices}
    own = [header for header in series if header.path in paths]
    # What holds many frames is whole in itself, and a picture has no neighbors.
    if volume.grid.is_positioned and not any(h.batch and len(h.slices) > 1 for h in own):
        missing = (
            _gap(volume) or _numbers(series, len(strays)) or _missing_of_acquisition(own, series)
        )
        if missing:
            msg = (
                f"A stack must be complete; {missing}, and these files in its folder may be "
                f"the missing ones: {told}. Copy them again, or take them out of the folder to "
                "read the stack as it is."
            )
            raise CorruptFileError(msg)
    note = (
        f"Files in the folder of this volume may be images of it: {told}. Copy them again, or "
        "take them out of the folder."
    )
    return replace(volume, warnings=(*volume.warnings, note))


def _list_of_strays(strays: Sequence[Stray]) -> str:
    named = ", ".join(f"{stray.path} {stray.reason}" for stray in strays[:_NAMED])
    more = len(strays) - _NAMED
    return named + (f", and {more} more" if more > 0 else "")


def _gap(volume: DicomVolume) -> str:
    """Say between which slices there is room for another; empty where there is none."""
    affines = volume.grid.slice_affines
    if affines is None or len(affines) < 3:
        return ""
    gaps = np.diff(affines[:, :3, 3] @ affines[0, :3, 2])
    median = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    widest = int(gaps.argmax())
    if gaps[widest] < _GAP * median:
        return ""
    before, after = volume.slices[widest].where, volume.slices[widest + 1].where
    return (
        f"{gaps[widest]:.3f} mm lie between {before} and {after}, {median:.3f} mm between most of "
        "its slices"
    )


def _numbers(series: Sequence[Header], strays: int) -> str:
    """Say which numbers of instances a series lacks; empty where it lacks none.

    A number below the first is missing where strays can be so many: some count on from series to
    series. Nothing is missing of numbers that are stated twice, or run in even steps.
    """
    stated = sorted(header.number for header in series if header.number is not None)
    if len(stated) < len(series) or len(set(stated)) < len(series):
        return ""
    first, last = stated[0], stated[-1]
    steps = {after - before for before, after in pairwise(stated)}
    if len(stated) > 2 and len(steps) == 1 and steps != {1}:
        return ""
    missing: list[int] = []
    if last - first < 2 * len(stated) + strays:  # as many holes as numbers are a way to count
        missing = sorted(set(range(first, last + 1)).difference(stated))
    if 1 < first <= 1 + strays:
        missing = [*range(1, first), *missing]
    if not missing:
        return ""
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    named = ", ".join(map(str, missing[:_NAMED]))
    return f"its series lacks InstanceNumber (0020,0013) {named}{more}"


def _missing_of_acquisition(own: Sequence[Header], series: Sequence[Header]) -> str:
    """Say of which acquisition images are missing; empty where none states that they are."""
    held = Counter(header.acquisition for header in series)
    for acquisition in dict.fromkeys(header.acquisition for header in own):
        stated = [h.images_in_acquisition for h in series if h.acquisition == acquisition]
        most = max((count for count in stated if count is not None), default=0)
        if most > held[acquisition]:
            return (
                f"an acquisition of it had {most} images by ImagesInAcquisition (0020,1002), of "
                f"which {held[acquisition]} are there"
            )
    return ""
