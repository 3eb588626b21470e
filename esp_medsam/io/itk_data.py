"""Count and sum the stored numbers of a file before ITK reads it.

ITK locates the numbers itself, according to its own reading of the header. Afterwards its numbers
are compared with those summed here, so that none comes from an unchecked part of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import CorruptFileError, FormatError, TooLargeError
from esp_medsam.io.inflate import DAMAGE, GZIP, GZIP_OR_ZLIB, Inflated
from esp_medsam.io.itk_header import ItkHeader
from esp_medsam.io.voxels import MORE_BYTES
from esp_medsam.regular_file import open_regular


_MOST_TEXT = 2**23
"""Maximum numbers stored as text: ITK reads a million in a third of a second."""

_PIECE = 2**20
_MAX_TAIL = 2**26
"""Most bytes read beyond the voxels to reach the checksum at the end of compressed data."""


class Sums(NamedTuple):
    """Order-independent sums modulo 2**64 of numbers, taken as unsigned, and of their squares."""

    numbers: int
    squares: int

    @classmethod
    def of(cls, words: npt.NDArray[Any]) -> Sums:
        """Return the sums of an array of unsigned numbers."""
        wide = words.astype(np.uint64)
        return cls(int(wide.sum()), int((wide * wide).sum()))

    def __add__(self, other: object) -> Sums:
        """Return the sums of both together."""
        if not isinstance(other, Sums):
            return NotImplemented
        return Sums((self.numbers + other.numbers) % 2**64, (self.squares + other.squares) % 2**64)


class Stored(NamedTuple):
    """What a file holds.

    Attributes:
        sums: Sums of its numbers, read as little-endian and as big-endian; None for text.
        warnings: What a user should know.
    """

    sums: tuple[Sums, Sums] | None
    warnings: tuple[str, ...]


def stored_numbers(header: ItkHeader, path: Path) -> Stored:
    """Return what a file actually holds of the numbers that its header claims.

    Raises:
        CorruptFileError: If the file holds fewer, or compressed data are damaged.
        TooLargeError: If it holds more numbers as text than ITK reads in reasonable time.
    """
    size = header.data_path.stat().st_size
    needed = header.count * header.dtype.itemsize
    if header.encoding == "text":
        if header.count > _MOST_TEXT:
            msg = f"{path} must have at most {_MOST_TEXT:,} numbers as text. Save it with gzip."
            raise TooLargeError(msg)
        # Each number takes a digit and a space at least.
        _check_whole(header, size - max(header.offset, 0) + 1, 2 * header.count, path)
        return Stored(None, ())
    start = header.offset if header.offset >= 0 else max(size - needed, 0)
    if header.encoding == "raw":
        _check_whole(header, size - start, needed, path)
        sums, _ = _summed(_raw(header, start, needed), header, needed)
        held = size - start
    elif header.stored_bytes is not None and header.stored_bytes > size - start:
        _check_whole(header, 0, needed, path)
    else:
        try:
            sums, held = _summed(_unpacked_pieces(header, needed), header, needed)
        except DAMAGE as error:
            msg = f"{path} must have whole compressed data; they are damaged or cut short."
            raise CorruptFileError(msg) from error
        _check_whole(header, held, needed, path)
    return Stored(sums, (MORE_BYTES,) if held > needed and header.offset >= 0 else ())


def check_same(numbers: npt.NDArray[Any], header: ItkHeader, stored: Stored, path: Path) -> None:
    """Require that the numbers that ITK read are those that were summed.

    Args:
        numbers: Numbers that ITK read, in any order.
        header: Header of the file.
        stored: What :func:`stored_numbers` found.
        path: The file, for messages.

    Raises:
        FormatError: If the numbers differ.
    """
    if stored.sums is None:
        return
    flat = numbers.astype(header.dtype, copy=False).ravel(order="K")
    sums, step = Sums(0, 0), _PIECE // header.dtype.itemsize
    for start in range(0, flat.size, step):
        sums += Sums.of(flat[start : start + step].view(f"u{header.dtype.itemsize}"))
    if sums not in stored.sums:
        msg = f"{path} must hold its voxels where its header says; ITK reads others. Save it again."
        raise FormatError(msg)


def _check_whole(header: ItkHeader, held: int, needed: int, path: Path) -> None:
    if held < needed:
        size_text = " x ".join(str(length) for length in (*header.shape, header.frames))
        msg = (
            f"{path} must hold {size_text} voxels of {header.dtype.itemsize} bytes; "
            f"{header.data_path.name} is cut short. Copy it again."
        )
        raise CorruptFileError(msg)


def _raw(header: ItkHeader, start: int, needed: int) -> Iterator[bytes]:
    with open_regular(header.data_path) as file:
        file.seek(start)
        while needed > 0 and (piece := file.read(min(_PIECE, needed))):
            needed -= len(piece)
            yield piece


def _unpacked_pieces(header: ItkHeader, needed: int) -> Iterator[bytes]:
    """Yield the decompressed data, to a little beyond ``needed`` bytes."""
    kind = GZIP if header.stored_bytes is None else GZIP_OR_ZLIB
    with open_regular(header.data_path) as file:
        file.seek(header.offset)
        stream = Inflated(file, kind, header.stored_bytes)
        total = 0
        while total <= needed + _MAX_TAIL and (piece := stream.read(_PIECE)):
            total += len(piece)
            yield piece


def _summed(
    pieces: Iterator[bytes], header: ItkHeader, needed: int
) -> tuple[tuple[Sums, Sums], int]:
    """Return the sums of the first ``needed`` bytes in both byte orders, and the bytes held."""
    width = header.dtype.itemsize
    little = big = Sums(0, 0)
    rest, total = b"", 0
    for piece in pieces:
        data = rest + piece[: max(needed - total, 0)]
        whole = len(data) // width * width
        words = np.frombuffer(data[:whole], f"<u{width}")
        little, big = little + Sums.of(words), big + Sums.of(words.byteswap())
        rest, total = data[whole:], total + len(piece)
    return (little, big), total
