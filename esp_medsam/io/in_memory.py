"""Images that lie in memory, written to a file so that the readers of files read them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image

from esp_medsam.dicom.dataset_file import write_dataset
from esp_medsam.errors import FormatError, GeometryError


NAME = "image"
"""What an image is called that has no file."""

_PICTURE_TYPES = {"uint8": ".png", "uint16": ".png", "float32": ".tif"}
"""Types of the values of pictures, and what holds them."""

_VOLUME_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")

_nib: Any = nibabel  # it annotates only some of its functions


class Scratch:
    """A folder for files of one image, gone with the last reference to it.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="esp-medsam-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def write_in_memory(source: Any, folder: Path, affine: npt.ArrayLike | None = None) -> Path:
    """Write an image into a folder, as it is.

    Args:
        source: An image of nibabel or SimpleITK, a dataset of pydicom, or an array: ``(rows,
            columns)`` or ``(rows, columns, 3)`` of a picture, three axes of a volume.
        folder: Where to.
        affine: Of an array of a volume: ``(4, 4)``, from voxel index to RAS+ in mm.

    Returns:
        The file.

    Raises:
        FormatError: If the source is of no such kind, or of a type that its file cannot hold.
        GeometryError: If an array of a volume has no affine, or something else has one.
    """
    package = type(source).__module__.partition(".")[0]
    if isinstance(source, np.ndarray):
        return _write_array(source, folder, affine)
    if affine is not None:
        msg = f"affine belongs to arrays; a {type(source).__name__} says itself where it lies."
        raise GeometryError(msg)
    if package == "nibabel":
        path = folder / f"{NAME}.nii.gz"
        _nib.save(source, path)
    elif package == "SimpleITK":
        import SimpleITK

        path = folder / f"{NAME}.nrrd"
        SimpleITK.WriteImage(source, str(path))
    elif package == "pydicom":
        path = folder / f"{NAME}.dcm"
        write_dataset(source, path)
    else:
        msg = (
            "source must be a path, an image of nibabel or SimpleITK, a dataset of pydicom or a "
            f"numpy array; got {type(source).__name__}."
        )
        raise FormatError(msg)
    return path


def _write_array(array: npt.NDArray[Any], folder: Path, affine: npt.ArrayLike | None) -> Path:
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3 and affine is None)
    if is_picture and affine is None:
        return _write_picture(array, folder)
    if array.ndim != 3:
        msg = f"source must be an array of two or three axes; got the shape {array.shape}."
        raise FormatError(msg)
    if affine is None:
        msg = (
            f"affine must be given for an array of a volume, of shape {array.shape}: which way its "
            "axes run decides what is left and right. For axes to right, front and head it is "
            "numpy.diag([*spacing, 1])."
        )
        raise GeometryError(msg)
    placed = np.asarray(affine, np.float64)
    if placed.shape != (4, 4) or not np.isfinite(placed).all():
        msg = f"affine must be 4 x 4 finite numbers; got the shape {placed.shape}."
        raise GeometryError(msg)
    path = folder / f"{NAME}.nii.gz"
    _nib.save(_nib.Nifti1Image(_holdable(array), placed), path)
    return path


def _write_picture(array: npt.NDArray[Any], folder: Path) -> Path:
    ending = _PICTURE_TYPES.get(array.dtype.name)
    if ending is None or (array.ndim == 3 and array.dtype != np.uint8):
        msg = (
            "source must be an array of uint8, uint16 or float32 as a gray picture, and of uint8 "
            f"as one in color; got {array.dtype} of shape {array.shape}."
        )
        raise FormatError(msg)
    path = folder / f"{NAME}{ending}"
    PIL.Image.fromarray(np.ascontiguousarray(array)).save(path)
    return path


def _holdable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same numbers in a type that NIfTI has and readers take."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.itemsize == 8 and array.dtype.kind in "iu":
        narrow = array.astype(np.int32)
        if (narrow == array).all():
            return narrow
    if array.dtype.name not in _VOLUME_TYPES:
        msg = f"source must be an array of numbers that int32 or float holds; got {array.dtype}."
        raise FormatError(msg)
    return array
