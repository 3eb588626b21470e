"""Volumes of DICOM files, without what finds these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped]  # ships no types

from esp_medsam.dicom import Found
from esp_medsam.dicom.geometry import picture_grid
from esp_medsam.dicom.volume import DicomSlice, DicomVolume
from esp_medsam.errors import EspMedSamError
from esp_medsam.grid import Grid
from esp_medsam.image import SourceInstance


TURNS = {
    "axial": np.eye(3),
    "from the feet": np.diag([1.0, 1.0, -1.0]),
    "mirrored": np.diag([-1.0, 1.0, 1.0]),
    "sagittal": np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "oblique": Rotation.from_rotvec([0.3, -0.5, 0.7]).as_matrix(),
}
"""Directions in the patient (LPS) of columns, rows and files, one a row."""


def volume_of(*paths: Path | str, positioned: bool = False, **changes: object) -> DicomVolume:
    """A volume as the headers of its files would describe it, every frame a slice."""
    slices = []
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        count = int(header.get("NumberOfFrames") or 1)
        values = {
            "rows": header.Rows,
            "columns": header.Columns,
            "slope": float(header.get("RescaleSlope") or 1),
            "intercept": float(header.get("RescaleIntercept") or 0),
            "rescale_type": header.get("RescaleType"),
            **changes,
        }
        for frame in range(1, count + 1):
            source = SourceInstance(
                path=str(path),
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
                frame=frame if count > 1 else None,
            )
            slices.append(DicomSlice(source=source, **values))
    grid = picture_grid(slices)
    if positioned:
        shape = (slices[0].columns, slices[0].rows, len(slices))
        grid = Grid(shape=shape, slice_affines=np.tile(np.eye(4), (len(slices), 1, 1)))
    return DicomVolume(
        name="a",
        slices=tuple(slices),
        grid=grid,
        sop_class_uid=str(header.SOPClassUID),
        dicom_modality=header.get("Modality"),
    )


def refusal(found: Found) -> EspMedSamError:
    """The error of the one volume there is, which is refused."""
    assert not found.volumes
    (entry,) = found.refused
    return entry[1]


def slices_at(
    positions: Any,
    orientation: Any = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float] = (0.5, 0.75),
    *,
    rows: int = 4,
    columns: int = 6,
) -> list[DicomSlice]:
    """Slices at positions, each ``(x, y, z)`` LPS, that all lie alike."""
    return [
        DicomSlice(
            source=SourceInstance(path=f"{k}.dcm", sop_class_uid="1.2", sop_instance_uid=f"1.{k}"),
            rows=rows,
            columns=columns,
            position=tuple(float(value) for value in position),  # type: ignore[arg-type]
            orientation=tuple(float(value) for value in orientation),  # type: ignore[arg-type]
            pixel_spacing=spacing,
            thickness=3.0,
        )
        for k, position in enumerate(positions)
    ]
