"""Place segments of a DICOM-SEG on the series they were drawn on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.frame_of_reference import check_frame_of_reference
from esp_medsam.dicom.seg.read.description import SegSegment
from esp_medsam.dicom.seg.read.masks import DicomSegmentation
from esp_medsam.dicom.seg.read.reader import read_segmentation
from esp_medsam.errors import GeometryError
from esp_medsam.image import Image


class SegmentsOnSeries:
    """The segments of a segmentation object, on the grid of a series.

    The object must lie on the voxels of the series, in its Frame of Reference; if either states
    none, the object must reference images of the series. Nothing is interpolated.

    Args:
        path: The segmentation object.
        image: Record of the series.

    Attributes:
        held: The segments.

    Raises:
        GeometryError: If the object is not of the series, contradicts itself, or has no even grid.
        EspMedSamError: If the object cannot be read.
    """

    def __init__(self, path: str, image: Image) -> None:
        found = read_segmentation(path)
        self.image = image
        named = any(source.sop_instance_uid in found.source_instances for source in image.sources)
        check_frame_of_reference(path, found.frame_of_reference_uid, image, names_it=named)
        _check_sources(found, image)
        if image.grid.affine is not None:  # planes may be missing and the spacing not stated
            found = found.with_spacing(float(np.linalg.norm(image.grid.affine[:3, 2])))
        if found.problem or found.grid.affine is None:
            why = f"; {found.problem}" if found.problem else "."
            msg = f"labels must have evenly spaced planes; those of {path} are not{why}"
            raise GeometryError(msg)
        self._segmentation, self._affine = found, found.grid.affine

    @property
    def held(self) -> tuple[SegSegment, ...]:
        """The segments."""
        return self._segmentation.segments

    def mask(self, number: int) -> npt.NDArray[np.bool_]:
        """Return the mask of a segment, ``(*spatial)`` of the series.

        A FRACTIONAL mask is true at half of the Maximum Fractional Value or more.

        Raises:
            GeometryError: If the segment lies off the voxels of the series, or beyond them.
            EspMedSamError: If the segment cannot be decoded.
        """
        least = (self._segmentation.maximum + 1) // 2
        inside = (self._segmentation.mask(number) >= least).astype(np.uint8)
        grid, what = self.image.grid, f"{self.image.path} ({self.image.name})"
        try:
            mask = grid.take(inside, self._affine, what=what, rounding=grid.off_even)
        except GeometryError as error:
            msg = f"{self._segmentation.path} must lie on its series: {error}"
            raise GeometryError(msg) from error
        found: npt.NDArray[np.bool_] = mask > 0
        return found


def _check_sources(found: DicomSegmentation, image: Image) -> None:
    """Refuse a frame that lies in a slice other than the one it states it was drawn on."""
    affines = image.grid.slice_affines
    assert affines is not None, "checked before"
    normals, origins = affines[:, :3, 2], affines[:, :3, 3]
    own = {source.sop_instance_uid for source in image.sources}
    for frame in found.frames:
        if frame.source is None or frame.source[0] not in own or frame.where.position is None:
            continue
        place = np.array(frame.where.position) * (-1.0, -1.0, 1.0)
        apart = np.abs((normals * (place - origins)).sum(axis=1))
        nearest = image.sources[int(apart.argmin())].sop_instance_uid
        if nearest != frame.source[0]:
            msg = (
                f"{frame.where.where} must lie in the slice that it says it was drawn on, "
                f"{frame.source[0]}; it lies nearest to {nearest}."
            )
            raise GeometryError(msg)
