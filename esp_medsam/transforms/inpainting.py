"""Inpaint hairs, highlights and text from their surroundings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def inpaint(img: Tensor, mask: Tensor, usable: Tensor | None = None) -> Tensor:
    """Fill the masked pixels from the nearest others; all others stay the same, bit for bit.

    The method is pull-push: known pixels are averaged two by two until nothing is unknown, then
    each finer level takes what it lacks from the coarser one, bilinearly. For any mask, it is
    linear in the pixels, and it is smooth, which suits thin structures.

    Args:
        img: ``(C, rows, columns)`` float.
        mask: ``(rows, columns)`` bool; if no pixel is masked or none is known, ``img`` is returned.
        usable: ``(rows, columns)`` bool, the pixels to take values from; None means all that are
            not masked.

    Reference:
        Gortler et al., "The Lumigraph", SIGGRAPH 1996, doi:10.1145/237170.237200, Sec. 3.4.
    """
    known = ~mask if usable is None else usable & ~mask
    if not mask.any() or not known.any():
        return img
    known = known.to(img.dtype)
    coarse = _filled(*_pulled(img[None] * known, known[None, None]))[0]
    rows, columns = mask.nonzero(as_tuple=True)
    filled = img.clone()
    filled[:, rows, columns] = _sampled(coarse, rows, columns)
    return filled


def _pulled(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return values multiplied by their weights, and weights in 0..1, at half the size."""
    values, weight = (
        4.0 * F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False)
        for part in (values, weight)
    )
    kept = weight.clamp(max=1.0)
    return values * (kept / weight.clamp(min=1e-6)), kept


def _filled(values: Tensor, weight: Tensor) -> Tensor:
    """Return the values of all pixels, ``(1, C, rows, columns)``."""
    if max(values.shape[-2:]) == 1 or bool((weight >= 1.0).all()):
        return values / weight.clamp(min=1e-6)
    coarse = _filled(*_pulled(values, weight))
    size = (int(values.shape[-2]), int(values.shape[-1]))
    pushed = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return values + (1.0 - weight) * pushed


def _sampled(coarse: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``(C, N)``, the values of pixels on a grid twice as fine, bilinearly."""
    (top, bottom, down), (left, right, along) = (
        _neighbors(places, int(side))
        for places, side in zip((rows, columns), coarse.shape[-2:], strict=True)
    )
    flat, width = coarse.flatten(1), int(coarse.shape[-1])
    upper, lower = (
        torch.lerp(
            flat.index_select(1, row * width + left),
            flat.index_select(1, row * width + right),
            along,
        )
        for row in (top, bottom)
    )
    return torch.lerp(upper, lower, down)


def _neighbors(places: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two coarse neighbors of each fine position, and its distance from the first."""
    first = ((places - 1) // 2).clamp_(min=0)
    after = ((places.float() + 0.5) / 2.0 - 0.5 - first).clamp_(0.0, 1.0)
    return first, (first + 1).clamp_(max=side - 1), after


def dilated(mask: Tensor, radius: int) -> Tensor:
    """Widen ``(rows, columns)`` bool by a square of ``2 * radius + 1`` pixels."""
    grown = mask
    for axis in (0, 1):
        reached, wide = 0, grown
        while reached < radius:
            # Steps double: what is already wide is shifted by its whole width at once.
            step = min(reached + 1, radius - reached)
            wide = wide | _shifted(wide, step, axis) | _shifted(wide, -step, axis)
            reached += step
        grown = wide
    return grown


def _shifted(mask: Tensor, step: int, axis: int) -> Tensor:
    """Shift a mask along an axis; nothing enters from beyond the edge."""
    shifted = torch.zeros_like(mask)
    length = mask.shape[axis] - abs(step)
    if length > 0:
        source = mask.narrow(axis, max(0, -step), length)
        shifted.narrow(axis, max(0, step), length).copy_(source)
    return shifted
