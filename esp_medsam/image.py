"""The records that travel with an image and with its segmentation: numpy only, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt


IMAGE_KEY = "esp_medsam_image"
"""Key of a MetaTensor's meta under which the :class:`Image`, without its pixels, is kept."""

SEGMENTATION_KEY = "esp_medsam_segmentation"
"""Key of a MetaTensor's meta under which the :class:`Segmentation` is kept."""


_Self = TypeVar("_Self", bound="_Record")


class _Record:
    """What MONAI's ``decollate_batch`` takes for a scalar: it hands a list of them out one by one.

    It refuses other objects, and it runs inside MONAI's evaluator, where nothing can be put in its
    place.
    """

    ndim: ClassVar[int] = 0

    def item(self: _Self) -> _Self:
        """Return the record itself, as ``item`` of a scalar returns its value."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Image(_Record):
    """One image or volume, and all that is known of where it lies and comes from.

    Attributes:
        path: File it was read from, as the user wrote it.
        name: What its outputs are called, before ``_seg``.
        relative_dir: Folder of the file below the input root; empty for the root itself.
        modality: Name in the table of modalities.
        modality_origin: Who said so: ``"user"`` or ``"dicom"``.
        spatial_shape: Shape of ``pixels`` without its channels.
        pixels: ``(C, *spatial)`` with C 1 or 3, in the type the file holds; spatial axes are
            ``(rows, columns)`` of a photograph as shown upright, or the three axes of a volume as
            stored. None where the pixels are carried apart, in a MetaTensor.
        affine: ``(4, 4)`` float64, voxel index to RAS+ in mm; None where the file states no
            geometry, as photographs do not.
        unit: ``"HU"`` where pixel values are Hounsfield units, else None.
        intensity_range: Values to be shown as 0 and 1, as measured by a transform; None before.
        warnings: What a user should know about how the file was read, a sentence each.
        file_shape: Shape that an output file has, where it is not ``spatial_shape``: a 2-D NIfTI
            is held as a stack of one slice, and is written 2-D.
        nifti_geometry: The geometry fields of the NIfTI header as stored, which an output
            repeats, so that any reader lays the two over each other; None for other formats.
    """

    path: str
    name: str
    modality: str
    spatial_shape: tuple[int, ...]
    pixels: npt.NDArray[Any] | None = None
    relative_dir: str = ""
    modality_origin: str = "user"
    affine: npt.NDArray[np.float64] | None = None
    unit: str | None = None
    intensity_range: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()
    file_shape: tuple[int, ...] | None = None
    nifti_geometry: Mapping[str, tuple[float, ...]] | None = None

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Distance in mm between neighbors along each array axis; None without an affine."""
        if self.affine is None:
            return None
        columns = self.affine[:3, : len(self.spatial_shape)]
        return tuple(float(length) for length in np.linalg.norm(columns, axis=0))


@dataclass(frozen=True, kw_only=True)
class Segmentation(_Record):
    """What was segmented, in the order of the channels.

    Attributes:
        targets: Names, in table order.
        confidence: Mean foreground probability inside each mask, in [0.5, 1]; None where empty.
        warnings: What a user should know about the result, a sentence each.
    """

    targets: tuple[str, ...]
    confidence: tuple[float | None, ...]
    warnings: tuple[str, ...] = ()


def image_of(meta: Mapping[Any, Any]) -> Image:
    """Return the image record kept in ``meta``, plain or of a batch of one.

    Raises:
        KeyError: If ``meta`` holds no record, as when another loader read the image.
        ValueError: If ``meta`` is that of a batch of several.
    """
    record = _single(meta, IMAGE_KEY)
    if not isinstance(record, Image):
        msg = f"meta[{IMAGE_KEY!r}] must hold an Image; got {type(record).__name__}."
        raise TypeError(msg)
    return record


def segmentation_of(meta: Mapping[Any, Any]) -> Segmentation:
    """Return the segmentation record kept in ``meta``, plain or of a batch of one.

    Raises:
        KeyError: If ``meta`` holds no record, as before inference.
        ValueError: If ``meta`` is that of a batch of several.
    """
    record = _single(meta, SEGMENTATION_KEY)
    if not isinstance(record, Segmentation):
        msg = f"meta[{SEGMENTATION_KEY!r}] must hold a Segmentation; got {type(record).__name__}."
        raise TypeError(msg)
    return record


def _single(meta: Mapping[Any, Any], key: str) -> Any:
    """Return ``meta[key]``, taken out of the list that a batch of one keeps it in."""
    if key not in meta:
        msg = f"meta must hold {key!r}; load images with esp_medsam.io.LoadMedicalImaged."
        raise KeyError(msg)
    value = meta[key]
    if not isinstance(value, list | tuple):
        return value
    if len(value) != 1:
        msg = f"meta[{key!r}] must be that of one image; got a batch of {len(value)}."
        raise ValueError(msg)
    return value[0]
