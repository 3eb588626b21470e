"""How well the predicted mask of one target agrees with the true one, on the image's own grid.

Overlap is counted over voxels; distances are between surfaces. A surface is the voxels of a mask
that have a face in common with a voxel outside it, or lie at the edge of the image. Unlabeled
pixels do not count, and neither does a surface that only they create.
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
"""Percentile of the distances from one surface to the other that HD95 reports."""


class Overlap(NamedTuple):
    """Overlap of two masks.

    Attributes:
        dice: ``2 |A & B| / (|A| + |B|)``; 1 if both are empty.
        iou: ``|A & B| / |A | B|``; 1 if both are empty.
        precision: Share of the found voxels that are true; None if none were found.
        recall: Share of the true voxels that were found; None if none are true.
    """

    dice: float
    iou: float
    precision: float | None
    recall: float | None


class Distances(NamedTuple):
    """Distances between two surfaces; None if a mask is empty, and so has no surface.

    Attributes:
        surface_dice: Share of both surfaces that lies within the tolerance of the other; 0 if
            only one mask is empty.
        hd95: The 95th percentile of the distances to the other surface, the larger of both ways.
        hd: The maximum of those distances.
    """

    surface_dice: float | None = None
    hd95: float | None = None
    hd: float | None = None


class Scale(NamedTuple):
    """Unit and scale of distances in an image.

    Attributes:
        unit: ``mm``; ``px`` for pictures without a pixel spacing; None if an axis has no spacing,
            as with frames and slices that are not evenly stacked.
        spacing: Distance between neighbors along each array axis, in that unit.
    """

    unit: str | None
    spacing: tuple[float, ...]


def scale_of(image: Image) -> Scale:
    """Return the unit and scale of distances in an image."""
    ones = (1.0,) * len(image.grid.shape)
    if image.grid.is_volume and image.grid.affine is None:
        return Scale(None, ones)
    spacing = image.grid.spacing
    return Scale("px", ones) if spacing is None else Scale("mm", spacing)


def overlap(found: Tensor, truth: Tensor) -> Overlap:
    """Return the overlap of two bool masks of the same shape, ``(*spatial)``."""
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
    """Return the distances between the surfaces of two masks.

    Args:
        found: Predicted mask, bool ``(*spatial)``, two or three axes.
        truth: True mask, of the same shape and type.
        spacing: Distance between neighbors along each axis.
        tolerance: Distance, in the unit of ``spacing``, up to which surfaces agree.
        labeled: bool mask of the labeled voxels; None means all of them.

    Returns:
        Distances in the unit of ``spacing``.
    """
    if labeled is not None:
        found, truth = found & labeled, truth & labeled
    if not (found.any() and truth.any()):
        return Distances(0.0 if found.any() or truth.any() else None)
    box = _box(found | truth)
    # Along an axis of one voxel, everything would be surface, so that axis is dropped.
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
    if not ways:  # a mask has only unlabeled voxels around it
        return Distances()
    near = sum(int((way <= tolerance).sum()) for way in ways)
    return Distances(
        near / sum(len(way) for way in ways),
        max(float(np.percentile(way, PERCENTILE)) for way in ways),
        max(float(way.max()) for way in ways),
    )


def _box(mask: Tensor) -> tuple[slice, ...]:
    """Return the bounding box of a mask, with a margin of one voxel if the image has it.

    Surfaces within the box equal those of the whole: both masks are empty outside it.
    """
    box = []
    for axis, side in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        held = torch.nonzero(mask.any(dim=others) if others else mask).flatten()
        box.append(slice(max(int(held[0]) - 1, 0), min(int(held[-1]) + 2, side)))
    return tuple(box)


def _surfaces(found: Tensor, truth: Tensor, unknown: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the surfaces of two masks, without those that only unlabeled pixels create."""
    if unknown is None:
        edges = get_mask_edges(found, truth, crop=False)
    else:
        edges = get_mask_edges(found | unknown, truth | unknown, crop=False)
        edges = tuple(edge & ~unknown for edge in edges)
    return edges[0], edges[1]
