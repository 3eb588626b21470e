"""Read any supported file into an Image record, or raise one clear error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from esp_medsam.dicom import is_dicom
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    InputChangedError,
    InputNotFoundError,
    ReadError,
)
from esp_medsam.grid import Grid
from esp_medsam.identity import check_unchanged, identify
from esp_medsam.image import Image
from esp_medsam.io.dicom_image import choose_volume, read_dicom
from esp_medsam.io.itk_image import files_of_itk, read_itk, read_itk_header
from esp_medsam.io.nifti import read_nifti, read_nifti_header
from esp_medsam.io.raster import read_raster, read_raster_size
from esp_medsam.memory import NOTHING, Beside


NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES = VOLUME_SUFFIXES + RASTER_SUFFIXES
"""Endings of the files that are read, in lower case, the longer before the shorter. DICOM is told
by its content, since its files have any ending or none."""


def read(
    path: str | Path,
    *,
    volume: str | None = None,
    files: Sequence[str] | None = None,
    join: Sequence[str] = (),
    frame: int | None = None,
    beside: Beside = NOTHING,
    indices: bool = False,
) -> Image:
    """Return the image or volume at ``path`` with all that its file says.

    What it shows is not settled: see :func:`esp_medsam.io.settle_modality`.

    Args:
        path: A NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, BMP or DICOM file, or a folder with the
            files of DICOM series.
        volume: Name or Series Instance UID of the DICOM volume, where there are several.
        files: Files of a DICOM folder to take alone, as an earlier look at it found them; None
            takes all.
        join: What to join that DICOM files keep apart: ``"series"``, of lone slices;
            ``"frame_of_reference"``; ``"interleaved"``, volumes whose slices lie between one
            another.
        frame: Which volume of a 4-D file, from 0; no effect on others.
        beside: What must fit in memory beside the image.
        indices: Whether pictures with a palette keep its indices in place of its colors.

    Returns:
        The record, pixels included; ``modality`` is None, and the unit what DICOM states.

    Raises:
        OptionError: If ``join`` is something else, or one volume of several must be chosen.
        InputNotFoundError: If there is no such file.
        InputChangedError: If it was written to while it was read.
        FormatError: If the file's format, type or dimension is not read.
        CorruptFileError: If the file is damaged, empty or cut short.
        TooLargeError: If it claims more than fits in memory.
        GeometryError: If its geometry is not usable.
        NonFiniteError: If it holds NaN or infinity.
    """
    path = Path(path)
    if not _may_be_dicom(path):
        image = _read_file(path, frame, beside, indices=indices)
    else:
        if files is None and path.is_dir():
            # Which files are a volume's is known once all headers are; its own are then read anew.
            chosen = choose_volume(path, volume, join=join)
            volume, files = chosen.name, sorted({part.source.path for part in chosen.slices})
        identity = identify([path] if files is None else files)
        image = read_dicom(path, volume=volume, files=files, join=join, beside=beside)
        image = replace(image, identity=identity)
        _check_same(image, volume)
    assert image.identity is not None, "it was taken before the image was read"
    check_unchanged(image.identity)
    return image


def _may_be_dicom(path: Path) -> bool:
    """Whether ``path`` is a folder, or a file that is DICOM, whatever its ending."""
    try:
        return path.is_dir() or (path.is_file() and is_dicom(path))
    except OSError:  # told with its reason where the file is opened
        return False


def _read_file(path: Path, frame: int | None, beside: Beside, *, indices: bool) -> Image:
    """Return what a file says that is not DICOM, read by the format that its ending says."""
    with _readable(path):
        _check_file(path)
        identity = identify(files_of(path))
        if _suffix(path) in NIFTI_SUFFIXES:
            image = read_nifti(path, frame, beside)
        elif is_volume(path):
            image = read_itk(path, frame, beside)
        else:
            image = read_raster(path, beside, indices=indices)
    return replace(image, name=name_of(path), identity=identity)


def read_grid(path: str | Path) -> Grid | None:
    """Return the grid that the header of a file states, without its pixels.

    Cheap, and so the first of two looks: pictures may turn out to be turned, and what is damaged
    behind the header is not seen.

    Returns:
        The grid; None of DICOM, and of files of several volumes, which only reading tells.

    Raises:
        EspMedSamError: If there is no such file, or its header cannot be read.
    """
    path = Path(path)
    if _may_be_dicom(path):
        return None
    shape: tuple[int, ...]
    with _readable(path):
        _check_file(path)
        if not is_volume(path):
            shape, affine, volumes = read_raster_size(path), None, 1
        elif _suffix(path) in NIFTI_SUFFIXES:
            nifti = read_nifti_header(path)
            shape, affine, volumes = nifti.shape, nifti.affine, math.prod(nifti.volumes)
        else:
            itk = read_itk_header(path)
            shape, affine, volumes = itk.shape, itk.affine, itk.frames
    if volumes != 1:
        return None
    if affine is not None and len(shape) == 2:
        shape = (*shape, 1)
    return Grid(shape=shape, affine=affine)


def files_of(path: str | Path) -> tuple[Path, ...]:
    """Return the files that an image is read from: its own, and one that holds its voxels.

    Raises:
        EspMedSamError: If its header, which names the latter, cannot be read.
    """
    path = Path(path)
    if _suffix(path) not in ITK_SUFFIXES:
        return (path,)
    with _readable(path):
        return files_of_itk(path)


def name_of(path: str | Path) -> str:
    """Return the file's name without the ending that says its format: what outputs are called."""
    path = Path(path)
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def is_image(path: str | Path) -> bool:
    """Whether the ending of ``path`` says a format that is read here."""
    return bool(_suffix(Path(path)))


def is_volume(path: str | Path) -> bool:
    """Whether the ending of ``path`` says a format of volumes, not of pictures."""
    return _suffix(Path(path)) in VOLUME_SUFFIXES


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return next((s for s in SUFFIXES if name.endswith(s) and len(name) > len(s)), "")


def _check_file(path: Path) -> None:
    """Refuse what is no file, or of no format that is read."""
    if not path.exists():
        msg = f"{path} must be a file; there is none."
        raise InputNotFoundError(msg)
    if not path.is_file():
        msg = f"{path} must be one file; it is a folder or a device."
        raise FormatError(msg)
    if not _suffix(path):
        msg = f"{path} must end in one of {', '.join(SUFFIXES)}."
        raise FormatError(msg)
    if path.stat().st_size == 0:
        msg = f"{path} must hold an image; it is empty (0 bytes). Copy it again."
        raise CorruptFileError(msg)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be read into an error of ours."""
    try:
        yield
    except EspMedSamError:
        raise
    except OSError as error:
        msg = f"{path} must be readable; got: {error.strerror or type(error).__name__}."
        raise ReadError(msg) from error


def _check_same(image: Image, volume: str | None) -> None:
    """Refuse DICOM files that are no longer those that an earlier look found to be a volume."""
    assert image.identity is not None, "it was just taken"
    held = {file.path for file in image.identity.files}
    names = {image.series_uid or ""}
    for source in image.sources:  # pictures are called by their instance
        names.add(source.sop_instance_uid or Path(source.path).stem)
    is_named = volume is None or any(f"{volume}_".startswith(f"{name}_") for name in names)
    if not is_named or not held.issuperset(source.path for source in image.sources):
        msg = (
            f"{image.path} must not change between the time it is looked at and the time it is "
            f"read; the files of {volume} hold another volume now. Run again."
        )
        raise InputChangedError(msg)
