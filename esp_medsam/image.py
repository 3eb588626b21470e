"""Records that travel with an image and its segmentation (numpy only, no file access)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy.typing as npt

from esp_medsam.errors import GeometryError, ModalityError
from esp_medsam.grid import Grid
from esp_medsam.identity import Identity


IMAGE_KEY = "esp_medsam_image"
"""Key of a MetaTensor's meta under which the :class:`Image`, without its pixels, is kept."""

SEGMENTATION_KEY = "esp_medsam_segmentation"
"""Key of a MetaTensor's meta under which the :class:`Segmentation` is kept."""

FOREGROUND = 128
"""Least uint8 probability of the foreground: round(255 p) for p = 0.5."""


_Self = TypeVar("_Self", bound="_Record")


class _Record:
    """A record that MONAI's ``decollate_batch`` treats as a scalar: it splits a list of them.

    It refuses other objects, and it runs inside MONAI's evaluator, where nothing can be put in its
    place.
    """

    ndim: ClassVar[int] = 0

    def item(self: _Self) -> _Self:
        """Return the record itself, as ``item`` of a scalar returns its value."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInstance:
    """The DICOM instance, and frame of it, that one slice was read from.

    Attributes:
        path: File it was read from.
        sop_class_uid: Its SOP Class UID.
        sop_instance_uid: Its SOP Instance UID.
        frame: Number of the frame in it, from 1; None where it has but one image.
        series_uid: Its own Series Instance UID where the user joined several; None where it is the
            image's.
    """

    path: str
    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None
    series_uid: str | None = None


@dataclass(frozen=True, kw_only=True)
class UltrasoundRegion:
    """A region that an ultrasound machine calibrated (0018,6011), in pixels, ends included.

    Attributes:
        rows: First and last row.
        columns: First and last column.
        data_type: Region Data Type (0018,6014): 1 tissue, 2 color flow, 3 and above Doppler
            spectra, motion curves, text and graphs.
        spatial_format: Region Spatial Format (0018,6012): 1 is 2-D, 2 M-mode, 3 spectral, 4 wave.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    data_type: int
    spatial_format: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Image(_Record):
    """One image or volume, and all that is known of where it lies and comes from.

    Attributes:
        path: File it was read from, as the user wrote it.
        name: What its outputs are called, before ``_seg``.
        relative_dir: Folder of the file below the input root; empty for the root itself.
        modality: Name in the table of modalities; None until it is settled, see
            :func:`esp_medsam.io.settle_modality`.
        modality_origin: Who said so: ``"user"``, ``"dicom"``, or ``"forced"`` by the user against
            what DICOM says; None until then.
        grid: Where its voxels lie, and the axes of its array.
        pixels: ``(C, *grid.shape)`` with C 1 or 3, in the type the file holds. None where the
            pixels are carried apart, in a MetaTensor.
        unit: ``"HU"`` where pixel values are Hounsfield units, else None.
        unit_origin: Who said so: ``"dicom"``, ``"user"``, or ``"assumed"`` of a CT whose format
            states no unit; None without one.
        other_unit: What speaks against Hounsfield units in a DICOM file, in words.
        intensity_range: Values to be shown as 0 and 1, as measured by a transform; None before.
        warnings: What a user should know about how the file was read, a sentence each.
        file_shape: Shape that an output file has, where it is not the grid's: a 2-D NIfTI
            is held as a stack of one slice, and is written 2-D.
        nifti_geometry: The geometry fields of the NIfTI header as stored, which an output
            repeats, so that any reader lays the two over each other; None for other formats.
        dicom_modality: DICOM's Modality (0008,0060); None for other formats.
        sources: The DICOM instance of each slice along the last axis, or of the one image.
        volume: Name of the DICOM volume, made of its UIDs; None for other formats.
        study_uid: DICOM's Study Instance UID.
        series_uid: DICOM's Series Instance UID.
        frame_of_reference_uid: What DICOM's positions count in; None where they count in nothing.
        joined: What its files keep apart and the user joined, such as ``"series"``.
        window: Values that the file itself asks to be shown as black and white; None without.
        inverted: Whether low values are shown white (MONOCHROME1).
        ultrasound_regions: Regions that the machine calibrated.
        measured: What transforms measured on the whole image and will apply to each slice.
        identity: Its files as they were before they were read; None where no file was read.
    """

    path: str
    name: str
    grid: Grid
    modality: str | None = None
    pixels: npt.NDArray[Any] | None = None
    relative_dir: str = ""
    modality_origin: str | None = None
    unit: str | None = None
    unit_origin: str | None = None
    other_unit: str = ""
    intensity_range: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()
    file_shape: tuple[int, ...] | None = None
    nifti_geometry: Mapping[str, tuple[float, ...]] | None = None
    dicom_modality: str | None = None
    sources: tuple[SourceInstance, ...] = ()
    volume: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    frame_of_reference_uid: str | None = None
    joined: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    inverted: bool = False
    ultrasound_regions: tuple[UltrasoundRegion, ...] = ()
    measured: tuple[Any, ...] = ()
    identity: Identity | None = None

    @property
    def is_volume(self) -> bool:
        """Whether it has three axes."""
        return self.grid.is_volume

    @property
    def is_dicom(self) -> bool:
        """Whether it is of DICOM files."""
        return bool(self.sources)


@dataclass(frozen=True, kw_only=True)
class Segmentation(_Record):
    """What was segmented, in the order of the channels.

    Attributes:
        targets: Names, in table order.
        confidence: Mean foreground probability inside each mask, in [0.5, 1]; None where empty.
        voxels: How many voxels, or pixels, each has in the labelmap; empty before there is one.
        plane: ``axial``, ``coronal`` or ``sagittal``, how the slices lay that were segmented; None
            of a picture, and where nothing positions them.
        warnings: What a user should know about the result, a sentence each.
        expected_dice: The Dice that masks of such a confidence have on average; empty, or None of a
            target, where it is not known.
        plausibility: How far the image is from those of its modality that the weights were trained
            on; 1 is the limit that few of these exceed, None where nothing is known of them.
    """

    targets: tuple[str, ...]
    confidence: tuple[float | None, ...]
    voxels: tuple[int, ...] = ()
    plane: str | None = None
    warnings: tuple[str, ...] = ()
    expected_dice: tuple[float | None, ...] = ()
    plausibility: float | None = None


def size_text(voxels: int, ml: float | None) -> str:
    """Return how much was found in words: ``not found``, ``1,126.8 ml``, ``3,071 pixels``."""
    if not voxels:
        return "not found"
    return f"{voxels:,} pixels" if ml is None else ml_text(ml)


def ml_text(ml: float) -> str:
    """Return a volume in words: ``1,126.8 ml``, ``0.05 ml``."""
    return f"{ml:,.1f} ml" if ml >= 1 else f"{ml:.2g} ml"


def check_on_grid(image: Image, shape: Sequence[int]) -> None:
    """Refuse a mask that does not have the shape of its image.

    Raises:
        GeometryError: If it does not.
    """
    if tuple(shape) != tuple(image.grid.shape):
        grid = tuple(image.grid.shape)
        msg = f"A mask must lie on the grid of {image.path}, {grid}; got {tuple(shape)}."
        raise GeometryError(msg)


def modality_of(image: Image) -> str:
    """Return the modality of an image, which must be settled: nothing here may guess it.

    Raises:
        ModalityError: If it is not.
    """
    if image.modality is None:
        msg = f"modality must be known for {image.path}; it was not settled."
        raise ModalityError(msg)
    return image.modality


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
        msg = f"meta[{key!r}] must belong to one image; got a batch of {len(value)}."
        raise ValueError(msg)
    return value[0]
