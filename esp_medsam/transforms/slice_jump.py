"""Measure how much a mask jumps from slice to slice and back.

A mask that grows, shrinks or branches from slice to slice does not jump, however thick the slices
are. What jumps is a slice, or a pair of slices, that lacks what the slices on both sides of it
have, or has what both lack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from esp_medsam.image import SliceJump
from esp_medsam.transforms.label_boxes import label_boxes


LENGTHS = (1, 2)
"""Numbers of consecutive slices that are compared with the slices on both sides of them."""


def slice_jumps(
    labelmap: npt.NDArray[np.uint8], labels: Sequence[int], axis: int
) -> list[SliceJump | None]:
    """Return the largest jump of each label's mask along an axis.

    For one or two consecutive slices B, between the slices A and C, the jump is

        pixels where A and C agree and B is different / pixels of A, B or C

    It is 0 for a mask that only grows, only shrinks or stays, and 1 for a slice without a mask
    between two equal ones. A and C run from the first slice of the mask to the last, so neither
    the ends of a mask nor empty slices around it count. A loss or a gain that lasts for more
    slices than two is not found; a structure that moves on by more than a third of its width from
    slice to slice, such as a slanted vessel in thick slices, jumps although nothing is wrong.

    Args:
        labelmap: ``(*spatial)`` with three axes; its slices are compared one by one.
        labels: Values of the masks.
        axis: Axis along which the slices are taken.

    Returns:
        The largest jump and its first slice, the first of equal ones; None for a mask in fewer
        than three slices.
    """
    boxes = label_boxes(labelmap, max(labels, default=0))
    return [_largest(labelmap, label, boxes[label - 1], axis) for label in labels]


def _largest(
    labelmap: npt.NDArray[np.uint8], label: int, box: tuple[slice, ...] | None, axis: int
) -> SliceJump | None:
    """Return the largest jump of the mask in its smallest box; None without three slices."""
    if box is None or box[axis].stop - box[axis].start < 3:
        return None
    slices = np.moveaxis(labelmap[box], axis, 0)
    window: list[npt.NDArray[np.bool_]] = []
    best = SliceJump(share=0.0, index=box[axis].start + 1)
    for last, values in enumerate(slices):
        window = [*window[-max(LENGTHS) - 1 :], values == label]
        for length in LENGTHS:
            if len(window) < length + 2:
                continue
            share = _jump(*window[-length - 2 :])
            if share > best.share:
                best = SliceJump(share=share, index=box[axis].start + last - length)
    return best


def _jump(before: npt.NDArray[np.bool_], *inner_and_after: npt.NDArray[np.bool_]) -> float:
    """Return which share of the pixels of all masks the inner ones lack, or have alone."""
    *inner, after = inner_and_after
    either, both = before | after, before & after
    any_inner, all_inner = np.any(inner, axis=0), np.all(inner, axis=0)
    lacked = np.count_nonzero(both & ~any_inner)
    alone = np.count_nonzero(all_inner & ~either)
    return float(lacked + alone) / max(1, int(np.count_nonzero(either | any_inner)))
