"""Requirements for decoding compressed pixel data, and what the data claim before decoding."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from esp_medsam.errors import FormatError


PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        JPEGBaseline8Bit: "python-gdcm",
        # The only other 12-bit decoder is under the GPL; the user has to install it.
        JPEGExtended12Bit: "pylibjpeg and pylibjpeg-libjpeg",
        JPEGLossless: "python-gdcm",
        JPEGLosslessSV1: "python-gdcm",
        JPEGLSLossless: "pyjpegls",
        JPEGLSNearLossless: "pyjpegls",
        JPEG2000Lossless: "pylibjpeg and pylibjpeg-openjpeg",
        JPEG2000: "pylibjpeg and pylibjpeg-openjpeg",
        HTJ2KLossless: "pylibjpeg and pylibjpeg-openjpeg",
        HTJ2KLosslessRPCL: "pylibjpeg and pylibjpeg-openjpeg",
        HTJ2K: "pylibjpeg and pylibjpeg-openjpeg",
    }
)
"""Packages from PyPI that decode a transfer syntax."""

_SAFEST: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        JPEGBaseline8Bit: ("pillow",),
        JPEGExtended12Bit: ("pylibjpeg", "pillow"),
        JPEGLSLossless: ("pyjpegls",),
        JPEGLSNearLossless: ("pyjpegls",),
        JPEG2000Lossless: ("pylibjpeg",),
        JPEG2000: ("pylibjpeg",),
    }
)
"""Plugins of pydicom to try before GDCM."""

_NAMES: Mapping[str, str] = MappingProxyType(
    {"1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression"}
)
"""Transfer syntaxes that pydicom 3.0 has no name for."""

_JPEG_START, _JPEG_LS = b"\xff\xd8", 0xF7

_SCAN, _FIRST_SEGMENT = 0xDA, 0xC0
_WITHOUT_SEGMENT = frozenset(range(0xD0, 0xDA))
"""Restart markers, and the markers at the beginning and end."""

_PRECISIONS: Mapping[int, Sequence[int]] = MappingProxyType(
    {
        0xC0: (8,),
        **dict.fromkeys((0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA, 0xCD, 0xCE), (8, 12)),
        **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF, _JPEG_LS), range(2, 17)),
    }
)
"""Bits per sample that each coding process allows, by the marker of its frame header."""

_MOST_SEGMENTS = 65_536
"""Most segments followed in a JPEG before its frame header, so that the walk ends."""

_J2K_START = b"\xff\x4f\xff\x51"
"""Start of codestream, then the size marker, which must come next (ISO/IEC 15444-1 A.5.1)."""

_JP2_START = b"\x00\x00\x00\x0cjP  "
_JP2_HEADER = 4096
"""Number of leading bytes within which the codestream of a JP2 file must begin."""


def decoder_of(syntax: UID, source: str) -> Decoder:
    """Return pydicom's decoder for a transfer syntax.

    Args:
        syntax: Transfer Syntax UID.
        source: The file, for messages.

    Raises:
        FormatError: If pydicom has no decoder, or a package that the decoder needs is missing.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        msg = (
            f"{source} must be in a supported transfer syntax; got {name_of(syntax)}. Convert "
            "it to Explicit VR Little Endian with software that reads it."
        )
        raise FormatError(msg) from None
    if not decoder.is_available:
        raise FormatError(missing_codec(syntax, source))
    return decoder


def safest_plugin(decoder: Decoder) -> str:
    """Return the pydicom plugin to decode with; empty if pydicom may choose.

    GDCM ends the process, and so the whole run, on some damaged JPEG and JPEG 2000 data.
    """
    available = decoder.available_plugins
    return next((name for name in _SAFEST.get(decoder.UID, ()) if name in available), "")


def missing_codec(syntax: UID, source: str) -> str:
    """Return the message for a file whose decoder is not installed."""
    package = PACKAGES.get(syntax, "a package")
    return (
        f"{source} must be decoded from {name_of(syntax)}, which needs {package}. "
        f"Run: pip install {package.replace(' and ', ' ')}."
    )


def name_of(syntax: UID) -> str:
    """Return the name of a transfer syntax with its UID, or only the UID if it has no name."""
    name = _NAMES.get(syntax, syntax.name)
    return str(syntax) if name == str(syntax) else f"{name} ({syntax})"


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Return the rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream claims.

    A decoder allocates what the codestream says, not what the file's header says.

    Args:
        data: One frame, compressed.

    Returns:
        ``(rows, columns)``; None if ``data`` is not such a codestream.

    Reference:
        ISO/IEC 10918-1 B.2.2 (JPEG; JPEG-LS has the same frame header), ISO/IEC 15444-1 A.5.1.
    """
    if data.startswith(_JPEG_START):
        frame = _jpeg_frame(data)
        return frame and frame[1:3]
    return _j2k_size(codestream_of(data))


def components_of(data: bytes) -> int | None:
    """Return the number of components a JPEG, JPEG-LS or JPEG 2000 codestream claims, or None."""
    if data.startswith(_JPEG_START):
        frame = _jpeg_frame(data)
        return frame and frame[3]
    codestream = codestream_of(data)
    return int.from_bytes(codestream[40:42], "big") if len(codestream) >= 42 else None


def codestream_of(data: bytes) -> bytes:
    """Return a JPEG 2000 codestream without any JP2 file around it; empty for other data."""
    start = data.find(_J2K_START, 0, _JP2_HEADER) if data.startswith(_JP2_START) else 0
    return data[start:] if start >= 0 and data.startswith(_J2K_START, start) else b""


def is_jpeg(data: bytes) -> bool:
    """Whether a frame is JPEG rather than JPEG-LS or JPEG 2000."""
    frame = _jpeg_frame(data) if data.startswith(_JPEG_START) else None
    return frame is not None and frame[0] != _JPEG_LS


def has_sound_header(data: bytes) -> bool:
    """Whether the header of a JPEG or JPEG-LS is valid up to its first scan.

    In a valid header, segments follow each other, and exactly one is a frame header whose precision
    its coding process allows. On some invalid headers, GDCM ends the process, and so the run.

    Reference:
        ISO/IEC 10918-1 B.1.1.2, B.2.1 and Table B.2; ISO/IEC 14495-1 C.2.2.
    """
    at, frames = len(_JPEG_START), 0
    for _ in range(_MOST_SEGMENTS):
        if at + 5 > len(data) or data[at] != 0xFF:
            return False
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _SCAN:
            return frames == 1 and length == 6 + 2 * data[at + 4]
        if marker < _FIRST_SEGMENT or marker in _WITHOUT_SEGMENT:
            return False
        if marker in _PRECISIONS:
            frames += 1
            is_frame = length >= 8 and at + 9 < len(data) and length == 8 + 3 * data[at + 9]
            if not is_frame or data[at + 4] not in _PRECISIONS[marker]:
                return False
        at += 2 + length
    return False


def _j2k_size(data: bytes) -> tuple[int, int] | None:
    """Read the image's extent and offset, 32 bits each, which follow four 16-bit fields."""
    if len(data) < 24:
        return None
    right, bottom, left, top = (int.from_bytes(data[i : i + 4], "big") for i in (8, 12, 16, 20))
    return bottom - top, right - left


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment of a JPEG or JPEG-LS, up to its frame header.

    It stops earlier if the segments cannot be followed that far.
    """
    at = len(_JPEG_START)
    for _ in range(_MOST_SEGMENTS):
        if at + 10 > len(data) or data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        if is_jpeg_frame(marker):
            return
        at += 2 + length


def is_jpeg_frame(marker: int) -> bool:
    """Whether a marker begins a frame header: SOF0 to SOF15, or SOF55 for JPEG-LS."""
    return marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC))


def _jpeg_frame(data: bytes) -> tuple[int, int, int, int] | None:
    """Return the contents of the frame header.

    Returns:
        Marker, rows, columns and number of components; None if no frame header is found.
    """
    for marker, segment in jpeg_segments(data):
        if is_jpeg_frame(marker) and len(segment) >= 6:
            rows, columns = struct.unpack_from(">HH", segment, 1)
            return marker, rows, columns, segment[5]
    return None
