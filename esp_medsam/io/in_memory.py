"""Write in-memory images to a file, so that the usual readers check them."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image

from esp_medsam.dicom.dataset_file import is_dataset, write_dataset
from esp_medsam.errors import EspMedSamError, FormatError, GeometryError, OptionError, quoted
from esp_medsam.io.placing import UNSTATED, Affine, Placing


NAME = "image"
"""Name of an image that has no file."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

_PICTURE_TYPES = {"uint8": ".png", "uint16": ".png", "float32": ".tif"}
"""Value types of pictures, and the file ending for each."""

_VOLUME_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")

_nib: Any = nibabel  # nibabel annotates only some of its functions


class Scratch:
    """A folder for the files of one image, removed with the last reference to it.

    Attributes:
        path: Its path; other users cannot read it.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="esp-medsam-"))
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process must not remove its parent's folder
        shutil.rmtree(folder, ignore_errors=True)


def write_in_memory(
    source: Any, folder: Path, *, placing: Placing = UNSTATED, name: str = NAME
) -> Path:
    """Write an image into a folder, with its values unchanged.

    Args:
        source: A nibabel or SimpleITK image, a pydicom dataset or a list of the datasets of a
            series, or an array: ``(rows, columns)`` or ``(rows, columns, 3)`` for a picture, three
            axes for a volume.
        folder: Folder to write into.
        placing: Where an array of a volume lies in space.
        name: Name of the file, without its ending.

    Returns:
        Path of the file; for a list, path of the folder.

    Raises:
        FormatError: If the source is of no such kind, or cannot be written to a file.
        GeometryError: If the placing of a volume array is missing, or given for another source.
        OptionError: If the name is not a valid file name on every system.
    """
    if not _NAME.fullmatch(str(name)):
        msg = (
            "name must consist of letters, digits and . _ -, and begin with a letter or "
            f"digit; got {quoted(name)}."
        )
        raise OptionError(msg)
    if placing.given and not isinstance(source, np.ndarray):
        msg = (
            f"{placing.given[0]} must be left out unless source is a numpy array; got one with a "
            f"{type(source).__name__}."
        )
        raise GeometryError(msg)
    affine = placing.checked_affine()
    try:
        return _write(source, folder / name, affine)
    except EspMedSamError:
        raise
    except Exception as error:  # libraries raise any type, and may quote header values
        msg = (
            f"source must be an image that can be written to a file; writing this "
            f"{type(source).__name__} ended in {type(error).__name__}."
        )
        raise FormatError(msg) from error


def _write(source: Any, stem: Path, affine: Affine | None) -> Path:
    itk = sys.modules.get("SimpleITK")
    if isinstance(source, np.ndarray):
        return _write_array(source, stem, affine)
    if isinstance(source, _nib.spatialimages.SpatialImage):
        return _write_nibabel(source, stem)
    if itk is not None and isinstance(source, itk.Image):
        if source.GetDimension() == 2:
            msg = (
                "source must have three axes if it is a SimpleITK image; got two. Pass a "
                "picture as an array: SimpleITK.GetArrayFromImage(source)."
            )
            raise FormatError(msg)
        path = stem.with_name(f"{stem.name}.nrrd")
        itk.WriteImage(source, str(path))
        return path
    if is_dataset(source):
        path = stem.with_name(f"{stem.name}.dcm")
        write_dataset(source, path)
        return path
    if isinstance(source, list | tuple) and source and all(map(is_dataset, source)):
        stem.mkdir()
        for number, dataset in enumerate(source):
            write_dataset(dataset, stem / f"{number:06}.dcm")
        return stem
    msg = (
        "source must be a path, an image of nibabel or SimpleITK, a dataset of pydicom or a list "
        f"of them, or a numpy array; got {type(source).__name__}."
    )
    raise FormatError(msg)


def _write_nibabel(source: Any, stem: Path) -> Path:
    """Write a nibabel image; its header may state another type than its values have."""
    values = _holdable(np.asanyarray(source.dataobj))
    header = None
    if isinstance(source, _nib.Nifti1Pair):
        header = source.header.copy()
        header.set_data_dtype(values.dtype)
        header.set_slope_inter(1.0, 0.0)
    kind = type(source) if isinstance(source, _nib.Nifti1Image) else _nib.Nifti1Image
    path = stem.with_name(f"{stem.name}.nii.gz")
    _nib.save(kind(values, source.affine, header), path)
    return path


def _write_array(array: npt.NDArray[Any], stem: Path, affine: Affine | None) -> Path:
    if isinstance(array, np.ma.MaskedArray) or array.size == 0:
        what = "a masked array; fill its masked values" if array.size else f"shape {array.shape}"
        msg = f"source must be an array with a value everywhere; got {what}."
        raise FormatError(msg)
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3 and affine is None)
    if is_picture and affine is None:
        return _write_picture(array, stem)
    if array.ndim != 3:
        msg = f"source must be an array of two or three axes; got shape {array.shape}."
        raise FormatError(msg)
    if affine is None:
        msg = (
            "affine, or spacing and axes, must be given for the array of a volume; got none for "
            f"shape {array.shape}. They decide what is left and right."
        )
        raise GeometryError(msg)
    path = stem.with_name(f"{stem.name}.nii.gz")
    _nib.save(_nib.Nifti1Image(_holdable(array), affine), path)
    return path


def _write_picture(array: npt.NDArray[Any], stem: Path) -> Path:
    ending = _PICTURE_TYPES.get(array.dtype.name)
    if ending is None or (array.ndim == 3 and array.dtype != np.uint8):
        msg = (
            "source must be uint8, uint16 or float32 as a gray picture, or uint8 as a color "
            f"picture; got {array.dtype} of shape {array.shape}."
        )
        raise FormatError(msg)
    path = stem.with_name(f"{stem.name}{ending}")
    PIL.Image.fromarray(np.ascontiguousarray(array)).save(path)
    return path


def _holdable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same numbers in a type that NIfTI has and the readers accept."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.itemsize == 8 and array.dtype.kind in "iu":
        narrow = array.astype(np.int32)
        if (narrow == array).all():
            return narrow
    if array.dtype.name not in _VOLUME_TYPES:
        msg = f"source must be an array of numbers within int32 or float; got {array.dtype}."
        raise FormatError(msg)
    return array
