"""NRRD headers, ``.nrrd`` and ``.nhdr``: https://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": (
        "longlong", "long long", "long long int", "signed long long", "signed long long int",
        "int64", "int64_t",
    ),
    "uint64": (
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t",
    ),
    "float32": ("float",),
    "float64": ("double",),
}  # fmt: skip

_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), LPS_TO_RAS),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
}
"""Spaces whose axes are those of the patient, and their signs in RAS+."""

_ENCODINGS: dict[str, Literal["raw", "gzip", "text"]] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "ascii": "text",
    "text": "text",
    "txt": "text",
}

_NOT_GRAY = frozenset(
    ("rgb-color", "rgba-color", "hsv-color", "xyz-color", "3-color", "4-color", "complex")
)
"""Kinds of an axis that holds the components of one pixel."""


class _Axes(NamedTuple):
    """Lengths and steps of the axes that place voxels, and the number of volumes."""

    lengths: tuple[int, ...]
    frames: int
    steps: npt.NDArray[np.float64]


def parse_nrrd(block: bytes, path: Path) -> ItkHeader:
    """Return what an NRRD header says.

    Args:
        block: The beginning of the file.
        path: The file.

    Raises:
        FormatError: If it is not NRRD, or has an unsupported type, dimension or encoding.
        CorruptFileError: If its fields contradict each other, or the header does not end.
        GeometryError: If it does not place its voxels in the patient.
    """
    fields, end = _fields(block, path)
    axes = _axes(fields, path)
    affine, warnings = _affine(fields, axes, path)
    encoding = _encoding(fields, path)
    skip = _skip(fields, encoding, path)
    name = fields.get("datafile")
    if name is None and end is None:
        msg = f"{path} must hold a whole header and voxels; its header does not end."
        raise CorruptFileError(msg)
    return ItkHeader(
        kind="NRRD",
        shape=axes.lengths,
        frames=axes.frames,
        dtype=_dtype(fields, path),
        encoding=encoding,
        data_path=path if name is None else path_beside(path, name),
        offset=skip if name is not None or skip < 0 else (end or 0) + skip,
        stored_bytes=None,
        affine=affine,
        warnings=warnings,
    )


def _fields(block: bytes, path: Path) -> tuple[dict[str, str], int | None]:
    """Return the fields by name without spaces, and the offset of the byte after the empty line."""
    if not re.match(rb"NRRD000[1-9]\r?\n", block):
        msg = f"{path} must be NRRD; its content is something else."
        raise FormatError(msg)
    fields: dict[str, str] = {}
    for line, position in lines(block, path):
        if not line:
            return fields, position
        field = re.match(r"([^:#][^:]*):(?!=)(.*)$", line)
        if field is not None:
            name = field[1].lower().replace(" ", "")
            add_field(fields, name, field[2].strip(), path)
    return fields, None


def _axes(fields: Mapping[str, str], path: Path) -> _Axes:
    lengths = integers(required_field(fields, "sizes", path), "sizes", path)
    dimension = integers(required_field(fields, "dimension", path), "dimension", path)
    if dimension != (len(lengths),):
        msg = f"{path} must state one size per axis; got {len(lengths)} for {dimension[0]} axes."
        raise CorruptFileError(msg)
    directions = _directions(fields, len(lengths), path)
    spatial = [axis for axis, step in enumerate(directions) if step is not None]
    others = [axis for axis, step in enumerate(directions) if step is None]
    kinds = fields.get("kinds", "").lower().split()
    if not _NOT_GRAY.isdisjoint(kinds):
        msg = (
            f"{path} must hold real numbers; got colors or complex ones. "
            "Convert color to PNG or to gray, complex to magnitude."
        )
        raise FormatError(msg)
    if len(spatial) != 3 or len(others) > 1:
        size = " x ".join(str(length) for length in lengths)
        msg = f"{path} must hold volumes, three axes in space and at most one other; got {size}."
        raise FormatError(msg)
    return _Axes(
        lengths=tuple(lengths[axis] for axis in spatial),
        frames=lengths[others[0]] if others else 1,
        steps=np.array([directions[axis] for axis in spatial]).T,
    )


def _directions(
    fields: Mapping[str, str], axes: int, path: Path
) -> Sequence[npt.NDArray[np.float64] | None]:
    """Return the step in space of each axis; None for an axis that is not spatial."""
    if "space" not in fields or "spacedirections" not in fields:
        msg = (
            f"{path} must state space and space directions, which say where its voxels lie; "
            "its header does not. Export it again from its source."
        )
        raise GeometryError(msg)
    words = re.findall(r"none|\([^()]*\)|[^\s]+", fields["spacedirections"].lower())
    if len(words) != axes:
        msg = f"{path} must state a space direction for each of {axes} axes; got {len(words)}."
        raise GeometryError(msg)
    return [None if word == "none" else _vector(word, "space directions", path) for word in words]


def _vector(word: str, name: str, path: Path) -> npt.NDArray[np.float64]:
    inside = word.strip().removeprefix("(").removesuffix(")")
    return numbers(inside.replace(",", " "), 3, name, path)


def _affine(
    fields: Mapping[str, str], axes: _Axes, path: Path
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    space = fields["space"].lower()
    if space not in _SPACES:
        msg = (
            f"{path} must place its voxels in the patient (space left-posterior-superior or its "
            f"like); got space {quoted_field(fields['space'])}."
        )
        raise GeometryError(msg)
    notes: list[str] = []
    if "spaceorigin" in fields:
        origin = _vector(fields["spaceorigin"], "space origin", path)
    else:
        origin = np.zeros(3)
        notes.append(
            "The header states no position; the first voxel was taken to lie at the origin."
        )
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "")))
    if units - {"mm", ""}:
        notes.append(lengths_note(", ".join(sorted(units))))
    affine, warnings = usable_affine(axes.steps, origin, _SPACES[space], path)
    return affine, (*warnings, *notes)


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype[Any]:
    stated = required_field(fields, "type", path)
    for name, spellings in _TYPES.items():
        if " ".join(stated.lower().split()) in spellings:
            return np.dtype(name)
    msg = f"{path} must hold real numbers of 8 to 64 bits; got type {quoted_field(stated)}."
    raise FormatError(msg)


def _encoding(fields: Mapping[str, str], path: Path) -> Literal["raw", "gzip", "text"]:
    stated = required_field(fields, "encoding", path).lower()
    if stated not in _ENCODINGS:
        msg = (
            f"{path} must be encoded as raw, gzip or text, which ITK reads; got "
            f"{quoted_field(stated)}. Save it again with gzip."
        )
        raise FormatError(msg)
    return _ENCODINGS[stated]


def _skip(fields: Mapping[str, str], encoding: str, path: Path) -> int:
    """Return how many bytes precede the voxels; -1 if the voxels end the file."""
    lines = integers(fields.get("lineskip", "0"), "line skip", path, least=0)
    skip = integers(fields.get("byteskip", "0"), "byte skip", path, least=-1)[0]
    if lines[0] or (skip and encoding != "raw") or (skip < 0 and "datafile" not in fields):
        msg = (
            f"{path} must have its voxels right after its header; its header asks to skip some "
            "data."
        )
        raise FormatError(msg)
    return skip
