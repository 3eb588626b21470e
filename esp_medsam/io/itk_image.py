"""Volumes that ITK reads: NRRD (``.nrrd``, ``.nhdr``) and MetaImage (``.mha``, ``.mhd``).

ITK trusts headers: it allocates the memory they claim, and leaves what compressed data do not fill
uninitialized. So header and data are checked here first, and what ITK understood afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import FormatError, GeometryError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.io.itk_data import check_same, stored_numbers
from esp_medsam.io.itk_header import ItkHeader, read_block
from esp_medsam.io.metaimage_header import parse_metaimage
from esp_medsam.io.nrrd_header import parse_nrrd
from esp_medsam.io.voxels import CHUNK_VOXELS, Chosen, choose_frame, put_piece
from esp_medsam.memory import NOTHING, Beside


NRRD_SUFFIXES = (".nrrd", ".nhdr")


def read_itk(path: Path, frame: int | None = None, beside: Beside = NOTHING) -> Image:
    """Return the volume in the NRRD or MetaImage file at ``path``.

    Integers stay integers (64-bit ones that fit become int32); other types become float32. A 2-D
    image becomes a stack of one slice.

    Args:
        path: The file; its data may lie in one other file beside it.
        frame: Which volume of a file with several, as stored, from 0; no effect on other files.
        beside: What must fit in memory in addition to the volume.

    Raises:
        FormatError: If the file has neither format, or an unsupported type, dimension or encoding.
        OptionError: If it has no volume of number ``frame``.
        CorruptFileError: If it is damaged or cut short.
        TooLargeError: If it claims more than fits in memory.
        GeometryError: If it does not say where its voxels lie.
        NonFiniteError: If it holds NaN or infinity.
    """
    header = read_itk_header(path)
    # ITK's image of the whole file, its array, and the compressed data of both.
    theirs = 2 * header.count * header.dtype.itemsize
    packed = 0 if header.encoding == "raw" else header.data_path.stat().st_size
    chosen = choose_frame(
        frame, header.shape, (header.frames,), header.dtype, path, beside, reading=theirs + packed
    )
    stored = stored_numbers(header, path)
    array = _read(header, path)
    check_same(array, header, stored, path)
    pixels = _converted(array[..., chosen.number], chosen, path)
    shape = header.shape if len(header.shape) == 3 else (*header.shape, 1)
    return Image(
        path=os.fspath(path),
        name=path.name,
        grid=Grid(shape=shape, affine=header.affine),
        pixels=pixels.reshape(shape, order="F")[np.newaxis],
        warnings=header.warnings + chosen.warnings + stored.warnings,
        file_shape=None if shape == header.shape else header.shape,
    )


def files_of_itk(path: Path) -> tuple[Path, ...]:
    """Return the file and, if its voxels are in another file, that file.

    Raises:
        EspMedSamError: If the header cannot be read.
    """
    return tuple(dict.fromkeys((path, read_itk_header(path).data_path)))


def read_itk_header(path: Path) -> ItkHeader:
    """Return what the header of an NRRD or MetaImage file says; no voxel is read.

    Raises:
        EspMedSamError: If the header cannot be read.
    """
    parse = parse_nrrd if path.suffix.lower() in NRRD_SUFFIXES else parse_metaimage
    return parse(read_block(path), path)


def _read(header: ItkHeader, path: Path) -> npt.NDArray[Any]:
    """Return all numbers as ITK reads them, ``(*shape, frames)``."""
    import SimpleITK  # here, because it costs those who read other formats a fifth of a second

    sitk: Any = SimpleITK  # only partly typed, so each call would need an exception
    try:
        image = sitk.ReadImage(os.fspath(path))
        array = sitk.GetArrayFromImage(image)  # a copy, axes reversed, components last
    except (RuntimeError, TypeError) as error:
        if "allocate memory" in str(error):
            raise MemoryError from error
        msg = (
            f"{path} must be {header.kind} that ITK reads alike; ITK reads it otherwise. Save "
            "it again."
        )
        raise FormatError(msg) from error
    axes = image.GetDimension()
    array = array.transpose(*reversed(range(axes)), *range(axes, array.ndim))
    whole = (*header.shape, header.frames)
    if array.shape not in (whole, header.shape) or array.size != header.count:
        msg = f"{path} must be one volume to ITK too; ITK reads shape {array.shape}."
        raise FormatError(msg)
    _check_understood(_affine(image), header, path)
    return np.asarray(array).reshape(whole)


def _affine(image: Any) -> npt.NDArray[np.float64]:
    """Return ITK's affine, ``(n + 1, n + 1)``, converted from LPS to RAS."""
    axes = image.GetDimension()
    affine = np.eye(axes + 1)
    direction = np.array(image.GetDirection()).reshape(axes, axes)
    affine[:axes, :axes] = direction * np.array(image.GetSpacing())
    affine[:axes, axes] = image.GetOrigin()
    affine[:2] *= -1
    return affine


def _check_understood(theirs: npt.NDArray[Any], header: ItkHeader, path: Path) -> None:
    """Require that ITK places voxels where the header says, so that no field was misread."""
    axes = min(len(theirs) - 1, len(header.shape))
    ours = header.affine[np.ix_([*range(axes), 3], [*range(axes), 3])]
    theirs = theirs[np.ix_([*range(axes), -1], [*range(axes), -1])]
    if not np.allclose(ours, theirs, rtol=1e-6, atol=1e-6):
        msg = f"{path} must place its voxels unambiguously; ITK reads its header otherwise."
        raise GeometryError(msg)


def _converted(volume: npt.NDArray[Any], chosen: Chosen, path: Path) -> npt.NDArray[Any]:
    """Return the numbers in file order, converted piece by piece to the type of the result."""
    flat = volume.reshape(-1, order="F")
    voxels: npt.NDArray[Any] = np.empty(chosen.size, dtype=chosen.dtype)
    for start in range(0, chosen.size, CHUNK_VOXELS):
        voxels = put_piece(voxels, start, flat[start : start + CHUNK_VOXELS], path)
    return voxels
