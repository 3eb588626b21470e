"""Hand JPEG files to Pillow: only the picture, and all of it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from esp_medsam.errors import CorruptFileError, TooLargeError
from esp_medsam.jpeg import MOST_SCANS, count_scans, is_whole


SIGNATURE = b"\xff\xd8"

_SEGMENT = re.compile(rb"\xff([\xc0-\xfe])")
_SCAN = 0xDA

_ASIDE = {0xFE, *range(0xE0, 0xF0)} - {0xE0, 0xEE}
"""Comments and application segments, except two that say which colors the numbers mean."""

_TURNED = (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0")
"""Beginnings of segments that may say how the picture is rotated."""

_USUAL_SCANS, _MOST_PASSED = 16, 2**28
"""Scans that any JPEG may have, and the most pixels that all scans of one with more may cover."""

_PIXELS_OF_A_BYTE = 8 * 64
"""Most pixels per byte: every block of 8 x 8 pixels takes at least one bit."""


def picture_alone(data: bytes, path: Path) -> bytes:
    """Return a JPEG without the parts that do not affect its pixels, such as profiles or comments.

    Raises:
        CorruptFileError: If its segments cannot be followed to a picture.
    """
    if not count_scans(data):
        raise _damage_error(path)
    parts, told, at = [SIGNATURE], set(), len(SIGNATURE)
    while (found := _SEGMENT.search(data, at)) is not None and found[1][0] != _SCAN:
        start, body = found.start(), found.end() + 2
        at = found.end() + int.from_bytes(data[found.end() : body], "big")
        turned = next((mark for mark in _TURNED if data.startswith(mark, body)), None)
        if found[1][0] not in _ASIDE or (turned is not None and turned not in told):
            parts.append(data[start:at])
            told.add(turned)
    return b"".join((*parts, data[at:]))


def check_whole(data: bytes, picture: PIL.Image.Image, path: Path) -> None:
    """Refuse a JPEG that lacks data, which Pillow fills with gray, or that takes long to decode.

    Args:
        data: The JPEG.
        picture: The same JPEG opened by Pillow; it is decoded here.
        path: The file that holds it, for messages.

    Raises:
        CorruptFileError: If the JPEG is cut short.
        TooLargeError: If it has more scans over its pixels than any encoder writes.
    """
    scans, pixels = count_scans(data), picture.width * picture.height
    if scans > MOST_SCANS or (scans > _USUAL_SCANS and scans * pixels > _MOST_PASSED):
        msg = (
            f"{path} must be a JPEG of a few scans; got {scans}. Save it again, not as progressive."
        )
        raise TooLargeError(msg)
    is_possible = scans and pixels <= _PIXELS_OF_A_BYTE * len(data)
    if not is_possible or not is_whole(data, np.asarray(picture), _decoded_pixels):
        raise _damage_error(path)


def check_part(data: bytes, most_pixels: int, path: Path) -> None:
    """Refuse a JPEG that is part of a picture, as :func:`check_whole` does, or for its size.

    Raises:
        CorruptFileError: If the JPEG is cut short, or has more than ``most_pixels``.
        TooLargeError: If it has more scans over its pixels than any encoder writes.
    """
    with PIL.Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        if picture.width * picture.height > most_pixels:
            raise _damage_error(path)
        check_whole(data, picture, path)


def _decoded_pixels(data: bytes) -> npt.NDArray[Any]:
    with PIL.Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        return np.asarray(picture)


def _damage_error(path: Path) -> CorruptFileError:
    return CorruptFileError(
        f"{path} must be a whole picture; a part of its JPEG data is missing. Copy it again."
    )
