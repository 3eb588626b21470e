"""Read any supported file into an Image record, or raise one clear error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from esp_medsam.dicom.dicom_file import may_be_dicom
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    not_found,
)
from esp_medsam.grid import Grid
from esp_medsam.identity import check_unchanged, identify
from esp_medsam.image import Image
from esp_medsam.io.dicom_image import choose_volume, read_dicom
from esp_medsam.io.formats import ITK_SUFFIXES, NIFTI_SUFFIXES, SUFFIXES, split_suffix
from esp_medsam.io.item import Item
from esp_medsam.io.itk_image import files_of_itk, read_itk, read_itk_header
from esp_medsam.io.nifti import read_nifti, read_nifti_header
from esp_medsam.io.raster import read_raster, read_raster_size
from esp_medsam.memory import NOTHING, Beside
from esp_medsam.regular_file import unreadable


def read(
    source: str | Path | Item,
    *,
    volume: str | None = None,
    join: Sequence[str] = (),
    frame: int | None = None,
    beside: Beside = NOTHING,
    indices: bool = False,
) -> Image:
    """Return an image or volume with everything that its file states.

    Its modality is not settled: see :func:`esp_medsam.io.settle_modality`.

    Args:
        source: A NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, BMP or DICOM file, or a folder with the
            files of DICOM series; or an item that planning made of one of these.
        volume: Name or Series Instance UID of the DICOM volume, if there are several.
        join: What to join that DICOM files keep apart: ``"series"``, those of single slices;
            ``"frame_of_reference"``; ``"interleaved"``, volumes whose slices lie between each
            other.
        frame: Which volume of a 4-D file to read, from 0; no effect on other files.
        beside: What must fit in memory in addition to the image.
        indices: Whether pictures with a palette keep their indices instead of colors.

    Returns:
        The record, pixels included; ``modality`` is None, and the unit is what DICOM states.

    Raises:
        OptionError: If ``join`` is something else, or one volume of several must be chosen.
        InputNotFoundError: If there is no such file.
        InputChangedError: If the file changed while it was read.
        FormatError: If the file's format, type or dimension is not supported.
        CorruptFileError: If the file is damaged, empty or cut short.
        TooLargeError: If it claims more than fits in memory.
        GeometryError: If its geometry is not usable.
        NonFiniteError: If it holds NaN or infinity.
    """
    item = source if isinstance(source, Item) else Item.of_file(source)
    path = Path(item.path)
    if item.volume is not None or may_be_dicom(path):
        found = item.volume or choose_volume(path, volume, join)
        image = read_dicom(path, found, join=join, beside=beside)
    else:
        image = _read_file(path, frame, beside, indices=indices)
    assert image.identity is not None, "it was taken before the image was read"
    check_unchanged(image.identity)
    is_named = item.volume is not None or not image.sources  # otherwise named by its UIDs
    name = item.name if is_named else image.name
    return replace(image, name=name, relative_dir=item.relative_dir)


def _read_file(path: Path, frame: int | None, beside: Beside, *, indices: bool) -> Image:
    """Return the image of a file that is not DICOM, read in the format that its ending states."""
    with _readable(path) as suffix:
        identity = identify(files_of_itk(path) if suffix in ITK_SUFFIXES else (path,))
        if suffix in NIFTI_SUFFIXES:
            image = read_nifti(path, frame, beside)
        elif suffix in ITK_SUFFIXES:
            image = read_itk(path, frame, beside)
        else:
            image = read_raster(path, beside, indices=indices)
    return replace(image, identity=identity)


def read_grid(path: str | Path) -> Grid | None:
    """Return the grid that the header of a file states, without its pixels.

    This is cheap but preliminary: pictures may turn out to be rotated, and damage after the header
    is not noticed.

    Returns:
        The grid; None for DICOM and files of several volumes, whose grid only reading reveals.

    Raises:
        EspMedSamError: If there is no such file, or its header cannot be read.
    """
    path = Path(path)
    if may_be_dicom(path):
        return None
    with _readable(path) as suffix:
        if suffix in NIFTI_SUFFIXES:
            nifti = read_nifti_header(path)
            shape, affine, volumes = nifti.shape, nifti.affine, math.prod(nifti.volumes)
        elif suffix in ITK_SUFFIXES:
            itk = read_itk_header(path)
            shape, affine, volumes = itk.shape, itk.affine, itk.frames
        else:
            shape, affine, volumes = read_raster_size(path), None, 1
    if volumes != 1:
        return None
    if affine is not None and len(shape) == 2:
        shape = (*shape, 1)
    return Grid(shape=shape, affine=affine)


@contextmanager
def _readable(path: Path) -> Iterator[str]:
    """Yield the ending that states the format of a file; refuse files that cannot be read."""
    _, suffix = split_suffix(path)
    try:
        if not path.exists():
            raise not_found(path)
        if not path.is_file():
            msg = f"{path} must be one file; it is a folder or a device."
            raise FormatError(msg)
        if not suffix:
            msg = f"{path} must end in one of {', '.join(SUFFIXES)}."
            raise FormatError(msg)
        if path.stat().st_size == 0:
            msg = f"{path} must hold an image; it is empty (0 bytes). Copy it again."
            raise CorruptFileError(msg)
        yield suffix
    except EspMedSamError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
