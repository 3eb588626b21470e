"""Check the header of an NRRD or MetaImage file before ITK allocates memory for it.

ITK's own word on a header, SimpleITK's ``ReadImageInformation``, was tried in place of what is
parsed here, and cannot be taken (SimpleITK 2.5). A MetaImage of ``NDims = 4000`` and as many
lengths of 1 crashes the process, and an NRRD of 90,000 keys holds it for over a minute.
``Offset = 1,5 2 3`` becomes the position 1, 0, 0 without a word, ``Offset = 1 2`` takes the
spacing away with it, ``DimSize = 2 3 -4`` has 4,294,967,292 slices, and NRRD sizes wrap at 64
bits. Missing spacings and directions are filled in, and space directions come back normalized,
exact to rounding alone. To refuse these takes every field that ITK would have told. What ITK
understood is compared with what stands here once it has read the voxels.
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
"""A header is text of some lines; even with a table of gradients it is far shorter.

ITK takes minutes for 90,000.
"""

_MOST_DIGITS = 18
"""Of an integer: what fits in 64 bits."""

_MOST_TOLD = 40
"""Characters of a value that a message quotes."""

_UNITS = frozenset(
    ("m", "meter", "meters", "cm", "centimeter", "centimeters", "um", "µm", "micrometer",
     "micrometers", "micron", "microns", "nm", "nanometer", "in", "inch", "inches")
)  # fmt: skip

LPS_TO_RAS = (-1.0, -1.0, 1.0)
"""Signs that turn positions as ITK states them, to left and posterior, into ours."""


@dataclass(frozen=True, kw_only=True)
class ItkHeader:
    """The parts of an NRRD or MetaImage header that reading needs.

    Attributes:
        kind: ``"NRRD"`` or ``"MetaImage"``.
        shape: Lengths of the axes of a volume, two or three.
        frames: Volumes in the file.
        dtype: Type of the stored numbers, whatever their byte order.
        encoding: How they are stored.
        data_path: File that holds them: the header's own, or one beside it.
        offset: Byte at which they begin; -1 where they end the file.
        stored_bytes: Length of compressed data, where the header states it.
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
        """Numbers in the file, of all volumes; exact however large."""
        count = self.frames
        for length in self.shape:
            count *= length
        return count


def read_block(path: Path) -> bytes:
    """Return the beginning of a file, enough to hold any header."""
    with open_regular(path) as file:
        return file.read(_MOST_BYTES)


def lines(block: bytes, path: Path) -> Iterator[tuple[str, int]]:
    """Yield each line of a header, and the byte behind it.

    Raises:
        TooLargeError: If there are more than any header has.
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
    """Add a header field; two of a name may be taken one way here and another way by ITK.

    Raises:
        CorruptFileError: If there is one already.
    """
    if name in fields:
        msg = f"{path} must state each field once; {name} stands twice."
        raise CorruptFileError(msg)
    fields[name] = value


def required_field(fields: Mapping[str, str], name: str, path: Path) -> str:
    """Return a field.

    Raises:
        CorruptFileError: If it is missing.
    """
    if name not in fields:
        msg = f"{path} must state its {name}; its header does not."
        raise CorruptFileError(msg)
    return fields[name]


def integers(text: str, name: str, path: Path, *, least: int = 1) -> tuple[int, ...]:
    """Return the integers of a field.

    Raises:
        CorruptFileError: If it holds something else, or one below ``least``.
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
        GeometryError: If there are not ``count``, or one is not finite.
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
    """Return a value as a message quotes it, where nothing but a number or a type can stand in it.

    Anything else may be about a patient.
    """
    is_plain = re.fullmatch(r"([\d\s.,+()-]|e|E|nan|inf)*|[a-z\d-]+|MET_[A-Z_]+", text)
    return repr(text) if is_plain and len(text) <= _MOST_TOLD else f"text of {len(text)} characters"


def lengths_note(unit: str) -> str:
    """Return what there is to say of lengths in another unit.

    It is named where it is one: whatever else stands there may be about a patient.
    """
    named = unit if unit.lower() in _UNITS else "another unit"
    return f"The header states lengths in {named}; the numbers were read as millimeters."


def path_beside(path: Path, name: str) -> Path:
    """Return the data file that a header names, which must lie beside it.

    Raises:
        FormatError: If the name leads elsewhere, be it through a link, or stands for several files.
        CorruptFileError: If there is no such file.
    """
    plain = name.removeprefix("./")
    # ITK takes whatever begins so for a list of names that follow, and reads those anywhere.
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
    """Return the affine to RAS+ and what there is to say of it.

    Args:
        directions: ``(3, 3)``; column i is the step of array axis i in the file's space, in mm.
        origin: ``(3,)``, the first voxel's position there.
        signs: Of the three axes of that space in RAS+.
        path: The file, for messages.

    Raises:
        GeometryError: If it is not usable.
    """
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, origin
    affine[:3] *= np.asarray(signs)[:, None]
    affine += 0.0  # no negative zeros
    return affine, check_affine(affine, path)
