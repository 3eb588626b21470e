"""TIFF files that are damaged where a test wants it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile


ROWS_PER_STRIP = 16
Change = Callable[[bytearray, tifffile.TiffPage], None]


def waves() -> npt.NDArray[np.uint8]:
    """Return ``(96, 64, 3)`` of small waves."""
    y, x = np.mgrid[:96, :64]
    colors = [128 + 100 * np.sin(x / k) * np.cos(y / 7) for k in (3, 5, 8)]
    return np.stack(colors, -1).astype(np.uint8)


def change(path: Path, edit: Change) -> Path:
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        edit(data, file.pages[0])
    path.write_bytes(data)
    return path


def put_value(data: bytearray, tag: tifffile.TiffTag, place: int, value: int) -> None:
    width = {3: "H", 4: "I"}[int(tag.dtype)]
    struct.pack_into(f"<{width}", data, tag.valueoffset + place * struct.calcsize(width), value)


def directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)
