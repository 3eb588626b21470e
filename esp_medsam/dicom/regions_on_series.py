"""Rasterize regions of an RT Structure Set on the series that they were drawn on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.contour_fill import inside
from esp_medsam.dicom.frame_of_reference import check_frame_of_reference
from esp_medsam.dicom.structure_set import Contour, Region, read_structure_set
from esp_medsam.errors import GeometryError
from esp_medsam.image import Image


OFF_SLICE = 0.1
"""Fraction of the slice gap that a contour may lie off its slice, since positions are rounded."""

Array = npt.NDArray[np.float64]


class RegionsOnSeries:
    """The regions of an RT Structure Set on the grid of a series.

    The set must name images of the series; its contours must lie in its slices and frame of
    reference.

    Args:
        path: The structure set.
        image: Record of the series.

    Attributes:
        held: The regions.

    Raises:
        GeometryError: If the structure set does not belong to the series.
        EspMedSamError: If the structure set cannot be read.
    """

    def __init__(self, path: str, image: Image) -> None:
        found = read_structure_set(path)
        self.path = path
        self.image = image
        self.held = found.regions
        own = {source.sop_instance_uid for source in image.sources}
        if not own & found.source_instances:
            msg = (
                f"labels must belong to the series of their image; {path} refers to no image "
                f"of {image.path}."
            )
            raise GeometryError(msg)

    def mask(self, number: int) -> npt.NDArray[np.bool_]:
        """Return the mask of a region, ``(*spatial)`` of the series.

        A voxel belongs to the region if an odd number of contours enclose its center, so a contour
        within another is a hole.

        Raises:
            GeometryError: If the region is in another Frame of Reference; if a contour lies off the
                slices by more than :data:`OFF_SLICE`, or not in the slice that it names; if two
                contours cross or are the same.
            EspMedSamError: If a contour is damaged, or not CLOSED_PLANAR.
        """
        (region,) = (one for one in self.held if one.number == number)
        frame = region.frame_of_reference_uid
        check_frame_of_reference(self.path, frame, self.image, names_it=True)
        stack = _Stack(self.image)
        drawn: dict[int, list[npt.NDArray[np.intp]]] = {}
        grid = self.image.grid
        mask = np.zeros((grid.count, *grid.shape[:2]), np.bool_)
        for contour in region.contours():
            place = self._slice_of(contour, region, stack)
            pixels = np.flatnonzero(inside(stack.indices(contour.points, place), mask.shape[1:]))
            self._check_nested(pixels, drawn.setdefault(place, []), region, place)
            drawn[place].append(pixels)
            mask[place].reshape(-1)[pixels] ^= True
        return np.moveaxis(mask, 0, -1)

    def _slice_of(self, contour: Contour, region: Region, stack: _Stack) -> int:
        """Return the index of the slice that a contour lies in."""
        off = stack.off(contour.points)
        place = int(off.argmin())
        within = OFF_SLICE * stack.gap
        if off[place] > within:
            msg = (
                f"Contours of {region.label} in {self.path} must lie in slices of "
                f"{self.image.path}, within {within:.3g} mm; one lies {off[place]:.3g} mm from "
                "the nearest. Draw it on this series, or leave it out."
            )
            raise GeometryError(msg)
        own = self.image.sources[place].sop_instance_uid
        if contour.images and own not in contour.images:
            msg = (
                f"A contour of {region.label} in {self.path} must lie in the slice that it says it "
                f"was drawn on, {min(contour.images)}; it lies in {own}."
            )
            raise GeometryError(msg)
        return place

    def _check_nested(
        self,
        pixels: npt.NDArray[np.intp],
        others: list[npt.NDArray[np.intp]],
        region: Region,
        place: int,
    ) -> None:
        """Refuse a contour that crosses another in its slice, as holes would be ambiguous."""
        for other in others:
            shared = len(np.intersect1d(pixels, other, assume_unique=True))
            smaller = min(len(pixels), len(other))
            if shared and (shared < smaller or len(pixels) == len(other)):
                msg = (
                    f"Contours of {region.label} in {self.path} must lie apart or within one "
                    f"another; two in {self.image.sources[place].sop_instance_uid} cross, or are "
                    "the same."
                )
                raise GeometryError(msg)


class _Stack:
    """The slices of a series, and the location of points among them."""

    def __init__(self, image: Image) -> None:
        assert image.grid.slice_affines is not None, "checked before"
        self._affines = image.grid.slice_affines
        self._normals = self._affines[:, :3, 2]
        self._origins = self._affines[:, :3, 3]

    @property
    def gap(self) -> float:
        """Smallest distance between neighboring slices in mm; 1 for a lone slice."""
        steps = np.abs((np.diff(self._origins, axis=0) * self._normals[1:]).sum(axis=1))
        return float(steps.min()) if len(steps) else 1.0

    def off(self, points: Array) -> Array:
        """Return the distance in mm of the farthest point from the plane of each slice."""
        depths = (self._origins * self._normals).sum(axis=1)
        off: Array = np.abs(points @ self._normals.T - depths).max(axis=0)
        return off

    def indices(self, points: Array, place: int) -> Array:
        """Return column and row of points, projected along the normal of a slice."""
        plane = np.linalg.inv(self._affines[place])
        indices: Array = points @ plane[:2, :3].T + plane[:2, 3]
        return indices
