"""Records carried with an image and its segmentation (numpy only, no file access)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy.typing as npt

from esp_medsam.errors import GeometryError, ModalityError
from esp_medsam.grid import Grid
from esp_medsam.identity import Identity


IMAGE_KEY = "esp_medsam_image"
"""Key in a MetaTensor's meta of the :class:`Image`, without its pixels."""

SEGMENTATION_KEY = "esp_medsam_segmentation"
"""Key in a MetaTensor's meta of the :class:`Segmentation`."""

FOREGROUND = 128
"""Lowest uint8 probability of foreground: round(255 p) for p = 0.5."""


_Self = TypeVar("_Self", bound="_Record")


class _Record:
    """A record that MONAI's ``decollate_batch`` treats as a scalar, so that it splits lists of it.

    ``decollate_batch`` refuses other objects, and MONAI's evaluator calls it where it cannot be
    replaced.
    """

    ndim: ClassVar[int] = 0

    def item(self: _Self) -> _Self:
        """Return the record itself, as ``item`` of a scalar returns its value."""
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInstance:
    """The DICOM instance, and its frame, that one slice was read from.

    Attributes:
        path: File of the instance.
        sop_class_uid: SOP Class UID.
        sop_instance_uid: SOP Instance UID.
        frame: Number of the frame in the instance, from 1; None if it has a single image.
        series_uid: Its own Series Instance UID if the user joined several series; None if it is
            that of the image.
    """

    path: str
    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None
    series_uid: str | None = None


@dataclass(frozen=True, kw_only=True)
class UltrasoundRegion:
    """A region calibrated by an ultrasound machine (0018,6011), in pixels, ends included.

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
    """One image or volume, and all that is known about its position and origin.

    Attributes:
        path: File it was read from, as the user wrote it.
        name: Base name of its outputs, before ``_seg``.
        relative_dir: Folder of the file below the input root; empty for the root itself.
        modality: Name in the table of modalities; None until it is settled, see
            :func:`esp_medsam.io.settle_modality`.
        modality_origin: Source of the modality: ``"user"``, ``"dicom"``, or ``"forced"`` if the
            user overrode DICOM; None until the modality is settled.
        grid: Positions of its voxels, and the axes of its array.
        pixels: ``(C, *grid.shape)`` with C 1 or 3, in the data type of the file. None if the
            pixels are carried separately in a MetaTensor.
        unit: ``"HU"`` if pixel values are Hounsfield units, else None.
        unit_origin: Source of the unit: ``"dicom"``, ``"user"``, or ``"assumed"`` for a CT in a
            format that states no unit; None without a unit.
        other_unit: Evidence in a DICOM file against Hounsfield units, in words.
        intensity_range: Values shown as 0 and 1, as measured by a transform; None before that.
        intensity_origin: Where these values come from, in words, such as ``window of the file``.
        warnings: What a user should know about how the file was read, one sentence each.
        file_shape: Shape of an output file, if it differs from the grid's: a 2-D NIfTI is held
            as a stack of one slice, and is written as 2-D.
        nifti_geometry: The geometry fields of the NIfTI header as stored. Outputs repeat them, so
            that any reader overlays the two correctly; None for other formats.
        dicom_modality: DICOM's Modality (0008,0060); None for other formats.
        sources: The DICOM instance of each slice along the last axis, or of the one image.
        volume: Name of the DICOM volume, made from its UIDs; None for other formats.
        study_uid: DICOM's Study Instance UID.
        series_uid: DICOM's Series Instance UID.
        frame_of_reference_uid: Frame of reference of the DICOM positions; None if there is none.
        joined: What the files keep apart and the user joined, such as ``"series"``.
        window: Values that the file specifies as black and white; None if it has no window.
        inverted: Whether low values are shown as white (MONOCHROME1).
        ultrasound_regions: Regions calibrated by the ultrasound machine.
        measured: What transforms measured on the whole image and will apply to each slice.
        identity: State of the files before they were read; None if no file was read.
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
    intensity_origin: str = ""
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
        """Whether the image has three axes."""
        return self.grid.is_volume

    @property
    def is_dicom(self) -> bool:
        """Whether the image was read from DICOM files."""
        return bool(self.sources)


@dataclass(frozen=True, kw_only=True)
class SliceJump:
    """How much a mask jumps from slice to slice and back, where it does so most.

    Attributes:
        share: Share of the mask's pixels there that jump, in [0, 1].
        index: Index of the slice, or of the first of two, along the axis of segmentation.
    """

    share: float
    index: int


@dataclass(frozen=True, kw_only=True)
class Segmentation(_Record):
    """The segmented targets, in the order of the channels.

    Attributes:
        targets: Names, in table order.
        confidence: Mean foreground probability inside each mask, in [0.5, 1]; None if empty.
        voxels: Voxels, or pixels, of each target in the labelmap; empty before there is one.
        plane: Orientation of the segmented slices, ``axial``, ``coronal`` or ``sagittal``; None
            for a picture, and if the slices have no positions.
        warnings: What a user should know about the result, one sentence each.
        expected_dice: Average Dice of masks with the same confidence; None for a target for which
            it is not known, empty if it is known for none.
        plausibility: Distance of the image from the training images of its modality; 1 is the
            limit that few training images exceed, None if nothing is known about them.
        jumps: Largest jump of each target's mask from slice to slice; None for a mask in fewer
            than three slices, empty for pictures and before there is a labelmap.
        runtime: What computed the network, with its version; None if that is not known.
    """

    targets: tuple[str, ...]
    confidence: tuple[float | None, ...]
    voxels: tuple[int, ...] = ()
    plane: str | None = None
    warnings: tuple[str, ...] = ()
    expected_dice: tuple[float | None, ...] = ()
    plausibility: float | None = None
    jumps: tuple[SliceJump | None, ...] = ()
    runtime: str | None = None


def size_text(voxels: int, ml: float | None) -> str:
    """Return the found amount in words: ``not found``, ``1,126.8 ml``, ``3,071 pixels``."""
    if not voxels:
        return "not found"
    return f"{voxels:,} pixels" if ml is None else ml_text(ml)


def ml_text(ml: float) -> str:
    """Return a volume in words: ``1,126.8 ml``, ``0.05 ml``."""
    return f"{ml:,.1f} ml" if ml >= 1 else f"{ml:.2g} ml"


def check_on_grid(image: Image, shape: Sequence[int]) -> None:
    """Refuse a mask that does not have the shape of its image.

    Raises:
        GeometryError: If the shapes differ.
    """
    if tuple(shape) != tuple(image.grid.shape):
        grid = tuple(image.grid.shape)
        msg = f"A mask must lie on the grid of {image.path}, {grid}; got {tuple(shape)}."
        raise GeometryError(msg)


def modality_of(image: Image) -> str:
    """Return the modality of an image, which must be settled because it is never guessed.

    Raises:
        ModalityError: If the modality is not settled.
    """
    if image.modality is None:
        msg = f"modality must be known for {image.path}; it was not settled."
        raise ModalityError(msg)
    return image.modality


def image_of(meta: Mapping[Any, Any]) -> Image:
    """Return the image record in ``meta``, which may be that of a batch of one.

    Raises:
        KeyError: If ``meta`` holds no record, for example because another loader read the image.
        ValueError: If ``meta`` belongs to a batch of several images.
    """
    record = _single(meta, IMAGE_KEY)
    if not isinstance(record, Image):
        msg = f"meta[{IMAGE_KEY!r}] must hold an Image; got {type(record).__name__}."
        raise TypeError(msg)
    return record


def segmentation_of(meta: Mapping[Any, Any]) -> Segmentation:
    """Return the segmentation record in ``meta``, which may be that of a batch of one.

    Raises:
        KeyError: If ``meta`` holds no record, as before inference.
        ValueError: If ``meta`` belongs to a batch of several images.
    """
    record = _single(meta, SEGMENTATION_KEY)
    if not isinstance(record, Segmentation):
        msg = f"meta[{SEGMENTATION_KEY!r}] must hold a Segmentation; got {type(record).__name__}."
        raise TypeError(msg)
    return record


def _single(meta: Mapping[Any, Any], key: str) -> Any:
    """Return ``meta[key]``, unwrapped from its list if ``meta`` belongs to a batch of one."""
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
