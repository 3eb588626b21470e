"""What the files of a datalist's item hold: its image, its masks, and where they say anything."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import OptionError
from esp_medsam.image import Image
from esp_medsam.io.raster import read_raster
from esp_medsam.io.read import is_volume, read
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Item, Mask


WHITE = 127
"""Values of a picture's mask above this are the target."""

GRID_TOLERANCE = 0.1
"""Part of a voxel's shortest side that a mask may lie off its image: headers round."""


def read_image(
    item: Item,
    table: ModalityTable,
    *,
    ct_input: str | None = None,
    frame: int | None = None,
) -> Image:
    """Return the image of an item, pixels included.

    Args:
        item: The item.
        table: Modalities at hand.
        ct_input: What CT values are where the item does not say.
        frame: Which volume of a 4-D file, from 0.

    Raises:
        EspMedSamError: As :func:`esp_medsam.io.read`.
    """
    return read(
        item.image,
        modality=item.modality,
        table=table,
        ct_input=item.ct_input or ct_input,
        ct_offset=item.offset,
        frame=frame,
    )


def target_mask(
    item: Item, target: str, image: Image, table: ModalityTable
) -> npt.NDArray[np.bool_] | None:
    """Return where a target is in an item's image; None where nothing is known of it.

    Raises:
        OptionError: As :func:`read_mask`.
    """
    if target in item.labels:
        return _union(item.labels[target], image, table)
    if target in item.absent:
        return np.zeros(image.spatial_shape, dtype=np.bool_)
    return None


def labeled_pixels(item: Item, image: Image, table: ModalityTable) -> npt.NDArray[np.bool_] | None:
    """Return at which pixels an item's masks say anything; None for all.

    Raises:
        OptionError: As :func:`read_mask`.
    """
    return ~_union(item.unknown, image, table) if item.unknown else None


def _union(masks: Sequence[Mask], image: Image, table: ModalityTable) -> npt.NDArray[np.bool_]:
    return reduce(np.logical_or, (read_mask(mask, image, table) for mask in masks))


def read_mask(mask: Mask, image: Image, table: ModalityTable) -> npt.NDArray[np.bool_]:
    """Return where a mask's file says that something is.

    Without values a picture's mask is white, a volume's is not 0. With values a picture in a
    palette means its places there, not its colors.

    Args:
        mask: The mask.
        image: Record of its image; of a CT's mask no Hounsfield units are expected.
        table: Modalities at hand.

    Raises:
        OptionError: If it is not on its image's grid, is in color, has none of the values, or is a
            picture of 0 and 1 in place of white.
    """
    values, affine = _values(mask, image, table)
    shape = values.shape[1:]
    if shape != image.spatial_shape:
        msg = f"labels must lie on their image's grid, {image.spatial_shape}; {mask.path} is "
        msg += f"{shape}."
        raise OptionError(msg)
    if affine is not None and image.affine is not None:
        _check_place(mask.path, affine - image.affine, image)
    if mask.values is None:
        return _foreground(mask.path, values[0], least=0 if affine is not None else WHITE)
    if len(values) > 1:
        msg = f"labels with values must be gray or in a palette; {mask.path} is in color."
        raise OptionError(msg)
    found: npt.NDArray[np.bool_] = np.isin(values[0], mask.values)
    return found


def _values(
    mask: Mask, image: Image, table: ModalityTable
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64] | None]:
    """Return the pixels of a mask's file, ``(C, *spatial)``, and its affine if it has one."""
    path = Path(mask.path)
    if mask.values is not None and path.is_file() and not is_volume(path):
        return read_raster(path, look_up=False).pixels, None
    whole = read(path, modality=image.modality, table=table, ct_input="windowed")
    assert whole.pixels is not None
    return whole.pixels, whole.affine


def _check_place(path: str, off: npt.NDArray[np.float64], image: Image) -> None:
    """Refuse a mask whose affine puts it elsewhere than its image; ``off`` is the difference."""
    corners = np.array(list(product(*((0, side - 1) for side in image.spatial_shape))))
    moved = np.abs(corners @ off[:3, :3].T + off[:3, 3]).max()
    if moved > GRID_TOLERANCE * min(image.spacing or (1.0,)):
        msg = f"labels must lie where their image does; {path} lies {moved:.3g} mm off."
        raise OptionError(msg)


def _foreground(path: str, values: npt.NDArray[Any], *, least: int) -> npt.NDArray[np.bool_]:
    """Return where values lie above ``least``; refuse those that never reach it."""
    most = values.max()
    if 0 < most <= least:
        msg = (
            f"labels that are pictures must be white where the target is; {path} reaches only "
            f"{most} of 255. Say which of its values are the target: {{path, values}}."
        )
        raise OptionError(msg)
    found: npt.NDArray[np.bool_] = values > least
    return found
