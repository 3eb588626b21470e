"""Describe how one image or volume was interpreted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from esp_medsam.image import Image
from esp_medsam.orientation import display_of_image, nearly_otherwise, plane_of


_nib: Any = nibabel  # only some of its functions have annotations

_KINDS = {
    "NIfTI": (".nii", ".nii.gz"),
    "NRRD": (".nrrd", ".nhdr"),
    "MetaImage": (".mha", ".mhd"),
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """Interpretation of one image or volume.

    Attributes:
        path: The file, or the folder of a DICOM volume.
        volume: Name of the DICOM volume in the folder; None for other formats.
        kind: ``NIfTI``, ``NRRD``, ``MetaImage``, ``picture``, ``DICOM series``, ``DICOM frames``,
            ``DICOM multi-frame`` or ``DICOM image``.
        files: Number of files that it was read from.
        file: The file that it was read from; None if there are several.
        modality: Name in the table; None if neither the user nor the file states it.
        modality_origin: ``user``, ``dicom`` or ``forced``; None without a modality.
        dicom_modality: DICOM's Modality (0008,0060).
        shape: Length of each array axis.
        axes: Name of each array axis: ``rows``, ``columns``, ``slices``, ``frames``, or ``i``,
            ``j``, ``k`` for a file that only numbers its axes.
        channels: 1, or 3 for color.
        spacing: Distance in mm between neighbors along each array axis, None along an axis with
            uneven or no distance; None if the file states no spacing.
        orientation: Direction in which the index of each array axis increases, such as ``LPS``;
            None if the file states no position.
        oblique: Largest angle in degrees between an array axis and its direction, or None likewise.
        plane: Plane of a volume's slices as processed: ``axial``, ``coronal`` or ``sagittal``;
            None if they have no position.
        slices: Number of slices processed; 1 for a picture.
        dtype: Data type of the values.
        intensities: Smallest and largest value.
        unit: ``HU``, or None if values have no unit, or if it depends on an unknown modality.
        unit_origin: ``dicom``, ``user``, or ``assumed`` for a format without units, or None.
        warnings: Warnings for the user, one sentence each.
    """

    path: str
    volume: str | None
    kind: str
    files: int
    file: str | None
    modality: str | None
    modality_origin: str | None
    dicom_modality: str | None
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    channels: int
    spacing: tuple[float | None, ...] | None
    orientation: str | None
    oblique: float | None
    plane: str | None
    slices: int
    dtype: str
    intensities: tuple[float, float]
    unit: str | None
    unit_origin: str | None
    warnings: tuple[str, ...]


def describe(
    record: Image,
    *,
    slice_axis: str | None = None,
) -> Description:
    """Return the interpretation of an image.

    Args:
        record: Record of the image, including pixels.
        slice_axis: ``axial``, ``coronal`` or ``sagittal``, to override the rule.

    Raises:
        GeometryError: If the image cannot be sliced along that axis.
    """
    assert record.pixels is not None, "they are what is described"
    pixels = record.pixels
    affine = record.grid.display_affine
    display = display_of_image(record, slice_axis)
    doubt = nearly_otherwise(record) if slice_axis is None else None
    angles = None if affine is None else np.degrees(_nib.affines.obliquity(affine))
    files = sorted({source.path for source in record.sources}) or [record.path]
    return Description(
        path=record.path,
        volume=record.volume,
        kind=kind_of(record),
        files=len(files),
        file=files[0] if len(files) == 1 else None,
        modality=record.modality,
        modality_origin=record.modality_origin,
        dicom_modality=record.dicom_modality,
        shape=tuple(record.grid.shape),
        axes=_axes(record),
        channels=int(pixels.shape[0]),
        spacing=_spacing(record),
        orientation=None if affine is None else "".join(_nib.aff2axcodes(affine)),
        oblique=None if angles is None else round(float(angles.max()), 1),
        plane=plane_of(record, display),
        slices=display.count(record.grid.shape),
        dtype=pixels.dtype.name,
        intensities=(pixels.min().item(), pixels.max().item()),
        unit=record.unit,
        unit_origin=record.unit_origin,
        warnings=(*record.warnings, *([doubt] if doubt else ())),
    )


def kind_of(record: Image) -> str:
    """Return the kind of file, or of DICOM object, that an image was read from."""
    if not record.sources:
        name = record.path.lower()
        return next((kind for kind, ends in _KINDS.items() if name.endswith(ends)), "picture")
    if not record.grid.is_volume or len(record.sources) == 1:
        return "DICOM image"
    if record.grid.display_affine is None:
        return "DICOM frames"
    instances = {source.sop_instance_uid for source in record.sources}
    return "DICOM series" if len(instances) > 1 else "DICOM multi-frame"


def _axes(record: Image) -> tuple[str, ...]:
    if not record.grid.is_volume:
        return "rows", "columns"
    if record.grid.display_affine is None:
        return "rows", "columns", "frames"
    return ("columns", "rows", "slices") if record.sources else ("i", "j", "k")


def _spacing(record: Image) -> tuple[float | None, ...] | None:
    """Return the spacing, with None for the placeholder 1 of an axis without a fixed distance."""
    if record.grid.spacing is None:
        return None
    spacing: list[float | None] = [round(distance, 6) for distance in record.grid.spacing]
    if record.grid.affine is None and record.grid.is_volume:
        spacing[-1] = None
    return tuple(spacing)
