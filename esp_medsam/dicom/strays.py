"""Find unreadable files in a series folder that may be missing slices.

A failed copy leaves a file that is empty or all zeros; a bad disk leaves a file whose header is
damaged before it names its series. Without that file the others may look complete, so each volume
of the folder reports it, and a volume with a gap that it would fit is refused.
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
"""File extensions of DICOM in lower case; many files have none, or digits of a UID."""

_OTHERS = ("readme", "license", "lockfile", "version", "md5sums", "sha256sums")
"""Names, in lower case, of files without an extension that lie beside DICOM but are not DICOM."""

_PREAMBLE, _MAGIC, _START = bytes(128), b"DICM", 512
"""The preamble and magic word of DICOM files; how many bytes are searched for the magic word."""

_GAP = 1.5
"""A gap of at least this many median gaps has room for a slice."""

_NAMED = 3
"""Most strays, or instance numbers, that a message names; it counts the rest."""

DAMAGED = "is damaged before it names its series"


@dataclass(frozen=True)
class Stray:
    """A file that may be a slice of a series in its folder.

    Attributes:
        path: The file.
        reason: Why it could not be read, worded to follow the path in a sentence.
    """

    path: str
    reason: str


def find_strays(files: Iterable[Path], siblings: Iterable[str]) -> list[Stray]:
    """Return which files may be slices although their content is not recognized as DICOM.

    Args:
        files: Files whose content is not DICOM, or that cannot be opened.
        siblings: Names of the files in the same folder that hold DICOM images.
    """
    names = _Names(siblings)
    strays = []
    for file in files:
        reason = "" if file.name.startswith(".") else _reason(file, names)
        if reason:
            strays.append(Stray(str(file), reason))
    return strays


class _Names:
    """Possible names of DICOM files, judged by the other files of their folder.

    Args:
        siblings: Names of the other files.
    """

    def __init__(self, siblings: Iterable[str]) -> None:
        names = set(siblings)
        self._suffixes = {Path(name).suffix.lower() for name in names} | set(_SUFFIXES)
        self._patterns = {_without_digits(name) for name in names}

    def allow(self, file: Path) -> bool:
        """Whether a DICOM file may have this name."""
        suffix = file.suffix.lower()
        if file.stem.lower() in _OTHERS and suffix not in _SUFFIXES:
            return False
        return not suffix or suffix[1:].isdigit() or suffix in self._suffixes

    def expect(self, file: Path) -> bool:
        """Whether the name is typical of DICOM, or differs from another's only in digits."""
        return file.suffix.lower() in _SUFFIXES or _without_digits(file.name) in self._patterns


def _reason(file: Path, names: _Names) -> str:
    """Return why a file that may be a slice is unreadable; empty if it cannot be a slice."""
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
    """Return the volume with a warning that names files which may be slices of it.

    Args:
        volume: The volume.
        series: All files of its series, including those of its other volumes.
        strays: The strays in their folders.

    Raises:
        CorruptFileError: If the volume or its series lacks an image that a stray may be.
    """
    if not strays:
        return volume
    told = _list_of_strays(strays)
    paths = {piece.source.path for piece in volume.slices}
    own = [header for header in series if header.path in paths]
    # A multi-frame file is complete in itself, and a picture has no neighbors.
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
    """Return text on a gap with room for another slice; empty if there is no such gap."""
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
    """Return text on the instance numbers that a series lacks; empty if it lacks none.

    Numbers below the first count as missing only if there are enough strays: some scanners count on
    from series to series. No number is missing if any is repeated or they run in even steps.
    """
    stated = sorted(header.number for header in series if header.number is not None)
    if len(stated) < len(series) or len(set(stated)) < len(series):
        return ""
    first, last = stated[0], stated[-1]
    steps = {after - before for before, after in pairwise(stated)}
    if len(stated) > 2 and len(steps) == 1 and steps != {1}:
        return ""
    missing: list[int] = []
    if last - first < 2 * len(stated) + strays:  # with more holes, the gaps are a numbering scheme
        missing = sorted(set(range(first, last + 1)).difference(stated))
    if 1 < first <= 1 + strays:
        missing = [*range(1, first), *missing]
    if not missing:
        return ""
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    named = ", ".join(map(str, missing[:_NAMED]))
    return f"its series lacks InstanceNumber (0020,0013) {named}{more}"


def _missing_of_acquisition(own: Sequence[Header], series: Sequence[Header]) -> str:
    """Return text on an acquisition with missing images; empty if none states more images."""
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
