"""Check the first directory of TIFF files before Pillow reads them.

Pillow leaves missing strips black, and spends minutes on long lists of strips.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from esp_medsam.errors import CorruptFileError, FormatError, TooLargeError


SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_STRIP_STARTS, _STRIP_ROWS, _STRIP_SIZES = 273, 278, 279
_TILE_COLUMNS, _TILE_ROWS, _TILE_STARTS, _TILE_SIZES = 322, 323, 324, 325
_PLANAR, _JPEG_TABLES, _SUBSAMPLING = 284, 347, 530

_RAW, _JPEG = 1, 7
_IN_PLANES = 2

_YCBCR = 6
"""Brightness and two colors; four pixels share the colors unless the file says otherwise."""

_EXPANSION = {_RAW: 1, 5: 2**12, _JPEG: 2**12, 8: 2**11, 32946: 2**11, 32773: 2**7, 50000: 2**15}
"""Supported compressions (none, LZW, JPEG, deflate under two numbers, PackBits, Zstandard), and the
most bytes that one byte can become: a file that claims more cannot be whole.

Among the unsupported ones, fax codes are decoded to white after they are cut off.
"""

_MOST_PIECES = 2**16
"""Maximum strips or tiles: more than the rows, or 64 x 64 tiles, of the largest picture."""

_MOST_TILE = 2**24
"""Maximum pixels of a tile, which is held whole, however little of it lies in the picture."""

_TYPES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
"""TIFF types of whole numbers and bytes."""


class TiffLayout(NamedTuple):
    """Where the parts of a picture lie in its file.

    Attributes:
        width: Pixels in a row.
        height: Number of rows.
        pieces: First byte and length of each strip or tile.
        most_pixels: Most pixels that a strip or tile has.
        jpeg_tables: Tables shared by JPEG strips, empty if there are none; None if the picture is
            compressed otherwise.
        compression: TIFF number of the compression.
        unpacked: Bytes that each strip or tile must decompress to, if Pillow would not report
            missing ones; empty if it would.
    """

    width: int
    height: int
    pieces: list[tuple[int, int]]
    most_pixels: int
    jpeg_tables: bytes | None
    compression: int
    unpacked: list[int]


def read_layout(file: BinaryIO, path: Path) -> TiffLayout:
    """Return where the first picture of a TIFF lies, after checking that all its parts are present.

    Args:
        file: The TIFF.
        path: The file, for messages.

    Raises:
        CorruptFileError: If a strip or tile is missing, or too short for its pixels.
        FormatError: If its compression is not supported.
        TooLargeError: If it has more strips or tiles than any picture needs.
    """
    directory = _Directory(file, path)
    compression = directory.number(_COMPRESSION, _RAW)
    _check_kind(directory, compression, path)
    is_tiled = _TILE_STARTS in directory
    if is_tiled == (_STRIP_STARTS in directory) or is_tiled != (_TILE_COLUMNS in directory):
        raise _damage_error(path, "it has both strips and tiles, or neither")
    needed = _unpacked_sizes(directory, path)
    starts = directory.values(_TILE_STARTS if is_tiled else _STRIP_STARTS)
    sizes = directory.values(_TILE_SIZES if is_tiled else _STRIP_SIZES)
    if compression == _RAW and not sizes and not _is_ycbcr(directory):  # old writers omit them
        sizes = tuple(needed)
    on_disk = file.seek(0, os.SEEK_END)
    pieces = list(zip(starts, sizes, strict=False))
    is_whole = len(starts) == len(sizes) == len(needed) and sum(sizes) <= on_disk
    for (start, size), least in zip(pieces, needed, strict=False):
        is_whole &= 0 < start <= on_disk - size and size * _EXPANSION[compression] >= least
    if not is_whole:
        raise _damage_error(path, "its strips or tiles are not all there")
    is_lax = _is_ycbcr(directory) and compression not in (_RAW, _JPEG)
    width, height = directory.number(_WIDTH), directory.number(_HEIGHT)
    columns, rows = _piece_shape(directory)
    tables = bytes(directory.values(_JPEG_TABLES)) if compression == _JPEG else None
    unpacked = needed if is_lax else []
    return TiffLayout(width, height, pieces, columns * rows, tables, compression, unpacked)


def jpegs(file: BinaryIO, layout: TiffLayout) -> Iterator[bytes]:
    """Yield each JPEG strip or tile together with the shared tables, as a JPEG of its own."""
    if layout.jpeg_tables is None:
        return
    for start, size in layout.pieces:
        file.seek(start)
        yield layout.jpeg_tables[:-2] + file.read(size)[2 if layout.jpeg_tables else 0 :]


def _check_kind(directory: _Directory, compression: int, path: Path) -> None:
    """Refuse files that Pillow cannot read, or would read even if parts are missing."""
    reason = ""
    if compression not in _EXPANSION:
        reason = (
            "without compression, or with LZW, deflate, PackBits, JPEG or Zstandard; "
            f"got compression {compression}"
        )
    elif _is_ycbcr(directory):
        if compression == _RAW and directory.values(_SUBSAMPLING)[:2] not in ((), (1, 1)):
            reason = "in full where it is YCbCr without compression; got colors that pixels share"
        if compression == _JPEG and directory.number(_PLANAR, 1) == _IN_PLANES:
            reason = "of one plane where it is YCbCr and JPEG; got several"
    if reason:
        msg = f"{path} must be a TIFF {reason}. Save it as PNG."
        raise FormatError(msg)


def _is_ycbcr(directory: _Directory) -> bool:
    return directory.number(_PHOTOMETRIC) == _YCBCR and directory.number(_SAMPLES, 1) == 3


def _shared_subsampling(directory: _Directory, path: Path) -> tuple[int, int]:
    """Return how many pixels share a color, across and down; ``(1, 1)`` if none do."""
    is_packed = directory.number(_COMPRESSION, _RAW) not in (_RAW, _JPEG)
    if not (_is_ycbcr(directory) and is_packed) or directory.number(_PLANAR, 1) == _IN_PLANES:
        return 1, 1
    across, down, *_ = (*(directory.values(_SUBSAMPLING) or (2, 2)), 0, 0)
    if not {across, down} <= {1, 2, 4}:
        raise _damage_error(path, "its header is invalid")
    return across, down


def _piece_shape(directory: _Directory) -> tuple[int, int]:
    """Return the columns and rows of a tile, or of any strip except the last."""
    if _TILE_STARTS in directory:
        return directory.number(_TILE_COLUMNS), directory.number(_TILE_ROWS)
    height = directory.number(_HEIGHT)
    return directory.number(_WIDTH), min(directory.number(_STRIP_ROWS, height), height)


def _unpacked_sizes(directory: _Directory, path: Path) -> list[int]:
    """Return how many bytes each strip or tile must decompress to, plane by plane."""
    width, height = directory.number(_WIDTH), directory.number(_HEIGHT)
    columns, rows = _piece_shape(directory)
    samples = directory.number(_SAMPLES, 1)
    if not (width and height and columns and rows and 0 < samples < 2**8):
        raise _damage_error(path, "its header is invalid")
    bits = directory.values(_BITS) or (1,)
    bits = bits * samples if len(bits) == 1 else bits[:samples]
    planes = bits if directory.number(_PLANAR, 1) == _IN_PLANES else (sum(bits),)
    is_tiled = _TILE_STARTS in directory
    across, down = -(-width // columns), -(-height // rows)
    if across * down * len(planes) > _MOST_PIECES or (is_tiled and columns * rows > _MOST_TILE):
        msg = (
            f"{path} must have at most {_MOST_PIECES:,} strips or tiles, of {_MOST_TILE:,} pixels; "
            f"got {across:,} x {down:,} of {columns:,} x {rows:,}. Save it as PNG."
        )
        raise TooLargeError(msg)
    heights = [rows] * (across * down)
    if not is_tiled:
        heights[-1] = height - rows * (down - 1)  # the last strip ends with the picture
    right, below = _shared_subsampling(directory, path)
    if (right, below) == (1, 1):
        return [-(-columns * depth // 8) * count for depth in planes for count in heights]
    group = right * below + 2  # bytes: one brightness per pixel, and the two colors
    return [-(-columns // right) * -(-count // below) * group for count in heights]


class _Directory:
    """The first directory of a TIFF or BigTIFF; values are read on demand."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        signature = self._read(0, 4)
        self._order = "<" if signature.startswith(b"I") else ">"
        is_big = b"+" in signature
        self._offset = "Q" if is_big else "I"
        (start,) = self._unpacked_values(self._offset, 8 if is_big else 4, 1)
        (count,) = self._unpacked_values("Q" if is_big else "H", start, 1)
        width = struct.calcsize(self._offset)
        entry, start = 4 + 2 * width, start + (8 if is_big else 2)
        if count > 2**16:
            raise _damage_error(path, "its directory is too long")
        block = self._read(start, count * entry)
        self._entries = {}
        for place in range(0, len(block), entry):
            tag, kind, number = struct.unpack_from(f"{self._order}HH{self._offset}", block, place)
            self._entries[tag] = (kind, number, start + place + 4 + width)
        if len(self._entries) < count:
            raise _damage_error(path, "its directory has a tag twice")

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        return next(iter(self.values(tag)), default)

    def values(self, tag: int) -> tuple[int, ...]:
        """Return the values of a tag, which must be whole numbers; empty if it is missing."""
        if tag not in self._entries:
            return ()
        kind, count, place = self._entries[tag]
        if kind not in _TYPES or count > _MOST_PIECES:
            raise _damage_error(self._path, f"its tag {tag} has an invalid value")
        if count * struct.calcsize(_TYPES[kind]) > struct.calcsize(self._offset):
            (place,) = self._unpacked_values(self._offset, place, 1)
        return self._unpacked_values(_TYPES[kind], place, count)

    def _unpacked_values(self, kind: str, place: int, count: int) -> tuple[int, ...]:
        order = f"{self._order}{count}{kind}"
        return struct.unpack(order, self._read(place, struct.calcsize(order)))

    def _read(self, place: int, size: int) -> bytes:
        try:
            self._file.seek(place)
        except (OSError, OverflowError) as error:
            raise _damage_error(self._path, "it points beyond its end") from error
        data = self._file.read(size)
        if len(data) < size:
            raise _damage_error(self._path, "it is cut short")
        return data


def _damage_error(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(f"{path} must be a whole picture; {reason}. Copy it again.")
