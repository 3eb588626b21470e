"""Describe how one image or volume was understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np

from esp_medsam.image import Image
from esp_medsam.orientation import display_of_image, nearly_otherwise, plane_of


_nib: Any = nibabel  # it annotates only some of its functions

_KINDS = {
    "NIfTI": (".nii", ".nii.gz"),
    "NRRD": (".nrrd", ".nhdr"),
    "MetaImage": (".mha", ".mhd"),
}


@dataclass(frozen=True, kw_only=True)
class Description:
    """What was understood of one image or volume.

    Attributes:
        path: The file, or the folder of a DICOM volume.
        volume: Name of the DICOM volume in the folder; None for other formats.
        kind: ``NIfTI``, ``NRRD``, ``MetaImage``, ``picture``, ``DICOM series``, ``DICOM frames``,
            ``DICOM multi-frame`` or ``DICOM image``.
        files: Number of files it was read from.
        file: The one file it was read from; None of several.
        modality: Name in the table; None where neither the user nor the file says it.
        modality_origin: ``user``, ``dicom`` or ``forced``; None without a modality.
        dicom_modality: DICOM's Modality (0008,0060).
        shape: Length of each array axis.
        axes: What each array axis counts: ``rows``, ``columns``, ``slices``, ``frames``, or of a
            file that numbers them alone ``i``, ``j``, ``k``.
        channels: 1, or 3 for colors.
        spacing: Distance in mm between neighbors along each array axis, None along an axis where
            it is uneven or no distance; None where the file states none at all.
        orientation: Direction in which the index of each array axis grows, such as ``LPS``; None
            where the file states no position.
        oblique: Largest angle in degrees between an array axis and its direction; None likewise.
        plane: Of a volume how its slices lie as they are taken: ``axial``, ``coronal`` or
            ``sagittal``; None where they have no position.
        slices: How many slices are taken; 1 of a picture.
        dtype: Type that the values are held in.
        intensities: Least and largest value.
        unit: ``HU``, or None where values have no unit, or it takes a modality to know.
        unit_origin: ``dicom``, ``user``, or ``assumed`` of a format without units; None likewise.
        warnings: What a user should know, a sentence each.
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
    """Return what was understood of an image.

    Args:
        record: What its file says, pixels included.
        slice_axis: ``axial``, ``coronal`` or ``sagittal`` in place of the rule.

    Raises:
        GeometryError: If it cannot be sliced so.
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
    """Return what kind of file, or of DICOM object, an image was read from."""
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
    """Return the spacing, without the 1 that stands where there is no one distance."""
    if record.grid.spacing is None:
        return None
    spacing: list[float | None] = [round(distance, 6) for distance in record.grid.spacing]
    if record.grid.affine is None and record.grid.is_volume:
        spacing[-1] = None
    return tuple(spacing)
