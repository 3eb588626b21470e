"""Small pictures of results, from the previews that were written beside them."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import PIL.Image

from esp_medsam.io.atomic import MARK
from esp_medsam.io.report_files import THUMBNAIL
from esp_medsam.regular_file import open_regular


SIDES = (640, 480, 320, 240, 160, 96)
"""Longer sides that are tried, in pixels: the first whose picture is small enough is taken."""

PAGE_BYTES = 24_000_000
"""Size of all pictures within a page; it grows by a third, as pictures in pages are text."""

MOST_BYTES, LEAST_BYTES = 64_000, 4_000
"""Limits for the size of one picture."""

FILE_SIDE, FILE_BYTES = 240, 12_000
"""First side that is tried, and limit for the size, of a picture that is a file beside the page.

There the page shows the preview itself, which lies near by, of the case that is selected.
"""

_MOST_PIXELS = 2**24
_AT_ONCE = 64

T = TypeVar("T")


def bytes_each(count: int) -> int:
    """Return the limit for each of a number of pictures within a page."""
    return max(LEAST_BYTES, min(MOST_BYTES, PAGE_BYTES // max(count, 1)))


def thumbnail(path: Path, most_bytes: int, most_side: int = SIDES[0]) -> bytes | None:
    """Return a JPEG of at most a number of bytes; None if the preview cannot be read.

    Args:
        path: The preview.
        most_bytes: Limit for the size; the smallest side is taken even if it does not hold.
        most_side: Limit for the longer side, in pixels.
    """
    sides = [side for side in SIDES if side <= most_side]
    try:
        with open_regular(path) as file, PIL.Image.open(file, formats=("PNG", "JPEG")) as preview:
            if preview.width * preview.height > _MOST_PIXELS:
                return None
            preview.draft("RGB", (sides[0], sides[0]))  # a JPEG need not be decoded in full
            picture = preview.convert("RGB")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return None
    made = b""
    for side in sides:
        picture.thumbnail((side, side), reducing_gap=2.0)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=80, comment=MARK)
        made = file.getvalue()
        if len(made) <= most_bytes:
            break
    return made


def file_name(preview: Path) -> str:
    """Return the name of the picture of a preview, which is another one if the preview changes."""
    try:
        status = preview.stat()
        told = f"{preview.resolve()} {status.st_size} {status.st_mtime_ns}"
    except OSError:  # gone since
        told = str(preview)
    digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return f"{digest[:2]}/{digest}{THUMBNAIL}"


def made_at_once(make: Callable[[Path], T], previews: Sequence[Path]) -> Iterator[T]:
    """Yield what a function makes of each preview, several at once, a few of them ahead."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(previews), _AT_ONCE):
            yield from pool.map(make, previews[start : start + _AT_ONCE])
