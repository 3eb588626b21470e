"""Open a DICOM file: encoding, elements, and where its pixel data begin.

What a file claims is never believed before it is found: no read asks for more than is left of the
file, no header falls into pieces without end, nothing is inflated without a limit.
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
"""Pixel Data, and its floating-point kinds, which are not read."""

_INFLATES = 10
"""Times its size that a deflated file is taken to have, by which its header may be as long."""

SOP_CLASS, _SYNTAX = 0x00020002, 0x00020010
"""Media Storage SOP Class UID and Transfer Syntax UID, in the file meta information."""


@dataclass
class PixelPart:
    """Where pixel data begin, as found on the way: nothing of them is read.

    Attributes:
        tag: Tag of the pixel data; 0 where there are none.
        representation: Value representation that the file states; None where it states none.
        length: Length that the file claims.
        start: Place of the first byte.
    """

    tag: int = 0
    representation: str | None = None
    length: int = 0
    start: int = 0


class DicomFile:
    """A DICOM file, open.

    Args:
        file: The file.
        path: Its path, for messages.
        state: What the system says of it.

    Attributes:
        path: Its path.
        state: What the system said of it when it was opened.
        meta: Its file meta information.
        syntax: Transfer Syntax UID; empty where the file states none, or what is none.
        file: The file at its data set, inflated where that is deflated.
        encoding: How the data set is written.
        pixels: Where its pixels begin, once it was skimmed.
        skimmer: What skims it.
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
        """Return what is wanted of the data set, up to its pixels; to be called once.

        Args:
            wanted: Tags of the elements.
            last: Tag behind which nothing is read.
        """

        def ends(tag: int, representation: str | None, length: int) -> bool:
            if tag in PIXEL_TAGS:
                self.pixels = PixelPart(tag, representation, length, self.skimmer.place)
            return tag in PIXEL_TAGS or tag > last

        return Elements(self.skimmer.dataset(self.encoding, wanted, ends), self.path)


@contextmanager
def opened(path: str | Path) -> Iterator[DicomFile]:
    """Open a DICOM file, and turn what following it raises into errors of ours.

    Their causes are not kept: the words of an exception may quote a header.

    Raises:
        InputNotFoundError: If there is no such file.
        ReadError: If it cannot be opened, or is no regular file.
        CorruptFileError: If it cannot be followed.
        TooLargeError: If it inflates without end, or memory runs out.
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
    """Return the error that says that a header cannot be followed."""
    why = str(error) if isinstance(error, SkimError) else type(error).__name__
    return CorruptFileError(f"{path} must be a whole DICOM file; its header is damaged ({why}).")


def may_be_dicom(path: Path) -> bool:
    """Whether ``path`` is a folder, or a file that is DICOM, whatever its ending."""
    try:
        return path.is_dir() or (path.is_file() and is_dicom(path))
    except OSError:  # told with its reason where the file is opened
        return False


def is_dicom(path: str | Path) -> bool:
    """Whether the file begins as DICOM: with its magic word, or with a first element without it.

    Reads 132 bytes at most. What cannot be opened, or is no regular file, is none.
    """
    try:
        with open_regular(path) as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or _begins_with_element(start)


def _begins_with_element(start: bytes) -> bool:
    """Whether the first bytes are an element of group 2 or 8, as of files without a preamble."""
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
    """Return how a data set is written: its first element shows what its syntax may have wrong."""
    start = file.tell()
    first = file.read(6)
    file.seek(start)
    explicit = first[4:] in REPRESENTATIONS if len(first) == 6 else syntax != ImplicitVRLittleEndian
    big = explicit and struct.unpack("<H", first[:2])[0] >= 0x0400 if len(first) == 6 else False
    if syntax:
        big = syntax == ExplicitVRBigEndian
    return Encoding(implicit=not explicit, little=not big)
