"""Decompress gzip and zlib data piece by piece, at a bounded cost.

Python's own gzip module reads the name in a header letter by letter, and thousands of empty
members one by one.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO


GZIP, GZIP_OR_ZLIB = 31, 47
"""Kinds of data, as zlib numbers them."""

DAMAGE = (EOFError, zlib.error)
"""Errors that reading raises for data that are cut short or damaged."""

_MOST_MEMBERS = 2**17
"""Maximum members of a gzip file: bgzip, which writes the most, puts 64 KiB into each."""

_PIECE = 2**15


class Inflated:
    """Stream of decompressed data; all checksums are verified on the way.

    Args:
        file: Compressed data, from the current position to the end.
        kind: ``GZIP``, with any number of members, or ``GZIP_OR_ZLIB``, with one stream.
        left: How many bytes are data; None means all.
    """

    def __init__(self, file: BinaryIO, kind: int = GZIP, left: int | None = None) -> None:
        self._file = file
        self._kind = kind
        self._left = left
        self._packed = b""
        self._members = 1
        self._unpacker = zlib.decompressobj(kind)

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or as many as there are.

        Raises:
            EOFError: If the data are cut short.
            zlib.error: If they are damaged, or followed by other data.
        """
        parts = []
        while size > 0 and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read_rest(self, most: int) -> int:
        """Read on to the last checksum, up to ``most`` bytes; return how many bytes were read."""
        total = 0
        while total < most and (part := self._some(2**20)):
            total += len(part)
        return total

    def _some(self, size: int) -> bytes:
        """Return some of the next bytes, at most ``size``; empty at the end."""
        while not self._unpacker.eof or self._begins_anew():
            packed = self._packed or self._more()
            data = self._unpacker.decompress(packed, size)
            is_over = self._unpacker.eof
            self._packed = self._unpacker.unused_data if is_over else self._unpacker.unconsumed_tail
            if data:
                return data
            if not packed and not is_over:
                raise EOFError
        return b""

    def _begins_anew(self) -> bool:
        """Whether another member follows; zeros between members are skipped."""
        if self._kind != GZIP:
            return False
        while not self._packed.strip(b"\0"):
            self._packed = self._more()
            if not self._packed:
                return False
        self._packed = self._packed.lstrip(b"\0")
        self._members += 1
        if self._members > _MOST_MEMBERS:
            msg = f"more than {_MOST_MEMBERS} members"
            raise zlib.error(msg)
        self._unpacker = zlib.decompressobj(self._kind)
        return True

    def _more(self) -> bytes:
        packed = self._file.read(_PIECE if self._left is None else min(_PIECE, self._left))
        if self._left is not None:
            self._left -= len(packed)
        return packed
