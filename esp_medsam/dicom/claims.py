"""A file of which nothing is believed: bounded reads, bounded inflation, pixels that are there."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.uid import UID

from esp_medsam.dicom.elements import Elements
from esp_medsam.errors import CorruptFileError, FormatError, TooLargeError


PIXEL_TAGS = (0x7FE00010, 0x7FE00009, 0x7FE00008)
"""Pixel Data, and its floating-point kinds, which are not read."""

MOST_INFLATED = 2**30
"""Bytes that a deflated file may inflate to; 4 million pixels of color need 12 million."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

_FRAGMENTS, _LEAST_FRAGMENT = 100_000, 64
"""Pieces from which on they must hold so many bytes on average: a walk must end."""


_READS, _MOST_READS = 200_000, 4_000_000
"""Reads after which there must be four bytes for each, and after which there are too many.

Ten thousand frames of enhanced MR take one to two million, and a thousand bytes each.
"""

_MOST_FRAMES = 2**18
"""Frames that are told apart: the largest slides have as many tiles."""


@dataclass
class PixelPart:
    """Where pixel data begin, as found on the way: nothing of them is read.

    Attributes:
        tag: Tag of the pixel data; 0 where there are none.
        length: Length that the file claims.
        start: Place of the first byte.
    """

    tag: int = 0
    length: int = 0
    start: int = 0


class BoundedFile:
    """A file of which no more is asked for than is left: Python allocates what is asked for.

    It counts its place itself: pydicom asks for it at every element. It also counts the reads:
    pydicom makes kilobytes of each of a million empty items.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._place = file.seek(0)
        self._reads = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; all that are left where it is negative."""
        self._reads += 1
        if self._reads > _READS and (self._reads > _MOST_READS or self._reads > self.size // 4):
            msg = f"its header falls into {self._reads} pieces or more"
            raise ValueError(msg)
        left = max(self.size - self._place, 0)
        content = self._file.read(left if size < 0 else min(size, left))
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, which may lie beyond the end."""
        self._place = self._file.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place


def inflated(file: BoundedFile, path: str) -> BoundedFile:
    """Return the data set of a deflated file, as a file."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    content = io.BytesIO()
    chunk = file.read(2**20)
    while chunk and not inflate.eof:
        content.write(inflate.decompress(chunk, 2**24))
        if content.tell() > MOST_INFLATED:
            msg = (
                f"{path} must inflate to at most {MOST_INFLATED / 2**30:g} GiB; it is more. "
                "Store it without the deflated transfer syntax."
            )
            raise TooLargeError(msg)
        chunk = inflate.unconsumed_tail or file.read(2**20)
    return BoundedFile(content)


def check_pixels(
    elements: Elements, file: BoundedFile, part: PixelPart, syntax: str, frames: int
) -> None:
    """Check that a file holds the pixels that its header claims, before the claim is believed.

    Args:
        elements: Its header.
        file: The file, inflated where it is deflated.
        part: Where its pixel data begin.
        syntax: Its transfer syntax.
        frames: How many images it claims.

    Raises:
        CorruptFileError: If pixels are missing.
        TooLargeError: If there are too many frames.
        FormatError: If they are video or floating-point numbers, or not described.
    """
    path = elements.path
    if not part.tag:
        msg = f"{path} must hold pixels; it has none, it may be cut short. Copy it again."
        raise CorruptFileError(msg)
    if part.tag != PIXEL_TAGS[0]:
        msg = f"{path} must hold whole numbers as pixels; it holds floating-point ones."
        raise FormatError(msg)
    if frames > _MOST_FRAMES:
        msg = f"{path} must hold at most {_MOST_FRAMES} frames; its header claims {frames}."
        raise TooLargeError(msg)
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        if elements.integer(keyword, least=1) is None:
            raise elements.missing(keyword)
    if part.length == _UNDEFINED:
        _check_video(syntax, path)
        _check_fragments(file, part.start, frames, path)
        return
    held = file.size - part.start
    needed = _native_size(elements, frames)
    if part.length > held or needed > part.length:
        msg = (
            f"{path} must hold {max(needed, part.length)} bytes of pixels; "
            f"got {min(part.length, held)}. It is cut short or its header is wrong; copy it again."
        )
        raise CorruptFileError(msg)


def _native_size(elements: Elements, frames: int) -> int:
    """Return how many bytes the pixels take where they are not compressed."""
    rows, columns = elements.integer("Rows") or 0, elements.integer("Columns") or 0
    samples = elements.integer("SamplesPerPixel", least=1) or 1
    bits = rows * columns * frames * samples * (elements.integer("BitsAllocated") or 0)
    if elements.text("PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits * 2 // 3
    return (bits + 7) // 8


def _check_video(syntax: str, path: str) -> None:
    name = UID(syntax).name
    if "MPEG" in name or "H.264" in name or "HEVC" in name:
        msg = f"{path} must hold images; it holds video ({name}), which is not read."
        raise FormatError(msg)


def _check_fragments(file: BoundedFile, start: int, frames: int, path: str) -> None:
    """Walk from fragment to fragment of compressed pixels: all there, one a frame at least."""
    file.seek(start)
    fragments = -1  # the first item is the offset table
    count, held, position = 0, 0, start
    while position < file.size:
        head = file.read(8)
        if head[:4] == _DELIMITER:
            break
        length = int.from_bytes(head[4:], "little")
        position += 8 + length
        if head[:4] != _ITEM or len(head) < 8 or position > file.size:
            msg = f"{path} must hold whole compressed pixels; it is cut short. Copy it again."
            raise CorruptFileError(msg)
        count, held = count + 1, held + length
        fragments += length > 0 or count == 1
        if count > _FRAGMENTS and held < _LEAST_FRAGMENT * count:
            msg = f"{path} must hold compressed pixels; it holds {count} empty pieces or more."
            raise CorruptFileError(msg)
        file.seek(position)
    if fragments < frames:
        msg = f"{path} must hold {frames} compressed frames; got {max(fragments, 0)} pieces."
        raise CorruptFileError(msg)
