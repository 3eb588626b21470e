"""Check the header of an NRRD or MetaImage file before ITK allocates memory for it.

SimpleITK's own header parser, ``ReadImageInformation``, was tried instead of the parser here, and
cannot be used (SimpleITK 2.5). A MetaImage with ``NDims = 4000`` and as many lengths of 1 crashes
the process, and an NRRD with 90,000 keys blocks it for over a minute. ``Offset = 1,5 2 3`` silently
becomes the position 1, 0, 0, ``Offset = 1 2`` loses the spacing as well, ``DimSize = 2 3 -4`` gives
4,294,967,292 slices, and NRRD sizes wrap at 64 bits. Missing spacings and directions are filled in,
and space directions come back normalized, exact only up to rounding. Refusing these headers
requires parsing every field that ITK would have reported. After ITK has read the voxels, its
understanding of the header is compared with the one here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import CorruptFileError, FormatError, GeometryError, TooLargeError
from esp_medsam.grid import check_affine
from esp_medsam.regular_file import open_regular


_MOST_BYTES, _MOST_LINES = 2**20, 2**13
"""A header is a few lines of text; even with a table of gradients it is far shorter than this.

ITK takes minutes for 90,000 lines.
"""

_MOST_DIGITS = 18
"""Digits of an integer that always fit in 64 bits."""

_MOST_TOLD = 40
"""Most characters of a value that a message quotes."""

_UNITS = frozenset(
    ("m", "meter", "meters", "cm", "centimeter", "centimeters", "um", "µm", "micrometer",
     "micrometers", "micron", "microns", "nm", "nanometer", "in", "inch", "inches")
)  # fmt: skip

LPS_TO_RAS = (-1.0, -1.0, 1.0)
"""Signs that turn ITK's positions, which count to left and posterior, into RAS."""


@dataclass(frozen=True, kw_only=True)
class ItkHeader:
    """The parts of an NRRD or MetaImage header that reading needs.

    Attributes:
        kind: ``"NRRD"`` or ``"MetaImage"``.
        shape: Lengths of the axes of a volume, two or three.
        frames: Volumes in the file.
        dtype: Type of the stored numbers, whatever their byte order.
        encoding: How the numbers are stored.
        data_path: File that holds the numbers: the header's own, or one beside it.
        offset: Byte at which the numbers begin; -1 if they are at the end of the file.
        stored_bytes: Length of compressed data; None if the header does not state it.
        affine: ``(4, 4)`` float64, voxel index to RAS+ in mm.
        warnings: What a user should know.
    """

    kind: Literal["NRRD", "MetaImage"]
    shape: tuple[int, ...]
    frames: int
    dtype: np.dtype[Any]
    encoding: Literal["raw", "gzip", "zlib", "text"]
    data_path: Path
    offset: int
    stored_bytes: int | None
    affine: npt.NDArray[np.float64]
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        """Count of numbers in the file, over all volumes; exact however large."""
        count = self.frames
        for length in self.shape:
            count *= length
        return count


def read_block(path: Path) -> bytes:
    """Return the beginning of a file, enough to hold any header."""
    with open_regular(path) as file:
        return file.read(_MOST_BYTES)


def lines(block: bytes, path: Path) -> Iterator[tuple[str, int]]:
    """Yield each line of a header, and the offset of the byte after it.

    Raises:
        TooLargeError: If there are more lines than any header has.
    """
    start = 0
    for _ in range(_MOST_LINES):
        if start >= len(block):
            return
        end = block.find(b"\n", start)
        end = end if end >= 0 else len(block)
        line, start = block[start:end].decode("latin-1").rstrip("\r"), end + 1
        yield line, min(start, len(block))
    msg = f"{path} must have a header of at most {_MOST_LINES:,} lines. Save it again."
    raise TooLargeError(msg)


def add_field(fields: dict[str, str], name: str, value: str, path: Path) -> None:
    """Add a header field; duplicates are refused, since ITK may choose another than this parser.

    Raises:
        CorruptFileError: If the field exists already.
    """
    if name in fields:
        msg = f"{path} must state each field once; {name} stands twice."
        raise CorruptFileError(msg)
    fields[name] = value


def required_field(fields: Mapping[str, str], name: str, path: Path) -> str:
    """Return a header field.

    Raises:
        CorruptFileError: If the field is missing.
    """
    if name not in fields:
        msg = f"{path} must state its {name}; its header does not."
        raise CorruptFileError(msg)
    return fields[name]


def integers(text: str, name: str, path: Path, *, least: int = 1) -> tuple[int, ...]:
    """Return the integers of a field.

    Raises:
        CorruptFileError: If the field holds something else, or a number below ``least``.
    """
    words = text.split()
    try:
        values = tuple(int(word) for word in words if len(word) <= _MOST_DIGITS)
    except ValueError:
        values = ()
    if not values or len(values) < len(words) or min(values) < least:
        msg = f"{path} must have integers of at least {least} as {name}; got {quoted_field(text)}."
        raise CorruptFileError(msg)
    return values


def numbers(text: str, count: int, name: str, path: Path) -> npt.NDArray[np.float64]:
    """Return the numbers of a field that says where voxels lie.

    Raises:
        GeometryError: If there are not ``count`` numbers, or one is not finite.
    """
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.all(np.isfinite(values)):
        msg = f"{path} must have {count} finite numbers as {name}; got {quoted_field(text)}."
        raise GeometryError(msg)
    return values


def quoted_field(text: str) -> str:
    """Return a value as a message quotes it: in full only if it is a plain number or type.

    Anything else may be about a patient.
    """
    is_plain = re.fullmatch(r"([\d\s.,+()-]|e|E|nan|inf)*|[a-z\d-]+|MET_[A-Z_]+", text)
    return repr(text) if is_plain and len(text) <= _MOST_TOLD else f"text of {len(text)} characters"


def lengths_note(unit: str) -> str:
    """Return a warning about lengths in another unit.

    The unit is named only if it is a known one: any other text may be about a patient.
    """
    named = unit if unit.lower() in _UNITS else "another unit"
    return f"The header states lengths in {named}; the numbers were read as millimeters."


def path_beside(path: Path, name: str) -> Path:
    """Return the data file that a header names, which must lie beside it.

    Raises:
        FormatError: If the name leads elsewhere, even through a link, or means several files.
        CorruptFileError: If there is no such file.
    """
    plain = name.removeprefix("./")
    # ITK takes any such name as the start of a list of names, and reads those from anywhere.
    if plain.upper().startswith("LIST") or "%" in plain:
        msg = f"{path} must have one data file; its header names several. Save it as one file."
        raise FormatError(msg)
    if plain in ("", ".", "..") or any(c in plain for c in "/\\\0"):
        msg = f"{path} must have its data file beside it; its header names one elsewhere."
        raise FormatError(msg)
    data = path.with_name(plain)
    if not data.is_file():
        msg = f"{path} must have its data file beside it; {plain!r} is not there."
        raise CorruptFileError(msg)
    if data.resolve().parent != path.parent.resolve():
        msg = (
            f"{path} must have its data file beside it; {plain!r} is a link to elsewhere. Copy it."
        )
        raise FormatError(msg)
    return data


def usable_affine(
    directions: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    signs: Sequence[float],
    path: Path,
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return the affine to RAS+ and the warnings about it.

    Args:
        directions: ``(3, 3)``; column i is the step of array axis i in the file's space, in mm.
        origin: ``(3,)``, the first voxel's position in that space.
        signs: Signs of the three axes of that space in RAS+.
        path: The file, for messages.

    Raises:
        GeometryError: If the affine is not usable.
    """
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, origin
    affine[:3] *= np.asarray(signs)[:, None]
    affine += 0.0  # no negative zeros
    return affine, check_affine(affine, path)
