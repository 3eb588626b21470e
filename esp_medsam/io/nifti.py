"""Read NIfTI-1 and NIfTI-2 files without guessing, and write masks on the same grid."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
import numpy.typing as npt

from esp_medsam.errors import CorruptFileError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.io.atomic import MARK, atomic_file
from esp_medsam.io.inflate import DAMAGE, Inflated
from esp_medsam.io.nifti_header import HEADER_BYTES, NiftiHeader, parse_header
from esp_medsam.io.voxels import CHUNK_VOXELS, MORE_BYTES, Chosen, choose_frame, put_piece
from esp_medsam.memory import NOTHING, Beside
from esp_medsam.regular_file import open_regular


_nib: Any = nibabel  # nibabel annotates only some of its functions

_GZIP_MARK = b"\x1f\x8b"

_MAX_RATIO = 1032
"""Most bytes that deflate can make of one; a file that claims more cannot be whole."""

_MAX_TAIL = 2**26
"""Most bytes read beyond the voxels to reach the checksum at the end of a gzip file."""


def read_nifti(path: Path, frame: int | None = None, beside: Beside = NOTHING) -> Image:
    """Return the volume in the NIfTI file at ``path``, with slope and intercept applied.

    Unscaled integers stay integers (64-bit ones that fit become int32); all other numbers become
    float32, piece by piece. A 2-D file becomes a stack of one slice.

    Args:
        path: The file.
        frame: Which volume of a file with several, as stored, from 0; no effect on other files.
        beside: What must fit in memory in addition to the volume.

    Raises:
        FormatError: If it is not NIfTI, or has an unsupported type or dimension.
        OptionError: If it has no volume of number ``frame``.
        CorruptFileError: If it is damaged or cut short.
        TooLargeError: If it claims more than fits in memory.
        GeometryError: If its affine is not usable.
        NonFiniteError: If it holds NaN or infinity.
    """
    with _open_stream(path) as (file, stream):
        block = stream.read(HEADER_BYTES)
        header = parse_header(block, path)
        values = header.dtype if header.scaling is None else np.dtype(np.float64)
        chosen = choose_frame(frame, header.shape, header.volumes, values, path, beside)
        on_disk = os.fstat(file.fileno()).st_size
        size = chosen.size * header.dtype.itemsize
        start = header.offset + chosen.number * size
        end = header.offset + chosen.frames * size
        ratio = _MAX_RATIO if isinstance(stream, Inflated) else 1
        _check_size(header, end, path, on_disk * ratio)
        _skip(stream, start, len(block), path)
        voxels = _read_voxels(stream, block[start:], header, chosen, path)
        more = on_disk > end
        if isinstance(stream, Inflated):  # read to the checksum; other files' sizes were checked
            _skip(stream, end, max(len(block), start + size), path)
            more = stream.read_rest(_MAX_TAIL) > 0 or len(block) > end
    shape = header.shape if len(header.shape) == 3 else (*header.shape, 1)
    return Image(
        path=os.fspath(path),
        name=path.name,
        grid=Grid(shape=shape, affine=header.affine),
        pixels=voxels.reshape(shape, order="F")[np.newaxis],
        warnings=header.warnings + chosen.warnings + ((MORE_BYTES,) if more else ()),
        file_shape=None if shape == header.shape else header.shape,
        nifti_geometry=header.geometry,
    )


def read_nifti_header(path: Path) -> NiftiHeader:
    """Return what the header of the NIfTI file at ``path`` says; no voxel is read.

    Raises:
        FormatError: If it is not NIfTI, or has an unsupported type or dimension.
        CorruptFileError: If it is damaged or cut short.
        GeometryError: If its affine is not usable.
    """
    with _open_stream(path) as (_, stream):
        return parse_header(stream.read(HEADER_BYTES), path)


def write_nifti(
    path: Path,
    array: npt.NDArray[Any],
    *,
    geometry: Mapping[str, tuple[float, ...]] | None,
    extension: bytes = b"",
    slope: float = 1.0,
    root: Path | None = None,
) -> None:
    """Write ``array`` with the geometry fields of its source, atomically.

    Args:
        path: File to write, ``.nii`` or ``.nii.gz``.
        array: Numbers to store, ``(*spatial)``, uint8 or uint16.
        geometry: Fields as :func:`read_nifti` found them; None states spacing 1 and no position.
        extension: Text of a header extension; if empty, there is none.
        slope: Header field: the factor that readers multiply the stored numbers by.
        root: Folder above it, below which no link is followed; None means the file's own folder.

    Raises:
        OutputError: If the file cannot be written.
    """
    fields = dict(geometry or {})
    is_second = fields.pop("sizeof_hdr", (348.0,)) == (540.0,) or max(array.shape) >= 2**15
    header = _nib.Nifti2Header() if is_second else _nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    pixdim = fields.pop("pixdim", (1.0, 1.0, 1.0, 1.0))
    header["pixdim"][:4] = pixdim
    for name, values in fields.items():
        header[name] = values if len(values) > 1 else values[0]
    header["descrip"] = MARK
    if extension:
        header.extensions.append(_nib.nifti1.Nifti1Extension(0, extension))
    # An image without its own affine leaves the fields of the header unchanged.
    kind = _nib.Nifti2Image if is_second else _nib.Nifti1Image
    image = kind(array, None, header)
    image.header.set_slope_inter(slope, 0.0)
    # nibabel changes spacings; readers that use them would place mask and image differently.
    image.header["pixdim"][:4] = pixdim
    with atomic_file(path, root) as file:
        if path.name.lower().endswith(".gz"):
            # The file holds no name and no time, so the same mask makes the same bytes.
            with gzip.GzipFile(
                filename="", mode="wb", fileobj=file, compresslevel=3, mtime=0
            ) as gz:
                image.to_stream(gz)
        else:
            image.to_stream(file)


_Stream = BinaryIO | Inflated
"""Source of bytes: a file, or its decompressed content."""


@contextmanager
def _open_stream(path: Path) -> Iterator[tuple[BinaryIO, _Stream]]:
    """Open ``path``; yield the file, and the file again or, for gzip, its decompressed content."""
    with open_regular(path) as file:
        is_gzip = file.read(2) == _GZIP_MARK
        file.seek(0)
        try:
            yield file, Inflated(file) if is_gzip else file
        except DAMAGE as error:
            msg = f"{path} must be a whole gzip file; it is damaged or cut short. Copy it again."
            raise CorruptFileError(msg) from error


def _check_size(header: NiftiHeader, end: int, path: Path, most: int) -> None:
    """Refuse a file that cannot hold the numbers it claims, before memory is used for them."""
    if end > most:
        size = " x ".join(str(length) for length in header.shape + header.volumes)
        msg = f"{path} must hold {size} voxels of {header.dtype.itemsize} bytes; it is cut short."
        raise CorruptFileError(msg)


def _read_voxels(
    stream: _Stream, begun: bytes, header: NiftiHeader, chosen: Chosen, path: Path
) -> npt.NDArray[Any]:
    """Return the voxels of one volume in file order, converted piece by piece.

    Memory for the whole volume is only reserved here; the system provides it as it is filled, so a
    file that ends early costs no more than it holds.
    """
    voxels: npt.NDArray[Any] = np.empty(chosen.size, dtype=chosen.dtype)
    for start in range(0, chosen.size, CHUNK_VOXELS):
        size = min(CHUNK_VOXELS, chosen.size - start) * header.dtype.itemsize
        data = begun[:size] + stream.read(max(0, size - len(begun)))
        begun = begun[size:]
        if len(data) < size:
            msg = f"{path} must hold {chosen.size} voxels; it ends earlier. Copy it again."
            raise CorruptFileError(msg)
        stored = np.frombuffer(data, dtype=header.dtype)
        voxels = put_piece(voxels, start, _scaled(stored, header), path)
    return voxels


def _scaled(stored: npt.NDArray[Any], header: NiftiHeader) -> npt.NDArray[Any]:
    if header.scaling is None:
        return stored
    slope, intercept = header.scaling
    with np.errstate(over="ignore", invalid="ignore"):  # overflows are refused as infinite
        return stored.astype(np.float64) * slope + intercept


def _skip(stream: _Stream, offset: int, position: int, path: Path) -> None:
    """Read on to ``offset``, through header extensions or other volumes, piece by piece."""
    while position < offset:
        part = stream.read(min(offset - position, 2**20))
        if not part:
            msg = f"{path} must have voxels at byte {offset}; it ends earlier. Copy it again."
            raise CorruptFileError(msg)
        position += len(part)
