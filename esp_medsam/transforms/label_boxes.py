"""Smallest boxes of labels, found in the order in which an array lies in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects  # type: ignore[import-untyped]  # ships no types


Box = tuple[slice, ...]


def label_boxes(labelmap: npt.NDArray[Any], most: int = 0) -> list[Box | None]:
    """Return the smallest box of each label from 1 on; None for a label that does not occur.

    Args:
        labelmap: Labels, of any shape and order in memory.
        most: Highest label to return a box for; 0 means the highest that occurs.
    """
    order = np.argsort([-stride for stride in labelmap.strides], kind="stable")
    boxes = find_objects(labelmap.transpose(order), max_label=most)
    places = np.argsort(order)
    return [None if box is None else tuple(box[place] for place in places) for box in boxes]
