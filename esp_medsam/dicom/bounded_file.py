"""Read plain or deflated files without holding more than was asked for."""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

from esp_medsam.dicom.skim import SkimError
from esp_medsam.errors import TooLargeError


MOST_INFLATED = 2**30
"""Bytes that a deflated file may inflate to; 4 million pixels of color need 12 million."""

_CHUNK, _BEHIND = 2**20, 2**16
"""Bytes inflated at a time, and bytes kept of what has already been read."""


class BoundedFile:
    """A file whose reads never exceed what is left, because Python allocates the size requested.

    It tracks its own position, because a header reader asks for it at every element.

    Attributes:
        size: Size of the file in bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._place = file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, or all remaining bytes if ``size`` is negative."""
        left = max(self.size - self._place, 0)
        content = self._file.read(left if size < 0 else min(size, left))
        self._place += len(content)
        return content

    def seek(self, offset: int) -> int:
        """Move to a position, which may lie beyond the end."""
        self._place = self._file.seek(min(offset, self.size))
        return self._place

    def tell(self) -> int:
        """Return the current position."""
        return self._place

    def left(self, most: int = 0) -> int:
        """Return how many bytes follow; ``most`` matters only for deflated files."""
        del most
        return self.size - self._place


class InflatedFile:
    """The data set of a deflated file, inflated as it is read and discarded once passed.

    Args:
        file: The file, positioned at the first deflated byte.
        path: Path of the file, for messages.
    """

    def __init__(self, file: BoundedFile, path: str) -> None:
        self._file = file
        self._path = path
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._held = bytearray()
        self._start = 0
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, or as many as a file may have if ``size`` is negative.

        Raises:
            SkimError: If the position lies far behind what was already read, or data are damaged.
            TooLargeError: If too much was inflated.
        """
        size = MOST_INFLATED + 1 if size < 0 else size
        if self._place < self._start:
            msg = "its deflated elements are out of order"
            raise SkimError(msg)
        while self._start + len(self._held) < self._place + size and self._inflate_more():
            pass
        at = self._place - self._start
        content = bytes(self._held[at : at + size])
        self._place += len(content)
        return content

    def seek(self, offset: int) -> int:
        """Move to a position, which may lie beyond the end."""
        self._place = offset
        return offset

    def tell(self) -> int:
        """Return the current position."""
        return self._place

    def left(self, most: int) -> int:
        """Return how many bytes follow, or at least ``most``; they can no longer be read.

        Raises:
            SkimError: If the bytes are damaged.
            TooLargeError: If too much was inflated.
        """
        start = self._place
        while self._start + len(self._held) - start < most:
            self._place = self._start + len(self._held)
            if not self._inflate_more():
                break
        return max(self._start + len(self._held) - start, 0)

    def _inflate_more(self) -> bool:
        """Inflate some more and discard what lies behind; return False at the end."""
        behind = min(self._place - _BEHIND - self._start, len(self._held))
        if behind > 0:
            del self._held[:behind]
            self._start += behind
        more = b""
        try:
            while not more and not self._inflate.eof:
                chunk = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
                if not chunk:
                    break
                more = self._inflate.decompress(chunk, _CHUNK)
        except zlib.error:
            msg = "its deflated data are damaged"
            raise SkimError(msg) from None
        self._held += more
        if self._start + len(self._held) > MOST_INFLATED:
            msg = (
                f"{self._path} must inflate to at most {MOST_INFLATED / 2**30:g} GiB; it "
                "inflates to more. Store it without the deflated transfer syntax."
            )
            raise TooLargeError(msg)
        return bool(more)
