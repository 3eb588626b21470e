"""Check that a compressed frame holds its whole picture, if its decoder would not tell.

Decoders refuse truncated JPEG-LS, truncated RLE, and a truncated JPEG 2000 tile. But they silently
fill the rest of a truncated JPEG with gray, and leave missing JPEG 2000 tiles blank.
"""

from __future__ import annotations

import io
import struct
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.uid import UID, RLELossless

from esp_medsam.dicom.codecs import codestream_of, has_sound_header, is_jpeg
from esp_medsam.jpeg import MOST_SCANS, count_scans, is_whole


_TILE_PART = 0xFF90

_MOST_PARTS = 100_000
"""Most JPEG 2000 marker segments and tile-parts to visit, so that the walk ends."""

_RLE_HEADER = 64


def wrong_before(data: bytes, syntax: UID) -> str:
    """Return what is wrong with a frame before decoding; empty if it can be decoded.

    Args:
        data: The frame, compressed.
        syntax: Its transfer syntax.
    """
    if syntax == RLELossless:
        return "" if _has_rle_segments(data) else "has segments elsewhere than it says"
    if data.startswith(b"\xff\xd8") and not has_sound_header(data):
        return "has a damaged header"
    if is_jpeg(data):
        scans = count_scans(data)
        return f"has {scans} scans, more than {MOST_SCANS}" if scans > MOST_SCANS else ""
    return "" if _has_all_tiles(codestream_of(data)) else "lacks tiles"


def wrong_after(data: bytes, frame: npt.NDArray[Any]) -> str:
    """Return what is wrong with a frame after decoding; empty if it is whole.

    Args:
        data: The frame, compressed.
        frame: The decoded frame.
    """
    if not is_jpeg(data):
        return ""
    try:
        picture = _by_pillow(data)
    except MemoryError:
        raise
    except Exception:  # 12-bit or lossless JPEG: codes are counted
        whole = is_whole(data, frame, None)
    else:
        whole = is_whole(data, picture, _by_pillow)
    return "" if whole else "is cut short"


def _by_pillow(data: bytes) -> npt.NDArray[Any]:
    """Decode a JPEG silently; GDCM reports each byte that it skips on stderr."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return np.asarray(image)


def _has_all_tiles(data: bytes) -> bool:
    """Whether a JPEG 2000 codestream has all of its tiles; True if it cannot be parsed.

    Reference:
        ISO/IEC 15444-1 A.4.2 and A.5.1.
    """
    seen: Counter[int] = Counter()
    stated: Counter[int] = Counter()
    try:
        right, bottom = struct.unpack_from(">LL", data, 8)
        width, height, left, top = struct.unpack_from(">LLLL", data, 24)
        count = -(-(right - left) // width) * -(-(bottom - top) // height)
        at = 2
        for _ in range(_MOST_PARTS):
            marker, length = struct.unpack_from(">HH", data, at)
            if marker == _TILE_PART:
                tile, size, _, parts = struct.unpack_from(">HLBB", data, at + 4)
                seen[tile] += 1
                stated[tile] |= parts
                at += size or len(data)  # the last tile-part may omit it
            elif seen:
                break
            else:
                at += 2 + length
    except (struct.error, ZeroDivisionError):
        if not seen:
            return True
    return len(seen) >= count and all(seen[tile] >= stated[tile] for tile in seen)


def _has_rle_segments(data: bytes) -> bool:
    """Whether RLE segments follow their offset table, one after another.

    Reference:
        DICOM PS3.5 G.3 and G.5.
    """
    if len(data) < _RLE_HEADER:
        return False
    count, *offsets = struct.unpack_from("<16L", data)
    places = [*offsets[:count], len(data)]
    return places[0] == _RLE_HEADER and all(a < b for a, b in pairwise(places))
