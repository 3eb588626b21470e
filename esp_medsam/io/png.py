"""Check PNG files chunk by chunk before Pillow reads them.

Pillow silently fills missing parts of a PNG with zeros. It also takes memory for everything that is
stored beside the picture, and fails if a color profile exceeds its size limit.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from esp_medsam.errors import CorruptFileError, FormatError, TooLargeError


SIGNATURE = b"\x89PNG\r\n\x1a\n"

_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"})
"""Chunks that the pixels depend on; the others hold color profiles, texts and times."""

_TURNED = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Texts that are kept, because they may say how the picture is rotated."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers per pixel, by color type."""

_PALETTE = 3

_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
"""Adam7: first column and row of each pass, and the steps to the next column and row."""

_MOST_CHUNKS = 2**17
"""Encoders put 8 KiB into a chunk, so this many hold a gigabyte."""

_PIECE = 2**20


class PngHeader(NamedTuple):
    """What the first chunk of a PNG says.

    Attributes:
        width: Pixels in a row.
        height: Number of rows.
        packed: Bytes that the rows must decompress to.
        has_palette: Whether pixels are indices into a palette.
    """

    width: int
    height: int
    packed: int
    has_palette: bool


def read_header(file: BinaryIO, path: Path) -> PngHeader:
    """Return what the first chunk says.

    Args:
        file: The PNG, at the byte after its signature.
        path: The file, for messages.

    Raises:
        CorruptFileError: If the first chunk is not a header, or its values are invalid in PNG.
    """
    length, kind = _read_head(file, path)
    if (length, kind) != (13, b"IHDR"):
        raise _damage_error(path, "it does not begin with a header")
    block = next(_pieces(file, length, path))
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", block)
    if not (width and height and color in _SAMPLES and depth in (1, 2, 4, 8, 16)):
        raise _damage_error(path, "its header is invalid")
    bits = depth * _SAMPLES[color]
    passes = _PASSES if interlace else ((0, 0, 1, 1),)
    packed = sum(_packed_size(width, height, bits, *steps) for steps in passes)
    return PngHeader(width, height, packed, has_palette=color == _PALETTE)


def _packed_size(width: int, height: int, bits: int, x: int, y: int, right: int, down: int) -> int:
    """Return how many bytes the rows of one pass have, each with one byte for its filter."""
    columns, rows = -(-(width - x) // right), -(-(height - y) // down)
    return rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0


def picture_alone(file: BinaryIO, header: PngHeader, path: Path) -> io.BytesIO:
    """Return the PNG without the parts that do not affect its pixels, and check that it is whole.

    Args:
        file: The PNG, at the byte after its signature.
        header: What its first chunk says.
        path: The file, for messages.

    Raises:
        CorruptFileError: If rows or chunks are missing, cut short or damaged.
        FormatError: If it holds further pictures, as an animation does.
        TooLargeError: If it has more chunks than any picture needs.
    """
    alone = io.BytesIO()
    alone.write(SIGNATURE)
    rows = _Rows(header.packed, path)
    seen: set[bytes] = set()
    for _ in range(_MOST_CHUNKS):
        length, kind = _read_head(file, path)
        if kind == b"fdAT":
            raise several_pictures(path)
        if kind == b"IHDR" and seen:
            raise _damage_error(path, "it has two headers")
        seen.add(kind)
        checksum = zlib.crc32(kind)
        is_kept = kind in _KEPT
        for place, piece in enumerate(_pieces(file, length, path)):
            checksum = zlib.crc32(piece, checksum)
            is_kept |= not place and piece.startswith(_TURNED)
            if is_kept:
                alone.write(piece if place else struct.pack(">I", length) + kind + piece)
            if kind == b"IDAT":
                rows.add(piece)
        ending = _read(file, 4, path)
        if int.from_bytes(ending, "big") != checksum:
            raise _damage_error(path, "a checksum is wrong")
        if is_kept:
            alone.write(ending)
        if kind == b"IEND":
            break
    else:
        msg = f"{path} must have at most {_MOST_CHUNKS:,} chunks. Save it again."
        raise TooLargeError(msg)
    rows.finish()
    if header.has_palette and b"PLTE" not in seen:
        raise _damage_error(path, "it lacks its palette")
    alone.seek(0)
    return alone


class _Rows:
    """Counter of the decompressed rows of a picture, which are not kept."""

    def __init__(self, packed: int, path: Path) -> None:
        self._missing = packed
        self._path = path
        self._unpacker = zlib.decompressobj()

    def add(self, data: bytes) -> None:
        """Decompress the next data, but not beyond the last row."""
        try:
            while data and self._missing > 0 and not self._unpacker.eof:
                self._missing -= len(self._unpacker.decompress(data, _PIECE))
                data = self._unpacker.unconsumed_tail
        except zlib.error as error:
            raise _damage_error(self._path, "its rows do not unpack") from error

    def finish(self) -> None:
        """Refuse rows that end early."""
        if self._missing > 0:
            raise _damage_error(self._path, f"its last {self._missing:,} bytes are missing")


def _read_head(file: BinaryIO, path: Path) -> tuple[int, bytes]:
    """Return length and kind of the next chunk."""
    head = _read(file, 8, path)
    return int.from_bytes(head[:4], "big"), head[4:]


def _pieces(file: BinaryIO, length: int, path: Path) -> Iterator[bytes]:
    """Yield the data of a chunk in pieces; an empty chunk yields one empty piece."""
    yield _read(file, min(length, _PIECE), path)
    for start in range(_PIECE, length, _PIECE):
        yield _read(file, min(length - start, _PIECE), path)


def _read(file: BinaryIO, size: int, path: Path) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise _damage_error(path, "it is cut short")
    return data


def several_pictures(path: Path) -> FormatError:
    """Return the error for a file that holds more than one picture."""
    msg = f"{path} must hold one picture; it has several. Save the one you mean on its own."
    return FormatError(msg)


def _damage_error(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(f"{path} must be a whole picture; {reason}. Copy it again.")
