"""Describe the frames of a segmentation object: functional groups and source images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from highdicom.content import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
)
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag

from esp_medsam.dicom.geometry import is_alike
from esp_medsam.dicom.seg.write.source import SourceHeader
from esp_medsam.image import Image, SourceInstance


_DIGITS = 10
"""Digits kept of spacings and cosines from an affine, which restores their original values."""

Mask = npt.NDArray[np.uint8]


def filled_planes(mask: Mask) -> list[int]:
    """Return the indices of planes that hold nonzero values."""
    if mask.ndim == 2:
        return [0] if mask.any() else []
    return [int(plane) for plane in np.flatnonzero(mask.any(axis=(0, 1)))]


@dataclass(frozen=True)
class _Dimension:
    """An attribute that indexes frames, and the functional group that holds it."""

    pointer: str
    group: str


_SEGMENT = _Dimension("ReferencedSegmentNumber", "SegmentIdentificationSequence")
_POSITION = _Dimension("ImagePositionPatient", "PlanePositionSequence")
_TIME = _Dimension("TemporalPositionIndex", "FrameContentSequence")
_PLACE = _Dimension("InStackPositionNumber", "FrameContentSequence")


class FrameGroups:
    """The functional groups of the frames.

    Frames have positions if their source images have positions and share a frame of reference;
    every frame names the image that it belongs to.

    Args:
        image: Record of the source.
        header: Other attributes from the source files.
        segments_apart: Whether each frame holds one segment; a labelmap's frames hold all.
    """

    def __init__(self, image: Image, header: SourceHeader, *, segments_apart: bool) -> None:
        self.image = image
        self.header = header
        self.segments_apart = segments_apart
        if header.is_positioned:
            self._place = _POSITION
        else:
            is_cine = image.grid.is_volume and not image.grid.is_positioned
            self._place = _TIME if is_cine else _PLACE
        # If slices differ in orientation or pixel spacing, each frame states its own.
        self._is_alike = not header.is_positioned or is_alike(self._affines())
        self._derivations: dict[int, list[Dataset]] = {}
        self._purpose = CodedConcept.from_code(codes.cid7202.SourceImageForImageProcessingOperation)
        self._derivation = CodedConcept.from_code(codes.cid7203.SegmentationImageDerivation)

    def dimensions(self, organization_uid: str) -> list[Dataset]:
        """Return the items of the Dimension Index Sequence."""
        chosen = [_SEGMENT] if self.segments_apart else []
        return [_dimension_item(d, organization_uid) for d in (*chosen, self._place)]

    def shared(self) -> Dataset:
        """Return the functional groups that all frames share."""
        item = Dataset()
        if self.header.is_positioned and self._is_alike:
            self._measure(item, 0)
        return item

    def _measure(self, item: Dataset, plane: int) -> None:
        """Add the orientation and the pixel spacing of a plane to ``item``."""
        turned = PlaneOrientationSequence("PATIENT", self._orientation(plane))
        item.PlaneOrientationSequence = turned
        item.PixelMeasuresSequence = self._measures(plane)

    def of_frame(self, plane: int, ordinal: int, segment: int | None) -> Dataset:
        """Return the functional groups of one frame.

        Args:
            plane: Index of its plane along the last axis of the image.
            ordinal: Number of its plane among the written planes, from 1.
            segment: Number of its segment, from 1; None for a labelmap.
        """
        item, content = Dataset(), Dataset()
        content.DimensionIndexValues = [ordinal] if segment is None else [segment, ordinal]
        if self._place is _TIME:
            content.TemporalPositionIndex = ordinal
        elif self._place is _PLACE:
            content.StackID = "1"
            content.InStackPositionNumber = ordinal
        item.FrameContentSequence = [content]
        item.DerivationImageSequence = self._derivation_of(plane)
        if self.header.is_positioned:
            item.PlanePositionSequence = PlanePositionSequence(
                "PATIENT", _lps(self._affines()[plane][:3, 3])
            )
            if not self._is_alike:
                self._measure(item, plane)
        if segment is not None:
            identification = Dataset()
            identification.ReferencedSegmentNumber = segment
            item.SegmentIdentificationSequence = [identification]
        return item

    def _derivation_of(self, plane: int) -> list[Dataset]:
        """Return the source of a plane: its instance and frame, whatever the order of files."""
        if plane not in self._derivations:
            source = reference_to(self.image.sources[plane])
            frame = self.image.sources[plane].frame
            if frame is not None:
                source.ReferencedFrameNumber = frame
            source.PurposeOfReferenceCodeSequence = [self._purpose]
            source.SpatialLocationsPreserved = "YES"
            item = Dataset()
            item.SourceImageSequence = [source]
            item.DerivationCodeSequence = [self._derivation]
            self._derivations[plane] = [item]
        return self._derivations[plane]

    def _affines(self) -> npt.NDArray[np.float64]:
        assert self.image.grid.slice_affines is not None, "a positioned image has them"
        return self.image.grid.slice_affines

    def _orientation(self, plane: int) -> list[float]:
        """Return the direction cosines of a row and of a column."""
        axes = self._affines()[plane][:3, :2]
        cosines = axes / np.linalg.norm(axes, axis=0)
        return [*_lps(cosines[:, 0].round(_DIGITS)), *_lps(cosines[:, 1].round(_DIGITS))]

    def _measures(self, plane: int) -> PixelMeasuresSequence:
        """Return the spacing in the form that readers need to place frames on an even grid.

        If slices are missing or uneven, the grid is as fine as the closest two: such readers would
        otherwise step by the thickness, and put one slice over another. They also refuse an object
        without a thickness.
        """
        columns, rows = np.linalg.norm(self._affines()[plane][:3, :2], axis=0)
        gap = self._least_gap()
        return PixelMeasuresSequence(
            pixel_spacing=[_rounded(rows), _rounded(columns)],  # between rows first
            slice_thickness=gap if self.header.thickness is None else self.header.thickness,
            spacing_between_slices=gap if self.image.grid.count > 1 else None,
        )

    def _least_gap(self) -> float:
        """Return the least distance of neighbors, or the depth that a lone slice was read with."""
        affines, affine = self._affines(), self.image.grid.affine
        if affine is not None:
            return _rounded(float(np.linalg.norm(affine[:3, 2])))
        along = affines[:, :3, 3] @ affines[0][:3, 2]
        return _rounded(float(np.diff(along).min())) if len(along) > 1 else 1.0


def reference_to(source: SourceInstance) -> Dataset:
    """Return a reference to the instance that a slice was read from."""
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class_uid
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    return item


def _dimension_item(dimension: _Dimension, organization_uid: str) -> Dataset:
    item = Dataset()
    item.DimensionIndexPointer = Tag(dimension.pointer)
    item.FunctionalGroupPointer = Tag(dimension.group)
    item.DimensionOrganizationUID = organization_uid
    item.DimensionDescriptionLabel = dimension.pointer
    return item


def _lps(ras: npt.NDArray[np.float64]) -> list[float]:
    """Return a RAS vector in DICOM's LPS coordinates; zeros lose their sign."""
    return [float(value) + 0.0 for value in ras * (-1.0, -1.0, 1.0)]


def _rounded(value: float) -> float:
    """Return a length without the rounding noise of its affine."""
    return float(f"{value:.{_DIGITS}g}")
