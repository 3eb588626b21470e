"""One way in: a path becomes an Image record, or one clear error."""

from __future__ import annotations

import os
from pathlib import Path

from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    InputNotFoundError,
    OptionError,
    ReadError,
)
from esp_medsam.image import Image
from esp_medsam.io.content import Content
from esp_medsam.io.nifti import read_nifti
from esp_medsam.io.raster import read_raster
from esp_medsam.modality import ModalityTable


NIFTI_SUFFIXES = (".nii.gz", ".nii")
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SUFFIXES = NIFTI_SUFFIXES + RASTER_SUFFIXES
"""Endings of the files that are read, in lower case, the longer before the shorter."""

CT_INPUTS = ("hu", "windowed")
"""What a user may say of CT values: Hounsfield units, or 8-bit after some window."""


def read(path: str | Path, *, modality: str, table: ModalityTable, ct_input: str = "hu") -> Image:
    """Return the image or volume at ``path`` with all that its file says.

    Args:
        path: A NIfTI (``.nii``, ``.nii.gz``), PNG, JPEG, TIFF or BMP file.
        modality: What it shows, a name of ``table``.
        table: Modalities at hand.
        ct_input: What CT values are: ``"hu"`` or ``"windowed"``; no effect on other modalities.

    Returns:
        The record, pixels included.

    Raises:
        ModalityError: If the modality is unknown.
        OptionError: If ``ct_input`` is neither.
        InputNotFoundError: If there is no such file.
        FormatError: If the file's format, type or dimension is not read, or a CT in it holds no
            Hounsfield units.
        CorruptFileError: If the file is damaged, empty or cut short.
        TooLargeError: If it claims more than fits in memory.
        GeometryError: If its affine is not usable.
        NonFiniteError: If it holds NaN or infinity.
    """
    name = table[modality].name
    if ct_input not in CT_INPUTS:
        msg = f"ct_input must be one of {', '.join(CT_INPUTS)}; got {ct_input!r}."
        raise OptionError(msg)
    path = Path(path)
    content = _content(path)
    notes = content.warnings
    unit = None
    if name == "ct":
        unit = "HU" if ct_input == "hu" else None
        notes += _check_ct(content, path, ct_input=ct_input)
    return Image(
        path=os.fspath(path),
        name=name_of(path),
        modality=name,
        spatial_shape=content.pixels.shape[1:],
        pixels=content.pixels,
        affine=content.affine,
        unit=unit,
        warnings=notes,
        file_shape=content.file_shape,
        nifti_geometry=content.nifti_geometry,
    )


def name_of(path: str | Path) -> str:
    """Return the file's name without the ending that says its format: what outputs are called."""
    path = Path(path)
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def is_image(path: str | Path) -> bool:
    """Whether the ending of ``path`` says a format that is read here."""
    return bool(_suffix(Path(path)))


def is_nifti(path: str | Path) -> bool:
    """Whether the ending of ``path`` says NIfTI."""
    return _suffix(Path(path)) in NIFTI_SUFFIXES


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return next((s for s in SUFFIXES if name.endswith(s) and len(name) > len(s)), "")


def _content(path: Path) -> Content:
    """Read the file by the format that its ending says; its content must agree."""
    try:
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
        return read_nifti(path) if is_nifti(path) else read_raster(path)
    except InputNotFoundError:
        raise
    except OSError as error:
        msg = f"{path} must be readable; got: {error.strerror or type(error).__name__}."
        raise ReadError(msg) from error


def _check_ct(content: Content, path: Path, *, ct_input: str) -> tuple[str, ...]:
    """Refuse CT values that cannot be what the user says they are; warn where they may not be."""
    least, most = content.pixels.min(), content.pixels.max()
    in_bytes = bool(least >= 0 and most <= 255)
    if ct_input == "windowed":
        if not in_bytes:
            msg = (
                f"{path} must hold values from 0 to 255 with ct_input windowed; "
                f"got {least:g} to {most:g}. Leave ct_input out where they are Hounsfield units."
            )
            raise FormatError(msg)
        return ()
    if content.nifti_geometry is None:
        msg = (
            f"{path} must hold Hounsfield units, which PNG, JPEG, TIFF and BMP do not. "
            "Use NIfTI, or pass ct_input windowed where it is 8-bit CT."
        )
        raise FormatError(msg)
    if in_bytes and most > least:
        note = (
            "Its values lie between 0 and 255 and were read as Hounsfield units; "
            "pass ct_input windowed where they are 8-bit CT."
        )
        return (note,)
    return ()
