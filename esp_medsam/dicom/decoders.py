"""Decoders of compressed pixels that are installed."""

from __future__ import annotations

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID


COMPRESSED = {
    "JPEG": "1.2.840.10008.1.2.4.51",
    "lossless JPEG": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.91",
    "RLE": "1.2.840.10008.1.2.5",
}
"""A transfer syntax of each compression that DICOM files often have."""


def missing_decoders() -> list[str]:
    """Return the names of the compressions that cannot be decoded."""
    return [name for name, uid in COMPRESSED.items() if not get_decoder(UID(uid)).is_available]
