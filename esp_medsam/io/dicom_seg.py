"""Write masks as a DICOM Segmentation file, atomically."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.seg.write.writer import build_segmentation, write_segmentation
from esp_medsam.image import Image
from esp_medsam.io.atomic import atomic_file
from esp_medsam.modality import Target


@dataclass(frozen=True, kw_only=True)
class SegOptions:
    """Options for writing a DICOM Segmentation.

    Attributes:
        kind: How segments are stored, one of :data:`esp_medsam.dicom.SEG_KINDS`.
        weights_sha256: Hash of the weights; None if they have no file.
        settings: Other settings that the result depends on.
        fixed: Whether a re-run makes the same object.
        write_empty: Whether an object is written if nothing was found.
    """

    kind: str = "binary"
    weights_sha256: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    fixed: bool = False
    write_empty: bool = False


def write_dicom_seg(
    path: Path,
    image: Image,
    masks: Iterable[npt.NDArray[np.uint8]],
    targets: Sequence[Target],
    options: SegOptions,
    root: Path | None = None,
) -> bool:
    """Write the masks of a DICOM image.

    Args:
        path: File to write.
        image: Record of the image.
        masks: As in :func:`esp_medsam.dicom.build_segmentation`.
        targets: The targets, in the order of the masks.
        options: How the file is written.
        root: Folder above it, below which no link is followed; None means the file's own folder.

    Returns:
        Whether a file was written: without foreground none is, unless ``write_empty`` is set.

    Raises:
        OutputError: If the file cannot be written.
        EspMedSamError: If DICOM cannot hold a segmentation of it; see ``build_segmentation``.
    """
    dataset = build_segmentation(
        image,
        masks,
        targets,
        kind=options.kind,
        weights_sha256=options.weights_sha256,
        settings=options.settings,
        fixed=options.fixed,
        write_empty=options.write_empty,
    )
    if dataset is None:
        return False
    with atomic_file(path, root) as file:
        write_segmentation(dataset, file)
    return True
