"""Find the bright field of a picture inside a dark border."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import (  # type: ignore[import-untyped]  # ships no types
    binary_fill_holes,
    binary_opening,
)
from skimage.measure import label
from torch import Tensor

from esp_medsam.transforms.slices import Box, shrink


_GRID = 256
"""Longest side of the search grid: fields are large, and text disappears on a coarse grid."""


def lit_box(image: Tensor, *, darkest: float = 0.15, step: float = 0.03, parts: float = 1.0) -> Box:
    """Return the box of :func:`lit_field`: the whole image if no field is found for sure."""
    field = lit_field(image, darkest=darkest, step=step, parts=parts)
    rows, columns = (int(side) for side in image.shape[-2:])
    return (slice(0, rows), slice(0, columns)) if field is None else _box_of(field, (rows, columns))


def lit_field(
    image: Tensor, *, darkest: float = 0.15, step: float = 0.03, parts: float = 1.0
) -> npt.NDArray[np.bool_] | None:
    """Find the largest lit region inside a dark border; return None if there is doubt.

    The search uses each pixel's brightest channel, on a grid of at most 256 pixels a side. The
    border's level is the 2nd percentile of the outermost pixels and must be at most ``darkest``.
    Pixels that exceed it by ``step`` are opened by a square of 5 % of the shorter side, which
    removes letters and thin lines. The field is the largest components with holes filled; it must
    cover a quarter of the image and 40 % of its box, as circles, octagons and fans do.

    Args:
        image: ``(C, rows, columns)`` in 0..1.
        darkest: Largest level of a border.
        step: How much brighter the field is than the border; JPEG noise is about 0.02.
        parts: Smallest size, relative to the largest component, of those that belong to the field.

    Returns:
        Bool ``(rows, columns)`` on the coarse grid.
    """
    value = shrink(image.amax(0, keepdim=True), _GRID)[0].numpy(force=True)
    edge = np.concatenate((value[0], value[-1], value[:, 0], value[:, -1]))
    level = float(np.percentile(edge, 2.0))
    if level > darkest:
        return None
    side = max(1, round(0.05 * min(value.shape))) | 1
    return _largest(value > level + step, side, parts)


def _largest(mask: npt.NDArray[np.bool_], side: int, parts: float) -> npt.NDArray[np.bool_] | None:
    """Return the largest components of a mask opened by a square; None if they form no picture."""
    # Padded with its edge values; otherwise the opening would erode the field at the image's edge.
    framed = np.pad(mask, side, mode="edge")
    for axis in (0, 1):
        framed = binary_opening(framed, np.ones((side, 1) if axis else (1, side), bool))
    components = label(framed[side:-side, side:-side], connectivity=1)  # type: ignore[no-untyped-call]
    sizes = np.bincount(components.ravel())
    if len(sizes) < 2:
        return None
    sizes[0] = 0
    kept = sizes >= max(1.0, parts * sizes.max())
    region: npt.NDArray[np.bool_] = binary_fill_holes(kept[components])
    rows, columns = region.any(1).nonzero()[0], region.any(0).nonzero()[0]
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return region if region.sum() >= max(0.25 * region.size, 0.4 * box) else None


def _box_of(region: npt.NDArray[np.bool_], shape: tuple[int, int]) -> Box:
    """Return the box of a coarse region on the image's own grid, one coarse pixel wider."""
    box = []
    for axis, side in enumerate(shape):
        places = region.any(1 - axis).nonzero()[0]
        scale = side / region.shape[axis]
        margin = 1 if scale > 1 else 0
        start = max(0, int((places[0] - margin) * scale))
        stop = min(side, int(np.ceil((places[-1] + 1 + margin) * scale)))
        box.append(slice(start, stop))
    return box[0], box[1]
