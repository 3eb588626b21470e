"""Read stored pixel data from the place that the header states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from esp_medsam.dicom.bounded_file import BoundedFile
from esp_medsam.dicom.dicom_file import DicomFile
from esp_medsam.dicom.elements import Elements
from esp_medsam.dicom.fragments import Fragment
from esp_medsam.dicom.limits import check_held, check_subsampled, native_size
from esp_medsam.dicom.packed_bits import BitLayout, bit_layout
from esp_medsam.errors import CorruptFileError, FormatError
from esp_medsam.memory import check_fits


def native_pixels(
    elements: Elements, file: DicomFile, count: int
) -> tuple[bytes, BitLayout | None]:
    """Read uncompressed pixels from the place that the header states.

    Returns:
        The pixels, and the bit layout if they are 1-bit and frames begin inside a byte.
    """
    _check_layout(elements)
    length, whole = file.pixels.length, native_size(elements, count)
    found = count * length // max(whole, 1)
    is_longer = found > count and length > whole + whole % 2  # the byte that pads to an even length
    shape = _shape_in_bits(elements)
    file.file.seek(file.pixels.start)
    if isinstance(file.file, BoundedFile) and length <= file.file.left():
        check_subsampled(elements, file, count)
    if is_longer and shape is None:
        raise _too_long(file, count, found)
    check_fits(Path(file.path), length, "the file")
    content = file.file.read(length)
    check_held(elements, file, count, len(content))
    bits = None if shape is None else bit_layout(content, *shape, count)
    if is_longer and not (bits is not None and bits.is_padded):
        raise _too_long(file, count, found)
    return content, bits


def _too_long(file: DicomFile, count: int, found: int) -> CorruptFileError:
    msg = (
        f"{file.path} must hold {count} frames of pixels as its header says; its Pixel Data is "
        f"long enough for {found}. Its Number of Frames, Bits Allocated or size may be wrong."
    )
    return CorruptFileError(msg)


def _shape_in_bits(elements: Elements) -> tuple[int, int] | None:
    """Return rows and columns of 1-bit frames that end inside a byte; otherwise None."""
    if elements.integer("BitsAllocated") != 1 or elements.integer("SamplesPerPixel") != 1:
        return None
    rows, columns = elements.integer("Rows") or 0, elements.integer("Columns") or 0
    return (rows, columns) if rows * columns % 8 else None


def _check_layout(elements: Elements) -> None:
    """Refuse values whose bits lie elsewhere than pydicom reads them."""
    allocated, stored = elements.integer("BitsAllocated"), elements.integer("BitsStored")
    high = elements.integer("HighBit")
    if stored and allocated and stored < allocated and high not in (None, stored - 1):
        msg = (
            f"{elements.path} must have a High Bit of Bits Stored - 1, {stored - 1}; got {high}. "
            "Convert it, as with gdcmconv --raw."
        )
        raise FormatError(msg)


def compressed_frames(file: DicomFile, frames: Sequence[Sequence[Fragment]]) -> list[bytes]:
    """Read compressed frames, each in one piece."""
    check_fits(Path(file.path), sum(p.length for pieces in frames for p in pieces), "the file")
    found = []
    for pieces in frames:
        parts = []
        for piece in pieces:
            file.file.seek(piece.start)
            parts.append(file.file.read(piece.length))
        found.append(b"".join(parts))
    return found


def syntax_of(file: DicomFile) -> UID:
    """Return the transfer syntax, derived from the encoding if the file states none."""
    if file.syntax:
        return UID(file.syntax)
    if file.encoding.implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if file.encoding.little else ExplicitVRBigEndian
