"""Labels as clients send them, turned into labelmaps on the grid of their image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import SimpleITK

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.label_file import PICTURE, SEGMENTS
from esp_medsam.integrations.monai_label.labels import unnamed
from esp_medsam.integrations.monai_label.request import EXTENSIONS
from esp_medsam.integrations.monai_label.slicer_segments import read_segments
from esp_medsam.io.formats import files_of
from esp_medsam.io.labels import as_labels
from esp_medsam.io.read import read_grid


def plain_label(
    label: Path, info: Mapping[str, Any], folder: Path, image: Path, *, of_picture: bool
) -> tuple[Path, dict[str, Any]]:
    """Return a labelmap, and what is known about it, for a label as a client sent it.

    Segmentations of 3D Slicer become labelmaps, whose values ``label_info`` states. A volume of one
    slice becomes a picture if its image is one: clients of volumes show a picture as such.

    Args:
        label: File of the label.
        info: What the client sent with it.
        folder: Folder to write into.
        image: File of its image.
        of_picture: Whether the image is a picture.

    Raises:
        OptionError: If the label cannot be turned into one, or is larger than its image.
        EspMedSamError: If it cannot be read.
    """
    told = dict(info)
    with unnamed(label, "label"):
        _check_alone(label)
        _check_size(label, image)
        if label.name.endswith(SEGMENTS):
            labelmap = folder / "label.nrrd"
            told["label_info"] = read_segments(label, labelmap)
            label = labelmap
            _check_size(label, image)
        if of_picture and label.suffix != PICTURE:
            label = _picture(label, folder / f"label{PICTURE}")
        return label, told


def _check_alone(label: Path) -> None:
    """Refuse other files than labels, and a header that names another file, anyone's on this disk.

    Raises:
        OptionError: If it is one.
    """
    if not label.name.lower().endswith(EXTENSIONS):
        msg = f"label must end in one of {', '.join(EXTENSIONS)}."
        raise OptionError(msg)
    if files_of(label) != (label,):
        msg = "label must be a file of its own; its header names another one."
        raise OptionError(msg)


def _check_size(label: Path, image: Path) -> None:
    """Refuse a label that is larger than its image, before it fills the memory.

    Raises:
        OptionError: If it is.
    """
    grids = read_grid(label), read_grid(image)
    sizes = [0 if grid is None else math.prod(grid.shape) for grid in grids]
    if sizes[0] > sizes[1] > 0:
        msg = f"label must lie on its image's grid of {sizes[1]:,} voxels; it has {sizes[0]:,}."
        raise OptionError(msg)


def _picture(label: Path, picture: Path) -> Path:
    """Write a volume of one slice as a picture.

    Raises:
        OptionError: If it has several slices, is turned, or holds other values than a label.
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
    labels = as_labels(array[0])
    if labels is None:
        msg = "label must hold whole numbers from 0 to 255; it holds others."
        raise OptionError(msg)
    PIL.Image.fromarray(labels).save(picture)
    return picture
