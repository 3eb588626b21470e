"""Decompress strips and tiles of a TIFF only to check their length.

Pillow lets libtiff turn YCbCr into RGB, which continues after errors: damaged parts are left green.
For gray it stops at the first error. So the strips are first passed to it as rows of gray.
"""

from __future__ import annotations

import io
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import PIL.Image

from esp_medsam.errors import CorruptFileError, FormatError
from esp_medsam.io.tiff import TiffLayout


_LONG, _SHORT = 4, 3

_MOST_AT_ONCE = 2**26
"""Bytes that are decompressed at once; Pillow opens twice as many."""


def check_unpacked(file: BinaryIO, layout: TiffLayout, path: Path) -> None:
    """Refuse strips or tiles that Pillow would read although some of their pixels are missing.

    Args:
        file: The TIFF.
        layout: Where its parts lie; the picture must fit in memory.
        path: The file, for messages.

    Raises:
        CorruptFileError: If one does not decompress to the bytes that it must.
        FormatError: If one is too large for this check.
    """
    largest = max(layout.unpacked, default=0)
    if largest > _MOST_AT_ONCE:
        msg = (
            f"{path} must hold its YCbCr colors in strips of at most {_MOST_AT_ONCE:,} bytes; "
            f"got {largest:,}. Save it as PNG."
        )
        raise FormatError(msg)
    alike: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for piece, size in zip(layout.pieces, layout.unpacked, strict=False):
        alike[size].append(piece)
    for size, group in alike.items():
        count = max(_MOST_AT_ONCE // size, 1)
        for first in range(0, len(group), count):
            packed = list(_read(file, group[first : first + count]))
            _unpack(_rows(packed, size, layout.compression), path)


def _read(file: BinaryIO, pieces: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    for start, size in pieces:
        file.seek(start)
        yield file.read(size)


def _rows(packed: Sequence[bytes], size: int, compression: int) -> bytes:
    """Return a gray TIFF in which each row is a strip, one of ``packed``."""
    count, entries = len(packed), 9
    tables = 8 + 2 + 12 * entries + 4  # after header and directory
    starts = [tables + 8 * count]
    for piece in packed[:-1]:
        starts.append(starts[-1] + len(piece))
    lengths = [len(piece) for piece in packed]
    is_one = count == 1
    directory = (
        (256, _LONG, 1, size),
        (257, _LONG, 1, count),
        (258, _SHORT, 1, 8),
        (259, _SHORT, 1, compression),
        (262, _SHORT, 1, 1),
        (273, _LONG, count, starts[0] if is_one else tables),
        (277, _SHORT, 1, 1),
        (278, _LONG, 1, 1),
        (279, _LONG, count, lengths[0] if is_one else tables + 4 * count),
    )
    header = struct.pack("<4sIH", b"II*\0", 8, entries)
    block = b"".join(struct.pack("<HHII", *entry) for entry in directory)
    return b"".join(
        (header, block, bytes(4), struct.pack(f"<{2 * count}I", *starts, *lengths), *packed)
    )


def _unpack(data: bytes, path: Path) -> None:
    try:
        with PIL.Image.open(io.BytesIO(data), formats=["TIFF"]) as rows:
            rows.load()
    except OSError as error:
        msg = (
            f"{path} must be a whole picture; a strip or tile of it is damaged, or holds less than "
            "its pixels. Copy it again."
        )
        raise CorruptFileError(msg) from error
