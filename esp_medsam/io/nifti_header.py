"""Check a NIfTI header before any voxel is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from esp_medsam.errors import CorruptFileError, FormatError, GeometryError
from esp_medsam.grid import check_affine, is_sheared, refuse_affine


HEADER_BYTES = 540
"""Size of a NIfTI-2 header, enough for either version; a NIfTI-1 header has 348 bytes."""

DISAGREEMENT_TOLERANCE = 1e-3
"""Tolerated difference of qform and sform elements, in mm: what float32 quaternions lose."""

_ROUNDING = 1e-5
"""Most by which the squared length of a quaternion may exceed 1, written in float32."""

_UNNOTICED = float(3 * np.finfo(np.float32).eps)
"""Excess that needs no warning: nibabel's own threshold."""

_LAST_OFFSET = 2**26
"""Most bytes before the voxels: room for any header extension, but not for long seeks."""

_NUMBERS = frozenset({2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280})
"""Codes of real types, 8 to 64 bits; the others are color, complex or wider than float64."""

_VECTORS = ("srow_x", "srow_y", "srow_z")
_SCALARS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d")
_OFFSETS = ("qoffset_x", "qoffset_y", "qoffset_z")


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """The parts of a NIfTI header that reading and writing need.

    Attributes:
        shape: Shape of a volume in the file, two axes or three.
        volumes: Lengths of the axes beyond the third, without trailing ones of length 1.
        dtype: Type of the stored numbers, byte order included.
        offset: Byte at which the numbers begin.
        scaling: Factor for the stored numbers, and what is then added; None if the numbers are not
            scaled.
        affine: ``(4, 4)`` float64, voxel index to RAS+ in mm.
        geometry: The geometry fields as stored.
        warnings: What a user should know.
    """

    shape: tuple[int, ...]
    volumes: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    scaling: tuple[float, float] | None
    affine: npt.NDArray[np.float64]
    geometry: Mapping[str, tuple[float, ...]]
    warnings: tuple[str, ...]


def parse_header(block: bytes, path: Path) -> NiftiHeader:
    """Return what the header at the beginning of ``block`` says.

    Args:
        block: The first :data:`HEADER_BYTES` of the file, decompressed; fewer if it is shorter.
        path: The file, for messages.

    Raises:
        FormatError: If it is not NIfTI, or has an unsupported type or dimension.
        CorruptFileError: If its numbers contradict each other.
        GeometryError: If its affine is not usable.
    """
    header = _raw_header(block, path)
    shape = _shape(header, path)
    dtype = _dtype(header, path)
    scaling = _scaling(header, path)
    offset = float(header["vox_offset"])
    if not (offset == 0 or int(header["sizeof_hdr"]) <= offset <= _LAST_OFFSET):
        msg = (
            f"{path} must have its voxels after its header, at byte {_LAST_OFFSET:,} at most; "
            f"got vox_offset {offset:g}."
        )
        raise CorruptFileError(msg)
    geometry = _geometry(header)
    affine, warnings = _affine(header, len(shape), path)
    if math.isnan(header["scl_slope"]):
        warnings.append("The slope (scl_slope) is NaN; the numbers were read as stored.")
    return NiftiHeader(
        shape=shape[:3],
        volumes=shape[3:],
        dtype=dtype,
        offset=int(offset) or int(header.single_vox_offset),
        scaling=scaling,
        affine=affine,
        geometry=geometry,
        warnings=tuple(warnings),
    )


def _raw_header(block: bytes, path: Path) -> Any:
    """Return nibabel's header for the version and byte order that the first bytes show."""
    kinds: tuple[tuple[int, Any, bytes], ...] = (
        (348, nib.Nifti1Header, block[344:348]),
        (540, nib.Nifti2Header, block[4:8]),
    )
    for size, kind, magic in kinds:
        for order, endianness in (("little", "<"), ("big", ">")):
            if int.from_bytes(block[:4], order) != size:  # type: ignore[arg-type]  # a literal
                continue
            if magic[:3] in (b"ni1", b"ni2"):
                msg = f"{path} must be one .nii file; got half of a pair. Convert the pair to .nii."
                raise FormatError(msg)
            if magic[:3] not in (b"n+1", b"n+2"):
                msg = f"{path} must be NIfTI; its header lacks NIfTI's mark (Analyze 7.5 does)."
                raise FormatError(msg)
            if len(block) < size:
                msg = (
                    f"{path} must hold a whole header; it ends after {len(block)} bytes. Copy "
                    "it again."
                )
                raise CorruptFileError(msg)
            return kind(binaryblock=block[:size], endianness=endianness, check=False)
    msg = f"{path} must be NIfTI; its content is something else."
    raise FormatError(msg)


def _shape(header: Any, path: Path) -> tuple[int, ...]:
    stored = [int(length) for length in header["dim"]]
    dimensions, lengths = stored[0], stored[1:]
    if not 1 <= dimensions <= 7 or any(length < 1 for length in lengths[:dimensions]):
        msg = f"{path} must have 1 to 7 axes of at least one voxel; its header says dim {stored}."
        raise CorruptFileError(msg)
    shape = lengths[:dimensions]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) == 1:
        msg = f"{path} must be an image or a volume; got one axis of {shape[0]} numbers."
        raise FormatError(msg)
    return tuple(shape)


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _NUMBERS:
        try:
            name = str(nib.nifti1.data_type_codes.label[code])
        except KeyError:
            name = f"code {code}"
        msg = (
            f"{path} must hold real numbers of 8 to 64 bits; got {name}. "
            "Convert color to PNG or to gray, complex to magnitude."
        )
        raise FormatError(msg)
    dtype: np.dtype[Any] = header.get_data_dtype()
    return dtype


def _scaling(header: Any, path: Path) -> tuple[float, float] | None:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):  # writers mean: not scaled, whatever the intercept
        return None
    if not math.isfinite(slope) or not math.isfinite(intercept):
        msg = f"{path} must have finite scaling; got slope {slope}, intercept {intercept}."
        raise CorruptFileError(msg)
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _affine(header: Any, dimensions: int, path: Path) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the affine from the sform, else the qform, else only the spacing, and the warnings."""
    header = header.copy()
    if dimensions == 2 and header["pixdim"][3] == 0:
        header["pixdim"][3] = 1  # writers of 2-D files omit the third spacing
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # missing handedness, which the standard reads as 1
    if int(header["sform_code"]) > 0:
        affine, warnings = _by_sform(header)
    elif int(header["qform_code"]) > 0:
        affine, warnings = _by_qform(header, path)
    else:
        affine, warnings = _by_spacing(header, path)
    warnings.extend(check_affine(affine, path))
    length = {1: "meters", 3: "micrometers"}.get(int(header["xyzt_units"]) & 7)
    if length is not None:
        warnings.append(
            f"The header states lengths in {length}; the numbers were read as millimeters."
        )
    return affine, warnings


def _by_sform(header: Any) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the sform, and what is wrong with qform and spacing, which the sform does not need."""
    affine = np.asarray(header.get_sform(), dtype=np.float64)
    broken = _broken_spacing(header)
    if broken:
        return affine, [f"{broken}; the sform was used, which some readers read otherwise."]
    if int(header["qform_code"]) <= 0:
        return affine, []
    qform, problem = _qform(header)
    if problem:
        return affine, [f"The qform is broken ({problem}); the sform was used."]
    if qform is not None and np.abs(affine - qform).max() > DISAGREEMENT_TOLERANCE:
        return affine, ["The qform and sform disagree; the sform was used."]
    return affine, []


def _by_qform(header: Any, path: Path) -> tuple[npt.NDArray[np.float64], list[str]]:
    _check_spacing(header, path)
    qform, problem = _qform(header)
    if qform is None:
        msg = f"{path} must have a usable affine; its qform is not: {problem}."
        raise GeometryError(msg)
    return qform, [f"The qform was corrected: {problem}."] if problem else []


def _by_spacing(header: Any, path: Path) -> tuple[npt.NDArray[np.float64], list[str]]:
    _check_spacing(header, path)
    note = (
        "The header states no position (qform and sform codes are 0); the first axis was "
        "taken to run to the left, the others to anterior and superior, as most readers do."
    )
    return np.asarray(header.get_base_affine(), dtype=np.float64), [note]


def _check_spacing(header: Any, path: Path) -> None:
    """Refuse spacings that make no affine: readers disagree on negative ones."""
    if _broken_spacing(header):
        refuse_affine(path, f"its spacing is {_spacing(header)}")


def _broken_spacing(header: Any) -> str:
    """Return what is wrong with the spacings, as the beginning of a sentence; empty if nothing."""
    spacing = _spacing(header)
    is_usable = all(math.isfinite(length) and length > 0 for length in spacing)
    return "" if is_usable else f"pixdim holds spacings that are not positive, {spacing}"


def _spacing(header: Any) -> list[float]:
    return [float(length) for length in header["pixdim"][1:4]]


def _qform(header: Any) -> tuple[npt.NDArray[np.float64] | None, str]:
    """Return the qform, or None if it is not usable, and what is wrong with it.

    A quaternion that rounding made longer than 1 is shortened, as in the standard's own code.
    """
    names = ("quatern_b", "quatern_c", "quatern_d")
    squared = sum(float(header[name]) ** 2 for name in names)
    problem = ""
    if 1 + _ROUNDING >= squared > 1:
        for name in names:
            header[name] = float(header[name]) / math.sqrt(squared)
        if squared > 1 + _UNNOTICED:
            problem = f"its quaternion is longer than 1, {math.sqrt(squared):.9g}"
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        return None, str(error)
    if not np.all(np.isfinite(qform)):
        return None, "it holds NaN or infinity"
    return qform, problem


def _geometry(header: Any) -> dict[str, tuple[float, ...]]:
    """Return the geometry fields as stored; Python represents float32 numbers exactly."""
    fields: dict[str, tuple[float, ...]] = {
        name: (float(header[name]),) for name in (*_SCALARS, *_OFFSETS)
    }
    fields.update({name: tuple(float(x) for x in header[name]) for name in _VECTORS})
    fields["pixdim"] = tuple(float(x) for x in header["pixdim"][:4])
    fields["xyzt_units"] = (float(int(header["xyzt_units"]) & 7),)
    fields["sizeof_hdr"] = (float(header["sizeof_hdr"]),)
    return fields


def geometry_of(affine: npt.NDArray[np.float64]) -> dict[str, tuple[float, ...]]:
    """Return the geometry fields that state an affine, for volumes of other formats.

    Args:
        affine: ``(4, 4)``, voxel index to RAS+ in mm. A sheared one is stated only by the sform.
    """
    image: Any = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=0 if is_sheared(affine) else 1)
    image.header.set_xyzt_units("mm")
    return dict(_geometry(image.header))
