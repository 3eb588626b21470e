"""MetaImage headers, ``.mha`` and ``.mhd``: https://itk.org/Wiki/ITK/MetaIO/Documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import CorruptFileError, FormatError, GeometryError
from esp_medsam.io.itk_header import (
    LPS_TO_RAS,
    ItkHeader,
    add_field,
    integers,
    lengths_note,
    lines,
    numbers,
    path_beside,
    quoted_field,
    required_field,
    usable_affine,
)


_TYPES = {
    "MET_CHAR": "int8",
    "MET_UCHAR": "uint8",
    "MET_SHORT": "int16",
    "MET_USHORT": "uint16",
    "MET_INT": "int32",
    "MET_UINT": "uint32",
    "MET_LONG": "int32",
    "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64",
    "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}

_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_POSITIONS = ("Offset", "Origin", "Position")
_SPACINGS = ("ElementSpacing", "ElementSize")
"""Synonyms for one field; the first that is stated counts."""


_LOCAL = ("LOCAL", "Local", "local")
"""Words that ITK takes to mean the file itself; any other word names a file."""


class _Axes(NamedTuple):
    """Lengths of all axes, and how many numbers a pixel has."""

    lengths: tuple[int, ...]
    channels: int


def parse_metaimage(block: bytes, path: Path) -> ItkHeader:
    """Return what a MetaImage header says.

    Args:
        block: The beginning of the file.
        path: The file.

    Raises:
        FormatError: If it is not MetaImage, or has an unsupported type, dimension or encoding.
        CorruptFileError: If its fields contradict each other, or the header does not end.
        GeometryError: If it does not place its voxels.
    """
    if path.suffix not in (".mha", ".mhd"):
        msg = f"{path} must end in .mha or .mhd in small letters for ITK to read it. Rename it."
        raise FormatError(msg)
    fields, end = _fields(block, path)
    axes = _axes(fields, path)
    _check_plain(fields, path)
    affine, warnings = _affine(fields, len(axes.lengths), path)
    name, is_compressed = fields["ElementDataFile"], _is_true(fields, "CompressedData")
    is_local = name in _LOCAL
    skipped = _header_size(fields, path, is_compressed=is_compressed)
    if is_local and skipped > 0:
        msg = (
            f"{path} must have no HeaderSize, because its voxels follow its header. Save it again."
        )
        raise FormatError(msg)
    size = required_field(fields, "CompressedDataSize", path) if is_compressed else None
    header = ItkHeader(
        kind="MetaImage",
        shape=axes.lengths[:3],
        frames=axes.channels * (axes.lengths[3] if len(axes.lengths) == 4 else 1),
        dtype=_dtype(fields, path),
        encoding="zlib" if is_compressed else "raw",
        data_path=path if is_local else path_beside(path, name),
        offset=end if is_local and skipped == 0 else skipped,
        stored_bytes=integers(size, "CompressedDataSize", path)[0] if size else None,
        affine=affine,
        warnings=warnings,
    )
    _check_long(header, fields["ElementType"], path)
    return header


def _fields(block: bytes, path: Path) -> tuple[dict[str, str], int]:
    """Return the fields up to ElementDataFile, the last one, and the offset of what follows it."""
    fields: dict[str, str] = {}
    for line, position in lines(block, path):
        field = re.match(r"\s*([A-Za-z][A-Za-z0-9_\[\]]*)\s*[=:](.*)$", line)
        if field is not None:
            add_field(fields, field[1], field[2].strip(), path)
            if field[1] == "ElementDataFile":
                return fields, position
        elif line.strip():
            break
    kind = CorruptFileError if "NDims" in fields else FormatError
    msg = f"{path} must be MetaImage, lines of names and values; its content is something else."
    raise kind(msg)


def _axes(fields: Mapping[str, str], path: Path) -> _Axes:
    lengths = integers(required_field(fields, "DimSize", path), "DimSize", path)
    if integers(required_field(fields, "NDims", path), "NDims", path) != (len(lengths),):
        msg = f"{path} must state one DimSize per axis; got {len(lengths)}."
        raise CorruptFileError(msg)
    stated = fields.get("ElementNumberOfChannels", "1")
    channels = integers(stated, "ElementNumberOfChannels", path)[0]
    if not 2 <= len(lengths) <= 4 or (len(lengths) == 4 and channels > 1):
        size = " x ".join(str(length) for length in lengths)
        msg = f"{path} must hold an image or volumes; got {size} of {channels} channels."
        raise FormatError(msg)
    return _Axes(lengths, channels)


def _check_plain(fields: Mapping[str, str], path: Path) -> None:
    """Refuse fields that ITK misreads, or does not read at all."""
    if "BinaryData" in fields and not _is_true(fields, "BinaryData"):
        msg = f"{path} must hold binary numbers; got text. Save it again."
        raise FormatError(msg)
    for name, neutral in (("Slope", 1.0), ("Offset", 0.0)):
        field = f"ElementToIntensityFunction{name}"
        if field in fields and numbers(fields[field], 1, field, path)[0] != neutral:
            msg = f"{path} must hold numbers that need no scaling; ITK does not apply its {field}."
            raise FormatError(msg)


def _affine(
    fields: Mapping[str, str], axes: int, path: Path
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return the affine to RAS+; a 2-D image gets a third axis of 1 mm."""
    spacing = next((name for name in _SPACINGS if name in fields), None)
    if spacing is None:
        msg = f"{path} must state its ElementSpacing; its header does not."
        raise GeometryError(msg)
    steps = np.diag(numbers(fields[spacing], axes, spacing, path))
    direction = next((name for name in _DIRECTIONS if name in fields), None)
    position = next((name for name in _POSITIONS if name in fields), None)
    origin, notes = np.zeros(axes), []
    if position is not None:
        origin = numbers(fields[position], axes, position, path)
    if direction is not None:  # each row is the direction of one array axis
        matrix = numbers(fields[direction], axes * axes, direction, path).reshape(axes, axes)
        steps = matrix.T @ steps
    if direction is None or position is None:
        notes.append(
            "The header states no orientation or no position; what is missing was taken as "
            "ITK does: axes to left, posterior and superior, from the origin."
        )
    if axes == 4 and (steps[3, :3].any() or steps[:3, 3].any()):
        msg = f"{path} must have axes that are either spatial or temporal; one is both."
        raise GeometryError(msg)
    if fields.get("DistanceUnits", "mm") not in ("mm", "?"):
        notes.append(lengths_note(fields["DistanceUnits"]))
    held = min(axes, 3)
    spatial, place = np.eye(3), np.zeros(3)
    spatial[:held, :held], place[:held] = steps[:held, :held], origin[:held]
    affine, warnings = usable_affine(spatial, place, LPS_TO_RAS, path)
    return affine, (*warnings, *notes)


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype[Any]:
    stated = required_field(fields, "ElementType", path)
    if stated not in _TYPES:
        msg = f"{path} must hold real numbers of 8 to 64 bits; got {quoted_field(stated)}."
        raise FormatError(msg)
    return np.dtype(_TYPES[stated])


def _check_long(header: ItkHeader, stated: str, path: Path) -> None:
    """Refuse "long" numbers of 8 bytes, as old programs wrote them; ITK expects 4."""
    if stated not in ("MET_LONG", "MET_ULONG") or header.encoding != "raw":
        return
    held = header.data_path.stat().st_size - max(header.offset, 0)
    if held >= 2 * header.count * header.dtype.itemsize:
        msg = f"{path} must hold {stated} of 4 bytes; its data have room for 8. Save it again."
        raise FormatError(msg)


def _header_size(fields: Mapping[str, str], path: Path, *, is_compressed: bool) -> int:
    """Return how many bytes of the data file precede the voxels; -1 if the voxels end it."""
    size = integers(fields.get("HeaderSize", "0"), "HeaderSize", path, least=-1)[0]
    if size and is_compressed:
        msg = f"{path} must have compressed voxels from the first byte on; got HeaderSize {size}."
        raise FormatError(msg)
    return size


def _is_true(fields: Mapping[str, str], name: str) -> bool:
    return fields.get(name, "")[:1] in ("T", "t", "1")
