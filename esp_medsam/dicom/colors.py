"""Colors of a compressed frame, whose codestream and header may disagree.

Some writers compress an image without updating its header. In DICOM, Photometric Interpretation
(0028,0004) decides, and DCMTK and GDCM follow it; libjpeg, which most codecs use, goes by the JPEG
alone. pydicom goes by the header except for two signs in the JPEG. Here the codestream decides if
it says anything, and contradictions are reported.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from esp_medsam.dicom.codecs import codestream_of, is_jpeg_frame, jpeg_segments


RGB, YBR = "RGB", "YBR_FULL"

_TOLD = {RGB: "RGB", YBR: "YCbCr"}
_STATED = {"RGB": RGB, "YBR_FULL": YBR, "YBR_FULL_422": YBR}
_J2K_ONLY = ("YBR_RCT", "YBR_ICT")

_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF, 0xF7)
"""Lossless JPEG and JPEG-LS: their colors were not converted, as conversion loses information."""

_JFIF, _SPIFF_OR_HP, _ADOBE = 0xE0, 0xE8, 0xEE
_SCAN, _FILL = 0xDA, 0xFF
_AS_YBR = bytes.fromhex("ffe0 0010 4a46494600 0101 00 0001 0001 00 00")
_AS_RGB = bytes.fromhex("ffee 000e 41646f6265 0064 0000 0000 00")
_SPIFF_COLORS = {3: YBR, 10: RGB}

_COD, _TILE_PART, _MOST_SEGMENTS = 0xFF52, 0xFF90, 65_536


class Colors(NamedTuple):
    """The colors of a frame.

    Attributes:
        photometric: ``RGB`` or ``YBR_FULL``, as given by a decoder that converts nothing; what
            the header says if neither is meant.
        note: Sentence that states what contradicts it; empty if nothing does.
    """

    photometric: str
    note: str = ""


def colors_of(data: bytes, stated: str) -> Colors:
    """Return the colors of a frame with three components.

    Args:
        data: The frame: JPEG, JPEG-LS or JPEG 2000.
        stated: Photometric Interpretation of the frame.

    Reference:
        DICOM PS3.5 8.2.1 to 8.2.4; ITU-T T.871 (JFIF); T.872 6.5.3 (Adobe's marker and identifiers
        of components); T.84 F.1 (SPIFF); ISO/IEC 15444-1 A.6.1.
    """
    codestream = codestream_of(data)
    return _of_jpeg_2000(codestream, stated) if codestream else _of_jpeg(data, stated)


def without_application_data(data: bytes) -> bytes:
    """Return a JPEG with a sound header, changed so that its decoder gives components unconverted.

    One marker replaces JFIF's and Adobe's markers and states the colors that no decoder converts:
    YCbCr for libjpeg, because Pillow can be asked for YCbCr; RGB for lossless data, which GDCM
    decodes. GDCM ends the process on marker versions that it does not know.
    """
    is_lossless = any(marker in _LOSSLESS for marker, _ in jpeg_segments(data))
    parts, at = [data[:2], _AS_RGB if is_lossless else _AS_YBR], 2
    while (marker := data[at + 1]) != _SCAN:
        length = 1 if marker == _FILL else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker not in (_JFIF, _ADOBE):
            parts.append(data[at : at + length])
        at += length
    return b"".join((*parts, data[at:]))


def _of_jpeg(data: bytes, stated: str) -> Colors:
    marker, said = _said_by_jpeg(data)
    name = "JPEG-LS" if marker == 0xF7 else "JPEG"
    header = _STATED.get(stated)
    spaces = set(said.values())
    if header is None and (stated not in _J2K_ONLY or len(spaces) != 1):
        return Colors(stated)
    if not spaces and header == RGB and marker not in _LOSSLESS:
        note = (
            f"The {name} data do not say whether the colors are RGB or YCbCr; they were read "
            "as RGB, as Photometric Interpretation says."
        )
        return Colors(RGB, note)
    if header is not None and spaces <= {header}:
        return Colors(header)
    signs = " and ".join(f"{_TOLD[space]} by its {sign}" for sign, space in said.items())
    contradiction = f"Photometric Interpretation says {stated}, the {name} data {signs}"
    if header is not None and len(spaces) > 1:
        return Colors(header, f"{contradiction}; the image was read as {_TOLD[header]}.")
    if header == RGB and marker in _LOSSLESS:
        note = (
            f"{contradiction}; the image was read as RGB, since lossless coders convert no colors."
        )
        return Colors(RGB, note)
    (space,) = spaces
    return Colors(space, f"{contradiction}; the image was read as {_TOLD[space]}.")


def _said_by_jpeg(data: bytes) -> tuple[int, dict[str, str]]:
    """Return the frame marker, and what each color sign in the JPEG says."""
    said: dict[str, str] = {}
    marker = 0
    for marker, segment in jpeg_segments(data):
        if marker == _JFIF and segment.startswith(b"JFIF\0"):
            said["JFIF marker"] = YBR
        elif marker == _ADOBE and segment.startswith(b"Adobe") and len(segment) >= 12:
            if segment[11] in (0, 1):
                said["Adobe marker"] = YBR if segment[11] else RGB
        elif marker == _SPIFF_OR_HP and segment.startswith(b"SPIFF\0") and len(segment) > 18:
            if segment[18] in _SPIFF_COLORS:
                said["SPIFF header"] = _SPIFF_COLORS[segment[18]]
        elif marker == _SPIFF_OR_HP and segment.startswith(b"mrfx") and segment[4:5] > b"\0":
            said["color transform"] = RGB  # the decoder undoes the transform
        elif is_jpeg_frame(marker):
            said.update(_said_by_components(segment))
    return marker, said


def _said_by_components(segment: bytes) -> Iterator[tuple[str, str]]:
    """Yield what the identifiers and sampling factors of three components say."""
    components = [segment[k : k + 2] for k in range(6, 13, 3)]
    if len(components[-1]) < 2:
        return
    if bytes(c[0] for c in components) in (b"RGB", b"rgb"):
        yield "component identifiers", RGB
    first, second, third = (divmod(c[1], 16) for c in components)
    if first != second == third and first[0] >= second[0] and first[1] >= second[1]:
        yield "sampling factors", YBR  # RGB has no reason to sample one color less than another


def _of_jpeg_2000(codestream: bytes, stated: str) -> Colors:
    """Return the colors, given that decoders undo the transformation a codestream states."""
    is_transformed = _is_transformed(codestream)
    contradiction = f"Photometric Interpretation says {stated}, the JPEG 2000 data "
    if is_transformed is None:
        return Colors(RGB if stated in _J2K_ONLY else stated)
    if is_transformed and _STATED.get(stated) == YBR:
        note = "RGB by its component transformation; the image was read as RGB."
        return Colors(RGB, contradiction + note)
    if not is_transformed and stated in _J2K_ONLY:
        return Colors(
            RGB, contradiction + ("no transformation of components; the image was read as RGB.")
        )
    return Colors(RGB if stated in _J2K_ONLY else _STATED.get(stated, stated))


def _is_transformed(codestream: bytes) -> bool | None:
    """Whether components were transformed; None if the codestream does not say."""
    at = 2
    try:
        for _ in range(_MOST_SEGMENTS):
            marker, length = struct.unpack_from(">HH", codestream, at)
            if marker == _COD:
                return bool(codestream[at + 8])
            if marker == _TILE_PART or length < 2:
                return None
            at += 2 + length
    except (struct.error, IndexError):
        pass
    return None
