"""Open a DICOM file: encoding, elements, and where its pixel data begin.

A file's claims are never trusted unchecked: no read asks for more than is left of the file, no
header can split into endless pieces, and nothing is inflated without a limit.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from esp_medsam.dicom.bounded_file import BoundedFile, InflatedFile
from esp_medsam.dicom.elements import Elements
from esp_medsam.dicom.skim import REPRESENTATIONS, Encoding, SkimError, Skimmer
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    TooLargeError,
    not_found,
)
from esp_medsam.identity import FileState
from esp_medsam.regular_file import open_regular, unreadable


PIXEL_TAGS = (0x7FE00010, 0x7FE00009, 0x7FE00008)
"""Pixel Data, and its floating-point variants, which are not read."""

_INFLATES = 10
"""Assumed inflation factor of a deflated file, which limits the length of its header."""

SOP_CLASS, _SYNTAX = 0x00020002, 0x00020010
"""Media Storage SOP Class UID and Transfer Syntax UID, in the file meta information."""


@dataclass
class PixelPart:
    """Where pixel data begin, as found while skimming; the data themselves are not read.

    Attributes:
        tag: Tag of the pixel data; 0 if there are none.
        representation: Value representation that the file states; None if it states none.
        length: Length that the file claims.
        start: Offset of the first byte.
    """

    tag: int = 0
    representation: str | None = None
    length: int = 0
    start: int = 0


class DicomFile:
    """An open DICOM file.

    Args:
        file: The file.
        path: Path of the file, for messages.
        state: What the operating system says about the file.

    Attributes:
        path: Path of the file.
        state: What the operating system said about the file when it was opened.
        meta: File meta information.
        syntax: Transfer Syntax UID; empty if the file states none or an invalid one.
        file: The file positioned at its data set, inflated if the data set is deflated.
        encoding: How the data set is written.
        pixels: Where the pixels begin, after the data set has been skimmed.
        skimmer: Skimmer of the data set.
    """

    def __init__(self, file: BoundedFile, path: str, state: FileState) -> None:
        self.path = path
        self.state = state
        if file.read(132)[128:] != b"DICM":
            file.seek(0)
        skimmer = Skimmer(file, file.size)
        explicit = Encoding(implicit=False, little=True)
        meta = skimmer.dataset(explicit, (SOP_CLASS, _SYNTAX), lambda tag, *_: tag >> 16 != 2)
        self.meta = Elements(meta, path)
        self.syntax = self.meta.uid_or_none(_SYNTAX) or ""
        is_deflated = self.syntax == DeflatedExplicitVRLittleEndian
        self.file = InflatedFile(file, path) if is_deflated else file
        self.encoding = _encoding(self.file, self.syntax)
        self.pixels = PixelPart()
        self.skimmer = Skimmer(self.file, file.size * (_INFLATES if is_deflated else 1))

    def elements(self, wanted: Container[int], last: int = PIXEL_TAGS[0]) -> Elements:
        """Return the wanted elements of the data set, up to its pixels; may be called only once.

        Args:
            wanted: Tags of the elements.
            last: Tag after which nothing is read.
        """

        def ends(tag: int, representation: str | None, length: int) -> bool:
            if tag in PIXEL_TAGS:
                self.pixels = PixelPart(tag, representation, length, self.skimmer.place)
            return tag in PIXEL_TAGS or tag > last

        return Elements(self.skimmer.dataset(self.encoding, wanted, ends), self.path)


@contextmanager
def opened(path: str | Path) -> Iterator[DicomFile]:
    """Open a DICOM file, and turn exceptions raised while parsing it into this package's errors.

    The original causes are dropped, because an exception's text may quote a header.

    Raises:
        InputNotFoundError: If there is no such file.
        ReadError: If the file cannot be opened, or is not a regular file.
        CorruptFileError: If the file cannot be parsed.
        TooLargeError: If the file inflates to too much, or memory runs out.
    """
    name = os.fspath(path)
    try:
        with open_regular(name) as file:
            yield DicomFile(BoundedFile(file), name, FileState.of(os.fstat(file.fileno())))
    except EspMedSamError:
        raise
    except FileNotFoundError:
        raise not_found(name) from None
    except OSError as error:
        raise unreadable(name, error) from None
    except MemoryError:
        msg = f"{name} must fit in memory; its header takes more than is free."
        raise TooLargeError(msg) from None
    except Exception as error:
        raise damage_error(name, error) from None


def damage_error(path: str, error: Exception) -> CorruptFileError:
    """Return the error that says that a header cannot be parsed."""
    why = str(error) if isinstance(error, SkimError) else type(error).__name__
    return CorruptFileError(f"{path} must be a whole DICOM file; its header is damaged ({why}).")


def may_be_dicom(path: Path) -> bool:
    """Whether ``path`` is a folder or a DICOM file, whatever its extension."""
    try:
        return path.is_dir() or (path.is_file() and is_dicom(path))
    except OSError:  # opening the file later reports the reason
        return False


def is_dicom(path: str | Path) -> bool:
    """Whether the file begins like DICOM: with the magic word, or directly with a first element.

    It reads 132 bytes at most. False if the file cannot be opened or is not a regular file.
    """
    try:
        with open_regular(path) as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or _begins_with_element(start)


def _begins_with_element(start: bytes) -> bool:
    """Whether the first bytes are an element of group 2 or 8, as in files without a preamble."""
    if len(start) < 16:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", start[:4])
        if group not in (2, 8) or element > 0x100:
            continue
        length: int = struct.unpack(f"{order}L", start[4:8])[0]
        return start[4:6] in _EXPLICIT or (order == "<" and length <= 1024)
    return False


_EXPLICIT = (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"SQ")


def _encoding(file: BoundedFile | InflatedFile, syntax: str) -> Encoding:
    """Return how a data set is written, by its first element, since its syntax may be wrong."""
    start = file.tell()
    first = file.read(6)
    file.seek(start)
    explicit = first[4:] in REPRESENTATIONS if len(first) == 6 else syntax != ImplicitVRLittleEndian
    big = explicit and struct.unpack("<H", first[:2])[0] >= 0x0400 if len(first) == 6 else False
    if syntax:
        big = syntax == ExplicitVRBigEndian
    return Encoding(implicit=not explicit, little=not big)
