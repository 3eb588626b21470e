"""Cut squares without a target out of images that all show it.

Some sets have no image without their target, so nothing tells whether it is left out where it is
not; squares beside it do. So that no square is known by being one, training images give a second
of the same size, around the target.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import distance_transform_cdt


LEAST_SHARE = 0.3
"""Of the shorter side of its image that a square must have."""

MARGIN = 0.03
"""Of the shorter side, between a square and the target, whose edge is not sharp."""


class Square(NamedTuple):
    """A square of an image, in pixels.

    Attributes:
        top: First row.
        left: First column.
        side: Rows and columns.
    """

    top: int
    left: int
    side: int

    def of(self, array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return this part of an array whose first axes are rows and columns."""
        return array[self.top : self.top + self.side, self.left : self.left + self.side]


def empty_square(mask: npt.NDArray[np.bool_]) -> Square | None:
    """Return the largest square apart from a mask, ``(H, W)``, or None if all are small."""
    margin = round(MARGIN * min(mask.shape))
    free = np.pad(~mask, 1)
    depth = distance_transform_cdt(free, metric="chessboard")[1:-1, 1:-1]
    to_mask = distance_transform_cdt(~mask, metric="chessboard") - margin
    depth = np.minimum(depth, to_mask) if mask.any() else depth
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    reach = int(depth[row, column]) - 1
    side = 2 * reach + 1
    if side < LEAST_SHARE * min(mask.shape):
        return None
    return Square(int(row) - reach, int(column) - reach, side)


def square_around(mask: npt.NDArray[np.bool_], side: int) -> Square:
    """Return the square of a size around the pixel of a mask, ``(H, W)``, nearest to its middle."""
    pixels = np.argwhere(mask)
    distances = np.linalg.norm(pixels - pixels.mean(axis=0), axis=1)
    starts = [
        min(max(int(middle) - side // 2, 0), length - side)
        for middle, length in zip(pixels[distances.argmin()], mask.shape, strict=True)
    ]
    return Square(starts[0], starts[1], side)


def write_square(path: Path, square: Square, out: Path) -> Path:
    """Write a square of an image or mask as PNG, and return its path."""
    with Image.open(path) as image:
        Image.fromarray(square.of(np.asarray(image))).save(out)
    return out
