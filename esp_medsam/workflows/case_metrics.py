"""How far the mask that was found of one target agrees with the true one, on the image's own grid.

Overlap is counted over voxels, distances are those between surfaces. A surface is the voxels of a
mask that touch, face to face, what is not in it; so do those at the edge of the image. Where
pixels are not labeled, nothing counts: neither they themselves nor a surface that only they make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import compute_dice, compute_iou
from monai.metrics.utils import get_mask_edges, get_surface_distance
from torch import Tensor

from esp_medsam.image import Image


PERCENTILE = 95
"""Of the distances from one surface to the other that HD95 states."""


class Overlap(NamedTuple):
    """How many voxels two masks share.

    Attributes:
        dice: ``2 |A & B| / (|A| + |B|)``; 1 where both are empty.
        iou: ``|A & B| / |A | B|``; 1 where both are empty.
        precision: Share of what was found that is true; None where nothing was found.
        recall: Share of what is true that was found; None where nothing is true.
    """

    dice: float
    iou: float
    precision: float | None
    recall: float | None


class Distances(NamedTuple):
    """How far two surfaces lie apart; None where either mask is empty, and so has none.

    Attributes:
        surface_dice: Share of both surfaces that lies within the tolerance of the other; 0 where
            one mask alone is empty.
        hd95: The 95th percentile of the distances to the other surface, the larger of both ways.
        hd: Their maximum.
    """

    surface_dice: float | None = None
    hd95: float | None = None
    hd: float | None = None


class Scale(NamedTuple):
    """What distances in an image are measured in.

    Attributes:
        unit: ``mm``; ``px`` of pictures that state no distance; None where an axis has none, as
            that of frames and of slices that are not evenly stacked.
        spacing: Distance between neighbors along each array axis, in that unit.
    """

    unit: str | None
    spacing: tuple[float, ...]


def scale_of(image: Image) -> Scale:
    """Return what distances in an image are measured in."""
    ones = (1.0,) * len(image.grid.shape)
    if image.grid.is_volume and image.grid.affine is None:
        return Scale(None, ones)
    spacing = image.grid.spacing
    return Scale("px", ones) if spacing is None else Scale("mm", spacing)


def overlap(found: Tensor, truth: Tensor) -> Overlap:
    """Return how many voxels two bool masks of one shape, ``(*spatial)``, share."""
    pair = found[None, None], truth[None, None]
    both, n_found, n_true = (int(mask.sum()) for mask in (found & truth, found, truth))
    return Overlap(
        float(compute_dice(*pair, ignore_empty=False)),
        float(compute_iou(*pair, ignore_empty=False)),
        both / n_found if n_found else None,
        both / n_true if n_true else None,
    )


def distances(
    found: Tensor,
    truth: Tensor,
    *,
    spacing: Sequence[float],
    tolerance: float,
    labeled: Tensor | None = None,
) -> Distances:
    """Return how far the surfaces of two masks lie apart.

    Args:
        found: bool ``(*spatial)``, two or three axes.
        truth: The same of the truth.
        spacing: Distance between neighbors along each axis.
        tolerance: Distance, in the unit of ``spacing``, up to which surfaces agree.
        labeled: bool, where anything is known; None is everywhere.

    Returns:
        Distances in the unit of ``spacing``.
    """
    if labeled is not None:
        found, truth = found & labeled, truth & labeled
    if not (found.any() and truth.any()):
        return Distances(0.0 if found.any() or truth.any() else None)
    box = _box(found | truth)
    # Along an axis of one voxel everything would be surface, so such a mask is flat.
    flat = [axis for axis, side in enumerate(found.shape) if side > 1] or [0]
    place = tuple(box[axis] if axis in flat else 0 for axis in range(found.ndim))
    unknown = None if labeled is None else ~labeled[place]
    surfaces = _surfaces(found[place], truth[place], unknown)
    kept = [spacing[axis] for axis in flat]
    ways = [
        np.asarray(get_surface_distance(one, other, spacing=kept))
        for one, other in (surfaces, surfaces[::-1])
        if one.any() and other.any()
    ]
    if not ways:  # only what is not labeled lies around one of them
        return Distances()
    near = sum(int((way <= tolerance).sum()) for way in ways)
    return Distances(
        near / sum(len(way) for way in ways),
        max(float(np.percentile(way, PERCENTILE)) for way in ways),
        max(float(way.max()) for way in ways),
    )


def _box(mask: Tensor) -> tuple[slice, ...]:
    """Return the smallest box that holds a mask, and a voxel more on each side that has one.

    Surfaces inside are those of the whole: what lies beyond is empty in both masks.
    """
    box = []
    for axis, side in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        held = torch.nonzero(mask.any(dim=others) if others else mask).flatten()
        box.append(slice(max(int(held[0]) - 1, 0), min(int(held[-1]) + 2, side)))
    return tuple(box)


def _surfaces(found: Tensor, truth: Tensor, unknown: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the surfaces of two masks, without what only unlabeled pixels beside them make."""
    if unknown is None:
        edges = get_mask_edges(found, truth, crop=False)
    else:
        edges = get_mask_edges(found | unknown, truth | unknown, crop=False)
        edges = tuple(edge & ~unknown for edge in edges)
    return edges[0], edges[1]
