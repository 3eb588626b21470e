"""Parts of picture files, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import PIL.Image


def jpeg_segment(marker: int, content: bytes) -> bytes:
    """Return a segment of a JPEG with its marker and length."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG with its length and checksum."""
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def encode(picture: PIL.Image.Image, form: str, **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()
