"""Labels as clients send them, turned into labelmaps on the grid of their image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import SimpleITK

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.label_file import PICTURE, SEGMENTS
from esp_medsam.integrations.monai_label.slicer_segments import read_segments


def plain_label(
    label: Path, info: Mapping[str, Any], folder: Path, *, of_picture: bool
) -> tuple[Path, dict[str, Any]]:
    """Return a labelmap, and what is known about it, for a label as a client sent it.

    Segmentations of 3D Slicer become labelmaps, whose values ``label_info`` states. A volume of one
    slice becomes a picture if its image is one: clients of volumes show a picture as such.

    Args:
        label: File of the label.
        info: What the client sent with it.
        folder: Folder to write into.
        of_picture: Whether the image is a picture.

    Raises:
        OptionError: If the label cannot be turned into one.
    """
    told = dict(info)
    if label.name.endswith(SEGMENTS):
        labelmap = folder / "label.nrrd"
        told["label_info"] = read_segments(label, labelmap)
        label = labelmap
    if of_picture and label.suffix != PICTURE:
        label = _picture(label, folder / f"label{PICTURE}")
    return label, told


def _picture(label: Path, picture: Path) -> Path:
    """Write a volume of one slice as a picture.

    Raises:
        OptionError: If it has several slices, or is turned.
    """
    try:
        image: Any = SimpleITK.ReadImage(str(label))
    except RuntimeError as error:
        msg = "label must be a labelmap; it cannot be read."
        raise OptionError(msg) from error
    array = SimpleITK.GetArrayFromImage(image)
    is_plain = np.allclose(image.GetDirection(), np.eye(image.GetDimension()).ravel())
    if array.ndim != 3 or len(array) != 1 or not is_plain:
        msg = "label must be a picture, or a volume of its one slice; got "
        raise OptionError(msg + f"{'turned ' if not is_plain else ''}{image.GetSize()}.")
    PIL.Image.fromarray(array[0].astype(np.uint8)).save(picture)
    return picture
