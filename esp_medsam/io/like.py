"""Read the grid that masks are to be written on, from headers only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom import (
    DicomSegmentation,
    DicomVolume,
    Found,
    find_volumes,
    is_dicom,
)
from esp_medsam.errors import (
    EmptyInputError,
    GeometryError,
    OptionError,
    ReadError,
    not_found,
)
from esp_medsam.grid import Grid
from esp_medsam.io.nifti import read_nifti_header
from esp_medsam.io.nifti_header import geometry_of
from esp_medsam.memory import check_fits


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputGrid:
    """The grid that masks are written on, as a NIfTI file states it.

    Attributes:
        path: The file, or the folder of DICOM.
        name: Name of the image in messages.
        grid: Where its voxels lie.
        geometry: Geometry fields of a NIfTI header.
        frame_of_reference_uid: Frame of Reference of DICOM positions; None if not known.
    """

    path: Path
    name: str
    grid: Grid
    geometry: Mapping[str, tuple[float, ...]]
    frame_of_reference_uid: str | None = None

    def take(self, masks: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """Return a mask or labelmap on this grid; nothing is interpolated.

        Args:
            masks: Mask or labelmap, ``(i, j, k)``.
            affine: From its voxels to RAS+ in mm.

        Raises:
            GeometryError: If its voxels are not voxels of this grid, or lie outside it.
            TooLargeError: If the result does not fit in memory.
        """
        _check_fits(self.path, self.grid.shape, masks.dtype.itemsize)
        return self.grid.take(masks, affine, what=f"{self.path} ({self.name})")


class Like:
    """An image, or folder of DICOM images, on whose grid segmentations are to be written.

    Args:
        path: A NIfTI file, a DICOM file, or a folder with DICOM series.

    Raises:
        InputNotFoundError: If ``path`` does not exist.
        EspMedSamError: If it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._found: Found | None = None
        self._grid: OutputGrid | None = None
        if not self.path.exists():
            raise not_found(self.path, "file or folder", argument="like")
        if self.path.is_dir() or is_dicom(self.path):
            self._found = find_volumes(self.path)
        else:
            self._grid = _grid_of_nifti(self.path)

    def grid_for(self, segmentation: DicomSegmentation) -> OutputGrid:
        """Return the grid of the image that a segmentation was made from.

        If there are several DICOM volumes, the one with images named by the segmentation counts.

        Raises:
            OptionError: If there are several, and the segmentation does not name exactly one.
            EmptyInputError: If there is none.
            GeometryError: If its grid is uneven, or its Frame of Reference is another one.
        """
        if self._grid is not None:
            return self._grid
        assert self._found is not None, "it is either"
        volume = self._volume_for(segmentation, self._found)
        grid = _grid_of_dicom(volume, self.path)
        theirs = segmentation.frame_of_reference_uid
        if theirs and grid.frame_of_reference_uid and theirs != grid.frame_of_reference_uid:
            msg = (
                f"like must be in the Frame of Reference of {segmentation.path}, {theirs}; "
                f"{self.path} ({volume.name}) is in {grid.frame_of_reference_uid}."
            )
            raise GeometryError(msg)
        return grid

    def _volume_for(self, segmentation: DicomSegmentation, found: Found) -> DicomVolume:
        named = [
            volume
            for volume in found.volumes
            if any(
                piece.source.sop_instance_uid in segmentation.source_instances
                for piece in volume.slices
            )
        ]
        chosen = named or found.volumes
        if not chosen and found.refused:
            raise found.refused[0][1]
        if not chosen:
            msg = f"like must hold a DICOM series; {self.path} holds none."
            raise EmptyInputError(msg)
        if len(chosen) > 1:
            said = "several" if named else "none"
            msg = (
                f"like must hold the volume that {segmentation.path} segments; of the volumes "
                f"of {self.path}, it names {said}. Pass the folder, or the NIfTI file, of the "
                "right one."
            )
            raise OptionError(msg)
        return chosen[0]


def _grid_of_nifti(path: Path) -> OutputGrid:
    try:
        header = read_nifti_header(path)
    except OSError as error:
        msg = f"{path} must be a readable file; got: {error.strerror or 'no whole file'}."
        raise ReadError(msg) from error
    shape = header.shape if len(header.shape) == 3 else (*header.shape, 1)
    _check_fits(path, shape, 1)
    grid = Grid(shape=shape, affine=header.affine)
    return OutputGrid(path=path, name=path.name, grid=grid, geometry=header.geometry)


def _grid_of_dicom(volume: DicomVolume, path: Path) -> OutputGrid:
    affine = volume.grid.affine
    if affine is None:
        why = f": {volume.warnings[0]}" if volume.warnings else "; they state no position."
        msg = f"like must have evenly stacked slices; those of {path} ({volume.name}) are not{why}"
        raise GeometryError(msg)
    _check_fits(path, volume.grid.shape, 1)
    return OutputGrid(
        path=path,
        name=volume.name,
        # The positions of the slices are rounded; the affine is more exact.
        grid=replace(volume.grid, slice_affines=None),
        geometry=geometry_of(affine),
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )


def _check_fits(path: Path, shape: tuple[int, ...], width: int) -> None:
    """Refuse a grid whose mask does not fit in memory."""
    size = int(np.prod([int(length) for length in shape], dtype=object)) * width
    check_fits(path, size, f"a mask of {' x '.join(map(str, shape))}")
