"""Limits on what an untrusted file may claim, checked before any of its pixels are read."""

from __future__ import annotations

from esp_medsam.dicom.bounded_file import BoundedFile
from esp_medsam.dicom.dicom_file import PIXEL_TAGS, DicomFile
from esp_medsam.dicom.elements import Elements, standard_name
from esp_medsam.dicom.fragments import Fragment, find_fragments, frames_of
from esp_medsam.dicom.skim import UNDEFINED
from esp_medsam.errors import CorruptFileError, EspMedSamError, FormatError, TooLargeError


MOST_FRAMES = 2**16
"""Most frames of a file that are read: each takes time, however small it is."""

_BEYOND = 2**26
"""Bytes that a deflated file may have after its pixels, such as padding and signatures."""


def frames_claimed(elements: Elements) -> int:
    """Return how many frames a header claims: 1 if the number is missing or 0, as in pydicom.

    Raises:
        FormatError: If the claim is not a valid number.
    """
    return elements.integer("NumberOfFrames") or 1


def check_pixels(elements: Elements, file: DicomFile, frames: int) -> None:
    """Check, without reading pixels, that a file holds the pixels that its header claims.

    Args:
        elements: Header of the file.
        file: The file, skimmed up to its pixels.
        frames: Number of images that the header claims.

    Raises:
        CorruptFileError: If pixels are missing.
        TooLargeError: If there are too many frames, or the file inflates to more than it claims.
        FormatError: If the pixels are video or floating-point numbers, or are not described.
    """
    if check_described(elements, file, frames) is not None:
        return
    needed = native_size(elements, frames)
    file.file.seek(file.pixels.start)
    held = file.file.left(needed + _BEYOND)
    if not isinstance(file.file, BoundedFile) and held >= needed + _BEYOND:
        msg = (
            f"{file.path} must inflate to the {needed} bytes of pixels that its header claims; "
            "it inflates to far more. Copy it again."
        )
        raise TooLargeError(msg)
    check_held(elements, file, frames, held)


def check_described(
    elements: Elements, file: DicomFile, frames: int
) -> list[tuple[Fragment, ...]] | None:
    """Check that pixels are described, and return where the compressed frames lie.

    Returns:
        The fragments of each frame; None if pixels are not compressed.

    Raises:
        CorruptFileError: If pixels are missing, or compressed pixels are incomplete.
        TooLargeError: If there are too many frames.
        FormatError: If the pixels are video or floating-point numbers, or are not described.
    """
    path, pixels = file.path, file.pixels
    if not pixels.tag:
        msg = f"{path} must hold pixels; it has none, and may be cut short. Copy it again."
        raise CorruptFileError(msg)
    if pixels.tag != PIXEL_TAGS[0]:
        msg = f"{path} must hold whole numbers as pixels; it holds floating-point ones."
        raise FormatError(msg)
    if frames > MOST_FRAMES:
        msg = f"{path} must hold at most {MOST_FRAMES} frames; its header claims {frames}."
        raise TooLargeError(msg)
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        if elements.integer(keyword, least=1) is None:
            raise elements.missing(keyword)
    if pixels.length != UNDEFINED:
        return None
    _check_video(file.syntax, path)
    if not isinstance(file.file, BoundedFile):
        msg = f"{path} must hold pixels in one piece where it is deflated; it holds several."
        raise CorruptFileError(msg)
    return frames_of(file.file, find_fragments(file.file, pixels.start, path), frames, path)


def check_held(elements: Elements, file: DicomFile, frames: int, held: int) -> None:
    """Refuse uncompressed pixels that are fewer than the header claims.

    Args:
        elements: Header of the file.
        file: The file.
        frames: Number of images that the header claims.
        held: Bytes of pixels that the file holds.

    Raises:
        CorruptFileError: If there are fewer bytes than claimed.
    """
    needed, length = native_size(elements, frames), file.pixels.length
    if held >= length:
        check_subsampled(elements, file, frames)
    if length > held or needed > length:
        stated = elements.text("PhotometricInterpretation")
        is_422 = length == needed * 2 // 3 and stated in ("RGB", "YBR_FULL")
        likely = f": it has the length of YBR_FULL_422, not of {stated}" if is_422 else ""
        msg = (
            f"{file.path} must hold {max(needed, length)} bytes of pixels; got "
            f"{min(length, held)}. It is cut short or its header is wrong{likely}; copy it again."
        )
        raise CorruptFileError(msg)


def check_subsampled(elements: Elements, file: DicomFile, frames: int) -> None:
    """Refuse pixels of full length although the header says that pairs of pixels share colors.

    Raises:
        CorruptFileError: If the data are as long as if each pixel had its own colors.
    """
    stated, length = elements.text("PhotometricInterpretation"), file.pixels.length
    if stated == "YBR_FULL_422" and length >= (_bits(elements, frames) + 7) // 8 > 0:
        msg = (
            f"{file.path} must hold {native_size(elements, frames)} bytes of pixels by its "
            f"Photometric Interpretation (0028,0004), {stated}; its {length} bytes are RGB or "
            "YBR_FULL. Correct the attribute, for example with dcmodify."
        )
        raise CorruptFileError(msg)


def check_values(elements: Elements, *, is_compressed: bool) -> None:
    """Refuse a description of pixels from which nothing can be decoded.

    Args:
        elements: The header.
        is_compressed: Whether a codestream determines how colors are arranged.

    Raises:
        CorruptFileError: If the description is incomplete or contradicts itself.
    """
    allocated = _stated_number(elements, "BitsAllocated")
    if allocated != 1 and (allocated % 8 or not 8 <= allocated <= 64):
        raise _wrong(elements, "BitsAllocated", "be 1, or a multiple of 8 up to 64", allocated)
    stored = _stated_number(elements, "BitsStored")
    if not 1 <= stored <= allocated:
        raise _wrong(elements, "BitsStored", f"be 1 to BitsAllocated, {allocated}", stored)
    samples = _stated_number(elements, "SamplesPerPixel")
    if samples not in (1, 3):
        raise _wrong(elements, "SamplesPerPixel", "be 1 or 3", samples)
    is_planar = samples == 3 and not is_compressed
    for keyword in ("PixelRepresentation", *(["PlanarConfiguration"] if is_planar else [])):
        if _stated_number(elements, keyword) not in (0, 1):
            raise _wrong(elements, keyword, "be 0 or 1", _stated_number(elements, keyword))
    if elements.code("PhotometricInterpretation") is None:
        error = elements.missing("PhotometricInterpretation", CorruptFileError)
        raise error


def _stated_number(elements: Elements, keyword: str) -> int:
    value = elements.integer(keyword)
    if value is None:
        raise elements.missing(keyword, CorruptFileError)
    return value


def _wrong(elements: Elements, keyword: str, rule: str, got: int) -> EspMedSamError:
    return elements.error(keyword, rule, str(got), CorruptFileError)


def native_size(elements: Elements, frames: int) -> int:
    """Return how many bytes the pixels take uncompressed."""
    is_422 = elements.text("PhotometricInterpretation") == "YBR_FULL_422"
    bits = _bits(elements, frames)
    return ((bits * 2 // 3 if is_422 else bits) + 7) // 8


def _bits(elements: Elements, frames: int) -> int:
    rows, columns = elements.integer("Rows") or 0, elements.integer("Columns") or 0
    samples = elements.integer("SamplesPerPixel", least=1) or 1
    return rows * columns * frames * samples * (elements.integer("BitsAllocated") or 0)


def _check_video(syntax: str, path: str) -> None:
    name = standard_name(syntax)
    if "MPEG" in name or "H.264" in name or "HEVC" in name:
        msg = f"{path} must hold images; it holds video ({name}), which is not read."
        raise FormatError(msg)
