"""Segmentations as 3D Slicer stores them, ``.seg.nrrd``: segments with names, colors and codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
import slicerio

from esp_medsam.errors import OptionError, quoted
from esp_medsam.modality import Code, Target


MOST_SEGMENTS = 255
"""Number of segments that a labelmap can hold."""


def write_segments(image: SimpleITK.Image, file: Path, targets: Sequence[Target]) -> None:
    """Write a labelmap.

    Args:
        image: The labelmap, with three axes.
        file: File to write.
        targets: Its targets, with their values.
    """
    voxels = SimpleITK.GetArrayFromImage(image).transpose()
    slicerio.write_segmentation(
        str(file),
        {
            "voxels": voxels,
            "ijkToLPS": _ijk_to_lps(image),
            "containedRepresentationNames": ["Binary labelmap"],
            "segments": [_segment(target) for target in targets],
        },
    )


def read_segments(file: Path, labelmap: Path) -> list[dict[str, Any]]:
    """Write the segments of a file as a labelmap, and return their names and values.

    Args:
        file: A segmentation; its segments may lie in layers, but must not overlap.
        labelmap: File to write, ``.nrrd``.

    Returns:
        ``name`` and ``idx`` of each segment.

    Raises:
        OptionError: If the file is no segmentation, or segments overlap.
    """
    try:
        return _read_segments(file, labelmap)
    except OptionError:
        raise
    except Exception as error:  # slicerio takes a file's fields for granted
        msg = f"label must be a segmentation of 3D Slicer; reading it ended in {error!r:.200}."
        raise OptionError(msg) from error


def _read_segments(file: Path, labelmap: Path) -> list[dict[str, Any]]:
    segmentation = slicerio.read_segmentation(str(file))
    voxels, segments = segmentation["voxels"], segmentation["segments"]
    layers = voxels if voxels.ndim == 4 else voxels[None]
    if not segments or len(segments) > MOST_SEGMENTS:
        msg = f"label must have 1 to {MOST_SEGMENTS} segments; it has {len(segments)}."
        raise OptionError(msg)
    merged = np.zeros(layers.shape[1:], dtype=np.uint8)
    for number, segment in enumerate(segments, start=1):
        mask = layers[segment.get("layer", 0)] == segment["labelValue"]
        if merged[mask].any():
            msg = f"label must have segments that do not overlap; {quoted(segment['name'])} does."
            raise OptionError(msg)
        merged[mask] = number
    image: Any = SimpleITK.GetImageFromArray(merged.transpose())
    matrix = np.asarray(segmentation["ijkToLPS"], dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all() or not spacing.all():
        msg = "label must have a place in space; its header states none."
        raise OptionError(msg)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    SimpleITK.WriteImage(image, labelmap)
    return [{"name": one["name"], "idx": idx} for idx, one in enumerate(segments, start=1)]


def _ijk_to_lps(image: Any) -> npt.NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def _segment(target: Target) -> dict[str, Any]:
    terminology = {
        "contextName": "Segmentation category and type - DICOM master list",
        "category": _code(target.category),
        "type": _code(target.type),
    }
    if target.anatomic_region is not None:
        terminology["anatomicContextName"] = "Anatomic codes - DICOM master list"
        terminology["anatomicRegion"] = _code(target.anatomic_region)
    return {
        "id": target.name,
        "name": target.name,
        "color": [round(part / 255, 6) for part in target.color],
        "labelValue": target.label,
        "layer": 0,
        "terminology": terminology,
    }


def _code(code: Code) -> list[str]:
    return [code.scheme, code.value, code.meaning]
