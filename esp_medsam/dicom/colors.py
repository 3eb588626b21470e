"""What colors a compressed frame holds, where its codestream and its header may disagree.

Writers leave the header of what they compressed, or compress what they left the header of. DICOM
lets Photometric Interpretation (0028,0004) decide, and so do DCMTK and GDCM; libjpeg, which most
codecs are, goes by the JPEG alone. pydicom goes by the header but for two signs of the JPEG. Here
the codestream counts where it says something, and what contradicts it is told.
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
"""Lossless JPEG, and JPEG-LS: what they hold was not converted, as that would lose something."""

_JFIF, _SPIFF_OR_HP, _ADOBE = 0xE0, 0xE8, 0xEE
_SCAN, _FILL = 0xDA, 0xFF
_AS_YBR = bytes.fromhex("ffe0 0010 4a46494600 0101 00 0001 0001 00 00")
_AS_RGB = bytes.fromhex("ffee 000e 41646f6265 0064 0000 0000 00")
_SPIFF_COLORS = {3: YBR, 10: RGB}

_COD, _TILE_PART, _MOST_SEGMENTS = 0xFF52, 0xFF90, 65_536


class Colors(NamedTuple):
    """The colors of a frame.

    Attributes:
        photometric: ``RGB`` or ``YBR_FULL``, as a decoder gives them that converts nothing; what
            the header says where neither is meant.
        note: What contradicts it, a sentence; empty where nothing does.
    """

    photometric: str
    note: str = ""


def colors_of(data: bytes, stated: str) -> Colors:
    """Return the colors of a frame with three components.

    Args:
        data: The frame: JPEG, JPEG-LS or JPEG 2000.
        stated: Its Photometric Interpretation.

    Reference:
        DICOM PS3.5 8.2.1 to 8.2.4; ITU-T T.871 (JFIF); T.872 6.5.3 (Adobe's marker and identifiers
        of components); T.84 F.1 (SPIFF); ISO/IEC 15444-1 A.6.1.
    """
    codestream = codestream_of(data)
    return _of_jpeg_2000(codestream, stated) if codestream else _of_jpeg(data, stated)


def without_application_data(data: bytes) -> bytes:
    """Return a JPEG with a sound header from which its decoder gives components as they are.

    JFIF's and Adobe's markers are replaced by one of ours, which says of colors what makes nobody
    convert them: that they are YCbCr, to libjpeg, of which Pillow may be asked for them so; of
    lossless ones that they are RGB, to GDCM. It ends the process over versions that it does not
    know.
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
    """Return the marker of the frame, and what each sign says that the JPEG bears."""
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
            said["color transform"] = RGB  # which the decoder undoes
        elif is_jpeg_frame(marker):
            said.update(_said_by_components(segment))
    return marker, said


def _said_by_components(segment: bytes) -> Iterator[tuple[str, str]]:
    """Yield what identifiers and sampling factors of three components say."""
    components = [segment[k : k + 2] for k in range(6, 13, 3)]
    if len(components[-1]) < 2:
        return
    if bytes(c[0] for c in components) in (b"RGB", b"rgb"):
        yield "component identifiers", RGB
    first, second, third = (divmod(c[1], 16) for c in components)
    if first != second == third and first[0] >= second[0] and first[1] >= second[1]:
        yield "sampling factors", YBR  # of RGB no color would be worth less than another


def _of_jpeg_2000(codestream: bytes, stated: str) -> Colors:
    """Decoders undo the transformation that a codestream states, whatever a header says."""
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
    """Whether components were transformed; None where the codestream does not say."""
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
