"""Labels that clients save: which values mean which target, and their masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import TargetError, one_of, quoted
from esp_medsam.image import Image
from esp_medsam.modality import Modality, ModalityTable
from esp_medsam.workflows.datalist import Mask
from esp_medsam.workflows.datalist_images import MaskReader


def values_of(info: Mapping[str, Any], modality: Modality) -> dict[str, int]:
    """Return the value of each target in a label.

    Clients number the segments of a label as they like, and say so in ``label_info``, a list of
    ``name`` and ``idx``. Without it, values are those of the table, which ``/info/`` shows.

    Args:
        info: What the client sent with the label.
        modality: Modality of the image, with its targets.

    Raises:
        TargetError: If a segment is called like no target.
    """
    segments = info.get("label_info")
    if not isinstance(segments, list) or not segments:
        return {target.name: target.label for target in modality.targets}
    names = [target.name for target in modality.targets]
    values = {}
    for number, segment in enumerate(segments, start=1):
        name = str(segment.get("name")) if isinstance(segment, Mapping) else str(segment)
        if name == "background":
            continue
        if name not in names:
            msg = f"label_info {one_of(names)}; got {quoted(name)}."
            raise TargetError(msg)
        index = segment.get("idx", number) if isinstance(segment, Mapping) else number
        values[name] = int(index)
    return values


def masks_of(
    label: Path, image: Image, values: Mapping[str, int], table: ModalityTable
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the mask of each target that a label holds, on the grid of its image.

    Args:
        label: File of the label.
        image: Record of the image.
        values: Value of each target in the label.
        table: Available modalities and targets.

    Raises:
        OptionError: If the label is not on the grid of the image.
    """
    reader = MaskReader(image, table)
    masks = {
        name: reader(Mask(path=str(label), values=(value,)), name) for name, value in values.items()
    }
    return {name: mask for name, mask in masks.items() if mask.any()}
